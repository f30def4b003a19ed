"""Specs: what they refuse, what they write and what decides whether two of them fit."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import POSE_UNIT, ActionKind, ArraySpec, RobotSpec

BOUNDED = ArraySpec((2,), "float32", "rad", names=("a", "b"), max_speed=(3.0, 1.0), margin=0.01)


def robot(state: ArraySpec) -> RobotSpec:
    return RobotSpec("arm", {"state": state}, ArraySpec((1,), "float32", "rad"), (ActionKind.POSITION,), 20.0)


def test_a_spec_with_a_bound_of_speed_is_read_back_as_it_was_written():
    document = json.loads(json.dumps(BOUNDED.to_json()))
    read = ArraySpec.from_json(document)
    assert (read.max_speed, read.margin) == ((3.0, 1.0), 0.01)
    assert read == BOUNDED


def test_a_spec_of_before_bounds_of_speed_is_readable_and_written_as_it_was():
    document = {"shape": [2], "dtype": "float32", "unit": "rad", "low": None, "high": None, "names": ["a", "b"]}
    read = ArraySpec.from_json(document)
    assert read.max_speed is None
    assert json.loads(json.dumps(read.to_json())) == document


def test_robots_that_differ_in_the_bound_of_speed_alone_are_the_same_robot():
    old, new = robot(BOUNDED.without_speed_bound()), robot(BOUNDED)
    assert old == new
    assert old.unmet_by(new) == new.unmet_by(old) == []
    assert new.without_speed_bounds().to_json() == old.to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"margin": None}, "wanted both or neither"),
        ({"max_speed": None}, "wanted both or neither"),
        ({"max_speed": 0.0}, "finite numbers above 0"),
        ({"max_speed": float("nan")}, "finite numbers above 0"),
        ({"max_speed": float("inf")}, "finite numbers above 0"),
        ({"max_speed": True}, "finite numbers above 0"),
        ({"max_speed": "3"}, "finite numbers above 0"),
        ({"margin": -0.1}, "finite numbers above 0"),
        ({"max_speed": (1.0, 2.0, 3.0)}, "has 3 numbers, wanted 2"),
        ({"max_speed": ()}, "has 0 numbers, wanted 2"),
    ],
)
def test_a_bound_of_speed_that_bounds_nothing_is_refused(change: dict[str, Any], words: str):
    with pytest.raises(SpecMismatch, match=words):
        dataclasses.replace(BOUNDED, **change)


@pytest.mark.parametrize(("bound", "words"), [(1.0, "two numbers for a pose"), ((1.0,) * 7, "has 7 numbers, wanted 2")])
def test_a_pose_wants_a_speed_of_its_place_and_one_of_its_rotation(bound: Any, words: str):
    with pytest.raises(SpecMismatch, match=words):
        ArraySpec((7,), "float32", POSE_UNIT, max_speed=bound, margin=bound)
