"""A yaml is refused by its line before any library expands it."""

from __future__ import annotations

import pytest

from robot_rl.config.yaml_bounds import (
    MAX_BYTES,
    MAX_DEPTH,
    YamlRefused,
    require_bounded,
    require_readable,
    require_sound,
)
from tests.robot_rl.commands.up.yaml_mutants import ROBOTS, SHIPPED

BOMB = "b0: &b0 [1]\n" + "\n".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 30))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_robot_is_readable(name):
    require_readable(ROBOTS / f"{name}.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 5: over .* values, aliases written out"),
        ("a: &a {<<: *a}", r"line 1: \*a is within itself"),
        ("a: " + "[" * 100_000, f"nested more than {MAX_DEPTH} deep"),
        ("a: " + "{b: " * 100_000, f"nested more than {MAX_DEPTH} deep"),
        ("a:\n\tb: 1", "line 2: no valid yaml: a tab; yaml is indented with spaces"),
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' is there twice"),
        ("a: 1\n---\nb: 2", "line 2: a second document"),
        ("- a\n- b", "line 1: the file is a list"),
        ("just words", "line 1: the file is 'just words'"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: tag .*os.system; wanted plain values"),
        ("a: !!binary aGk=", "line 1: tag .*binary"),
        ("a: *nothing", r"line 1: there is no &nothing before \*nothing"),
        ("? [a]\n: 1", "line 1: a list or mapping is a key"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 digits"),
        ("a: [1, 2", "line 1: no valid yaml"),
        ("no: {kind: pose}", "line 1: key 'no' is read as true or false: put the name in quotes"),
        ("names: [yes, b]", "line 1: yes is read as true: write true, or a name in quotes: 'yes'"),
        ("names:\n- a\n- OFF", "line 3: OFF is read as false: write false"),
        ("1_0: 1", "line 1: key '1_0' is read as a number"),
        ("1e5: 1", "line 1: key '1e5' is read as a number"),
        ("~: 1", "line 1: key '~' is read as nothing"),
        ("name: 1_0", "line 1: '1_0' is read as another number"),
        ("name: 12:30", "line 1: '12:30' is read as another number"),
        ("name: 010", "line 1: '010' is read as another number"),
        ("name: 0x1F", "line 1: '0x1F' is read as another number"),
        ("name: 1:30.5", "line 1: '1:30.5' is read as another number"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_no_library_should_be_given_is_named_by_its_line(text, message):
    with pytest.raises(YamlRefused, match=message):
        require_sound(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only words",
        "'no': 1\nnames: ['yes', 'off', '1_0', '12:30']",
        "0: {stream: state}",
        "a: &a [1]\nb: *a",
        "a: true\nb: -1.5e3",
    ],
)
def test_what_says_what_it_seems_to_say_passes(text):
    require_sound(text)


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "arm.yaml"
    for data, message in (
        (b"\xff\xfea", "not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "over 128 KiB"),
        (b"a: \x00", "no valid yaml"),
    ):
        path.write_bytes(data)
        with pytest.raises(YamlRefused, match=rf"arm\.yaml.*{message}"):
            require_readable(path)
    with pytest.raises(YamlRefused, match="cannot be read"):
        require_readable(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": "${b}", "b": "${a}"}, "leads back to itself"),
        ({"a": {"b": "${a}"}}, "a leads back to itself"),
        ({"a": {"b": "${..a}"}}, "a leads back to itself"),
        ({"b0": "x", **{f"b{i}": f"${{b{i - 1}}}" * 9 for i in range(1, 30)}}, "make over"),
        ({"b0": [1], **{f"b{i}": [f"${{b{i - 1}}}"] * 9 for i in range(1, 30)}}, "make over"),
        (
            {"c0": {"a": [1]}}
            | {f"b{i}": f"${{c{i - 1}}}" for i in range(1, 30)}
            | {f"c{i}": {"a": [f"${{b{i}.a}}"] * 9} for i in range(1, 30)},
            "make over",
        ),
        ({"a": "${b.x}", "b": "${c}", "c": "${b}"}, "leads on from"),
        ({"a": "${oc.select:b,1}", "b": ["${a}"]}, "leads back to itself"),
        ({"a": "${x.${b}}", "b": "y"}, "wanted .* around a setting's name alone"),
        ({f"b{i}": f"${{b{i + 1}}}" for i in range(5000)}, "too deep"),
    ],
)  # fmt: skip
def test_references_that_make_much_of_little_are_refused(settings, message):
    with pytest.raises(YamlRefused, match=message):
        require_bounded(settings)
