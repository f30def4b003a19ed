"""A user's own yaml files are found beside ours, and nobody has to guess which file a name means."""

from __future__ import annotations

import os

import pytest

from robot_rl.commands.collect import CollectSettings
from robot_rl.config.search import ConfigError, find_option, options, user_directories
from robot_rl.config.settings import load

YAML = """# @package _global_
robot: {_target_: hardware.sim.pusht.PushTRobot}
limits: {low: [0.0, 0.0]}
arm: {stream_hz: 100.0}
cameras: {wrist: {namespace: /arm/wrist}}
latency: {command_s: 0.04}
task: {name: stack, max_ticks: 400}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A directory of the user's, in an awkward place, with one arm in a folder."""
    place = tmp_path / "o'neil's, [work] dir" / "configs"
    (place / "robot/ros").mkdir(parents=True)
    (place / "robot/ros/my_arm.yaml").write_text(YAML)
    monkeypatch.delenv("ROBOT_RL_CONFIGS", raising=False)
    monkeypatch.chdir(place.parent)
    return place


def collect(*overrides: str) -> CollectSettings:
    return load(CollectSettings, "collect", ["dataset=x", *overrides])


def test_an_arm_in_the_working_directory_composes_for_every_command_with_its_task_and_latency(mine):
    settings = collect("robot=ros/my_arm")
    assert (settings.task.name, settings.task.max_ticks) == ("stack", 400)
    assert settings.arm == {"stream_hz": 100.0}
    assert settings.cameras == {"wrist": {"namespace": "/arm/wrist"}}
    assert settings.rollout.action_latency_s == 0.04


def test_a_latency_given_for_the_rollout_wins_over_the_robots(mine):
    assert collect("robot=ros/my_arm", "rollout.action_latency_s=0.1").rollout.action_latency_s == 0.1
    assert collect("robot=ros/my_arm", "rollout.action_latency_s=0").rollout.action_latency_s == 0.0
    assert collect("robot=pusht").rollout.action_latency_s is None


def test_a_task_chosen_on_the_command_line_wins_over_the_robots(mine):
    assert collect("robot=ros/my_arm", "task=hammer").task.name == "hammer-v3"
    with pytest.raises(ConfigError, match="'task/hamer': did you mean hammer"):
        collect("robot=ros/my_arm", "task=hamer")


def test_a_robot_without_a_task_says_which_setting_is_missing(mine):
    bare = "\n".join(line for line in YAML.splitlines() if not line.startswith("task"))
    (mine / "robot/ros/bare.yaml").write_text(bare)
    with pytest.raises(ConfigError, match=r"task\.name is required"):
        collect("robot=ros/bare")


def test_the_variable_names_directories_instead_of_the_working_directory(mine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"'robot/ros/my_arm'.*Available options in 'robot'.*pusht"):
        collect("robot=ros/my_arm")
    monkeypatch.setenv("ROBOT_RL_CONFIGS", os.pathsep.join([str(tmp_path), str(mine)]))
    assert collect("robot=ros/my_arm").task.name == "stack"


def test_a_variable_that_names_no_directory_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="which is no directory"):
        user_directories({"ROBOT_RL_CONFIGS": str(tmp_path / "nowhere")})


def test_an_error_lists_the_users_own_options_too(mine):
    with pytest.raises(ConfigError, match=r"did you mean ros/my_arm\? Available options in 'robot': .*ros/my_arm"):
        collect("robot=ros/my_amr")


def test_two_different_files_of_one_name_are_refused_and_two_alike_are_not(mine):
    ours = mine.parent / "ours"
    (ours / "robot/ros").mkdir(parents=True)
    (ours / "robot/ros/my_arm.yaml").write_text(YAML)
    assert find_option("robot", "ros/my_arm", [ours, mine]).is_relative_to(ours)
    (mine / "robot/ros/my_arm.yaml").write_text(YAML + "\n# wider limits")
    with pytest.raises(ConfigError, match=r"two different files.*rename yours"):
        find_option("robot", "ros/my_arm", [ours, mine])


def test_options_in_folders_come_after_those_beside_them(mine):
    (mine / "robot/zebra.yaml").write_text("")
    assert options("robot", [mine]) == ["zebra", "ros/my_arm"]
