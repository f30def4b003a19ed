"""From the command line to dataclasses: what exists is set, what does not is refused with its neighbours' names."""

from __future__ import annotations

import pytest

from robot_rl.commands.collect import CollectSettings
from robot_rl.commands.evaluate import EvalSettings
from robot_rl.commands.export import ExportSettings
from robot_rl.config.settings import ConfigError, build, load
from robot_rl.core.errors import HelpRequested, RobotRLError


def collect(*overrides: str) -> CollectSettings:
    return load(CollectSettings, "collect", ["dataset=x", *overrides])


def test_a_robot_brings_its_task_and_a_task_can_still_be_chosen():
    assert collect("robot=pusht").task.name == "pusht"
    assert collect().task.name == "peg-insert-side-v3"
    assert collect("task=hammer").task.name == "hammer-v3"
    assert collect("task.name=drawer-open-v3").robot["task"] == "drawer-open-v3"


def test_a_setting_that_only_the_dataclass_names_can_be_overridden():
    settings = collect("episodes=3", "rollout.max_ticks=7", "robot.cameras=[corner]", "seed=null")
    assert (settings.episodes, settings.rollout.max_ticks, settings.seed) == (3, 7, None)
    assert settings.robot["cameras"] == ["corner"]


def test_a_value_named_like_a_config_group_is_a_value_where_the_command_has_no_such_group():
    assert load(EvalSettings, "eval", ["policy=runs/peg/bundle"]).policy == "runs/peg/bundle"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epsiodes=3", "unknown setting 'epsiodes': did you mean episodes"),
        ("rollout.max_tics=3", "did you mean rollout.max_ticks"),
        ("episodes=many", "episodes: Value 'many'"),
        ("robot=pushtt", "Available options in 'robot': metaworld pusht"),
        ("dataset", "wanted name=value"),
        ("+episodes=3", "wanted name=value"),
        ("codecs=[a", "not valid yaml"),
    ],
)
def test_a_mistake_names_what_was_wanted(override, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[").replace("+", r"\+")):
        collect(override)


def test_a_required_setting_left_out_is_named():
    with pytest.raises(ConfigError, match="run is required: add run="):
        load(ExportSettings, "export", [])


def test_help_lists_groups_and_defaults():
    with pytest.raises(HelpRequested) as request:
        load(CollectSettings, "collect", ["--help"])
    assert "robot=metaworld|pusht" in str(request.value)
    assert "max_ticks" in str(request.value)


def test_building_refuses_an_argument_that_the_class_does_not_take():
    with pytest.raises(ConfigError, match="takes no 'camras': did you mean cameras"):
        build({"_target_": "hardware.sim.metaworld.MetaWorldRobot", "camras": []})


def test_building_passes_the_classes_own_clear_error_through():
    with pytest.raises(RobotRLError, match="did you mean peg-insert-side-v3"):
        build({"_target_": "hardware.sim.metaworld.MetaWorldRobot", "task": "peg-insert"})


def test_building_what_cannot_be_imported_says_so():
    with pytest.raises(ConfigError, match=r"hardware\.sim\.nothing\.Robot cannot be imported"):
        build({"_target_": "hardware.sim.nothing.Robot"})


def anything(port, **settings):
    """A driver that takes whatever its yaml says."""
    return port, settings


def test_a_class_that_takes_everything_is_given_everything():
    target = f"{anything.__module__}.{anything.__name__}"
    assert build({"_target_": target, "port": "/dev/arm", "control_hz": 20.0}) == ("/dev/arm", {"control_hz": 20.0})
