"""A `_target_` becomes an object by Hydra's rules, or an error that says what it takes."""

from __future__ import annotations

import functools

import pytest

from robot_rl.core import targets
from robot_rl.core.errors import RobotRLError
from robot_rl.core.targets import MOVED, build, current_name, find

HERE = __name__


class Refused(RobotRLError):
    """Of this test."""


class Holder:
    """Takes anything."""

    class Inner:
        """Named through its class."""

        def __init__(self, size: int = 1) -> None:
            self.size = size

    def __init__(self, *args, **settings) -> None:
        self.args, self.settings = args, settings


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "target_for_test", sys.modules[HERE])


HOLDER, INNER = "target_for_test.Holder", "target_for_test.Holder.Inner"


def test_targets_within_settings_are_built_unless_recursive_is_false():
    settings = {"_target_": HOLDER, "a": [{"_target_": INNER, "size": 3}], "b": {"c": (1, 2)}}
    made = build(settings, Refused).settings
    assert (made["a"][0].size, made["b"]) == (3, {"c": [1, 2]})
    kept = build({**settings, "_recursive_": False}, Refused).settings
    assert kept["a"] == [{"_target_": INNER, "size": 3}]


def test_a_partial_waits_for_the_rest():
    made = build({"_target_": HOLDER, "_partial_": True, "_convert_": "all", "a": 1}, Refused)
    assert isinstance(made, functools.partial)
    assert made(b=2).settings == {"a": 1, "b": 2}
    assert isinstance(build({"_target_": INNER, "_partial_": False}, Refused), Holder.Inner)


def test_args_are_positions():
    assert build({"_target_": HOLDER, "_args_": [1, {"_target_": INNER}]}, Refused).args[0] == 1


def test_an_argument_wins_over_a_setting_and_is_given_as_it_is():
    one = {"_target_": INNER}
    assert build({"_target_": HOLDER, "a": {"_target_": "nowhere.Nothing"}}, Refused, a=one).settings["a"] is one


def test_types_are_asked_for_only_where_that_is_wanted():
    assert build({"_target_": INNER, "size": "3"}, Refused).size == "3"
    with pytest.raises(Refused, match="Inner: size is '3', wanted a whole number"):
        build({"_target_": INNER, "size": "3"}, Refused, typed=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 1}, "no _target_ among size: name the class to build"),
        ({"_target_": 5}, "_target_ is 5, wanted the name of a class"),
        ({"_target_": INNER, "sise": 1}, r"Inner takes no 'sise': did you mean size\? It takes size"),
        ({"_target_": HOLDER, "a": {"_target_": INNER, "sise": 1}}, "takes no 'sise'"),
        ({"_target_": HOLDER, "a": {"_target_": None}}, "_target_ is None"),
        ({"_target_": "target_for_test.Nothing"}, "target_for_test.Nothing cannot be imported"),
        ({"_target_": "target_for_test.HERE"}, "cannot be built"),
        ({"_target_": "math.sqrt", "_args_": [-1.0]}, "cannot build math.sqrt: ValueError: math domain error"),
    ],
)
def test_what_cannot_be_built_is_named(settings, message):
    with pytest.raises(Refused, match=message):
        build(settings, Refused)


OLD = {
    "hardware.operators.keyboard.KeyboardOperator": "hardware.operators.terminal.keyboard.KeyboardOperator",
    "hardware.operators.gamepad.gamepad_operator": "hardware.operators.devices.gamepad.gamepad_operator",
    "hardware.operators.spacemouse.spacemouse_operator": "hardware.operators.devices.spacemouse.spacemouse_operator",
    "hardware.operators.leader_arm.LeaderArmOperator": "hardware.operators.leader.operator.LeaderArmOperator",
    "hardware.operators.scripted.scripted_operator": "hardware.operators.simulated.scripted.scripted_operator",
    "hardware.operators.corrector.corrector": "hardware.operators.simulated.corrector.corrector",
    "hardware.operators.replay.ReplayOperator": "hardware.operators.simulated.replay.ReplayOperator",
    "hardware.operators.absent.AbsentOperator": "hardware.operators.simulated.absent.AbsentOperator",
}


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_a_name_of_before_finds_the_class_and_says_where_it_is_now(old, new, capsys):
    targets._say_moved.cache_clear()
    assert find(old, Refused) is find(new, Refused)
    assert find(old, Refused) is find(new, Refused)
    assert capsys.readouterr().err == f"{old} is {new} now: write that into the yaml\n"


@pytest.mark.parametrize("new", MOVED.values())
def test_every_module_that_moved_is_where_the_table_says(new):
    assert targets._located(new).__name__ == new
    assert current_name(f"{new}.Anything") == f"{new}.Anything"
