"""`--ros-args` beyond what the conformance suite shows: patterns, scopes and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rosbags")

from hardware.ros.pip_client.arguments import Arguments, fits, parse
from robot_rl.core.errors import RobotRLError


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("arm", "/arm", True),
        ("arm", "/ur5e/arm", False),
        ("ur5e/arm", "/ur5e/arm", True),
        ("/arm", "/ur5e/arm", False),
        ("/ur5e/arm", "/ur5e/arm", True),
        ("/**", "/ur5e/arm", True),
        ("/**", "/arm", True),
        ("/*", "/arm", True),
        ("/*", "/ur5e/arm", False),
        ("/ur5e/*", "/ur5e/arm", True),
        ("/**/arm", "/a/b/arm", True),
        ("/**/arm", "/a/b/leg", False),
        ("*", "/arm", True),
        ("*", "/ur5e/arm", False),
    ],
)
def test_node_patterns(pattern: str, name: str, wanted: bool):
    assert fits(pattern, name) is wanted


def test_only_what_stands_between_ros_args_and_two_dashes_counts():
    words = ["program", "-p", "a:=1", "--ros-args", "-p", "b:=2", "--", "-p", "c:=3", "--ros-args", "-p", "d:=4"]
    assert parse(words).overrides("/n") == {"b": 2, "d": 4}


def test_a_command_line_without_ros_args_says_nothing():
    assert parse(["program", "--verbose"]) == Arguments()


def test_the_last_value_wins():
    assert parse(["--ros-args", "-p", "a:=1", "-p", "a:=2"]).overrides("/n") == {"a": 2}


def test_log_levels():
    assert parse(["--ros-args", "--log-level", "debug", "--log-level", "arm:=warn"]).log_levels == {
        "": "debug",
        "arm": "warn",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-r"], "-r needs a value"),
        (["-r", "a=b"], "wanted from:=to"),
        (["-p", "a=b"], "wanted name:=value"),
        (["-p", "/ur5e/arm:a:=1"], "wanted name:=value or node:name:=value"),
        (["-r", "/ur5e/arm:a:=b"], "wanted from:=to or node:from:=to"),
        (["--params", "x"], "unknown flag --params"),
        (["--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str):
    with pytest.raises(RobotRLError, match=message):
        parse(["--ros-args", *words])


def test_a_params_file_that_is_no_mapping_is_named(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(RobotRLError, match="not a mapping of node names"):
        parse(["--ros-args", "--params-file", str(path)])


def test_a_part_of_a_node_name_is_no_pattern(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("/ur5e/a*:\n  ros__parameters: {a: 1}\n")
    with pytest.raises(RobotRLError, match=r"wildcards are \* and \*\*"):
        parse(["--ros-args", "--params-file", str(path)])


@pytest.mark.parametrize(("rule", "node", "wanted"), [("a:__node:=b", "a", "b"), ("__name:=b", "a", "b")])
def test_a_node_is_renamed_by_either_word(rule: str, node: str, wanted: str):
    assert parse(["--ros-args", "-r", rule]).own_name("__node", node) == wanted


def test_a_rule_for_topics_can_mean_one_node_too():
    (rule,) = parse(["--ros-args", "-r", "arm:rostopic://flag:=there"]).remaps
    assert (rule.node, rule.source, rule.target) == ("arm", "flag", "there")
