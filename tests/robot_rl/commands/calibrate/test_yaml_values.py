"""One number in a yaml file changes, and not a byte besides."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.commands.calibrate.yaml_values import YamlValueError, with_value

CONFIGS = Path(__file__).resolve().parents[4] / "configs" / "robot"
FILES = sorted(CONFIGS.rglob("*.yaml"))
TEXT = """\
# @package _global_
# A robot.
robot:
  name:   arm     # called so
  streams:
    camera: {kind: image, size: [240, 320],   latency_s: 0.03}  # a guess
    other:
      kind: image

      # the end of other
  hz: "20"

latency:
  command_s: 0.0          # seconds
  note: 'it''s so'
"""


def test_a_number_is_changed_where_it_stands():
    assert with_value(TEXT, ["latency", "command_s"], 0.0714) == TEXT.replace("command_s: 0.0 ", "command_s: 0.0714 ")
    assert with_value(TEXT, ["robot", "streams", "camera", "latency_s"], 0.05) == TEXT.replace("0.03}", "0.05}")


def test_a_number_that_is_not_there_is_added_to_its_section():
    changed = with_value(TEXT, ["robot", "streams", "other", "latency_s"], 0.05)
    assert changed == TEXT.replace("      kind: image\n\n", "      kind: image\n      latency_s: 0.05\n\n")
    flow = with_value(TEXT, ["robot", "streams", "camera", "age_s"], 1.0)
    assert flow == TEXT.replace("latency_s: 0.03}", "latency_s: 0.03, age_s: 1.0}")


def test_sections_that_are_not_there_are_added_as_well():
    changed = with_value("robot: {}\n", ["robot", "streams", "camera", "latency_s"], 0.05)
    assert changed == "robot: {streams: {camera: {latency_s: 0.05}}}\n"
    assert with_value("a: 1", ["latency", "command_s"], 0.25) == "a: 1\nlatency: {command_s: 0.25}\n"
    assert with_value("latency:\n  command_s:\nb: 2\n", ["latency", "command_s"], 0.25) == (
        "latency:\n  command_s: 0.25\nb: 2\n"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("keys", [("latency", "command_s"), ("robot", "streams", "joint_position", "latency_s")])
def test_every_robot_of_ours_takes_its_latency_and_keeps_every_line(file, keys):
    before = file.read_text()
    after = with_value(before, keys, 0.123)
    kept = iter(after.splitlines())
    lost = [line for line in before.splitlines() if line not in kept]
    assert len(lost) <= 1
    assert with_value(after, keys, 0.456).replace("0.456", "0.123") == after


@given(value=st.floats(0.0, 10.0), comment=st.text(st.characters(codec="ascii", exclude_characters="\n\r\x0b\x0c")))
def test_any_number_is_read_back_whatever_the_comments_say(value, comment):
    printable = "".join(each for each in comment if each.isprintable())
    text = f"latency:  # {printable}\n  command_s: 1e-3 # {printable}\n"
    changed = with_value(text, ["latency", "command_s"], value)
    assert yaml.safe_load(changed)["latency"]["command_s"] == round(value, 4)
    assert changed.count(printable) >= 2 or not printable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency: ${other.latency}\n", "is no section"),
        ("latency: {command_s: '${other.command_s}'}\n", "no number of its own; write 0.1 by hand"),
        ("latency: {command_s: [1, 2]}\n", "no number of its own"),
        ("latency: &a {command_s: 1}\nother: *a\n", "cannot be changed without changing more"),
        ("- 1\n", "root is no mapping"),
        ("a: [\n", "no valid yaml"),
        ("", "root is no mapping"),
    ],
)
def test_a_value_that_is_not_a_number_of_its_own_is_left_alone(text, message):
    with pytest.raises(YamlValueError, match=message):
        with_value(text, ["latency", "command_s"], 0.1)
