"""A section becomes what its dataclass says, or an error that names key, value and what was wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from robot_rl.core import section
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import Count, Seconds, one_of


class Refused(RobotRLError):
    """Of this test."""


@dataclass(frozen=True)
class Arm:
    name: str
    after_s: Seconds
    names: tuple[str, ...] = ()
    side: Annotated[str, one_of(("left", "right"))] = "left"
    count: Count = 1
    limit: float | tuple[float, ...] | None = None
    also: Mapping[str, int] = field(default_factory=dict)
    held: bool = False


def arm(**changes):
    written = {"name": "a", "after_s": 1, **changes}
    return section.read(Arm, {key: value for key, value in written.items() if value != "gone"}, "arm", Refused)


def test_what_the_dataclass_says_is_what_there_is():
    made = arm(names=["b", "c"], side="right", limit=[1, 2.5], also={"d": 4}, held=True, count=2)
    assert made == Arm("a", 1.0, ("b", "c"), "right", 2, (1.0, 2.5), {"d": 4}, True)
    assert isinstance(made.after_s, float)
    assert arm(limit=None).limit is None
    assert arm(limit=3).limit == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "gone"}, "arm.name is missing"),
        ({"name": None}, "arm.name is missing"),
        ({"name": 1}, "arm.name is 1, wanted a name: put it in quotes"),
        ({"after_s": 0}, "arm.after_s is 0, wanted seconds above 0"),
        ({"after_s": float("nan")}, "arm.after_s is nan, wanted seconds above 0"),
        ({"after_s": True}, "arm.after_s is True, wanted seconds above 0"),
        ({"names": "b"}, "arm.names is 'b', wanted a list of names"),
        ({"names": ["b", 2]}, "an entry of arm.names is 2, wanted a name"),
        ({"side": "up"}, "arm.side is 'up', wanted left, right"),
        ({"side": {}}, "arm.side is {}, wanted left, right"),
        ({"count": 1.0}, "arm.count is 1.0, wanted a whole number of at least 1"),
        ({"count": True}, "arm.count is True, wanted a whole number of at least 1"),
        ({"count": None}, "arm.count is None, wanted a whole number of at least 1"),
        ({"limit": "high"}, "arm.limit is 'high', wanted a finite number or a list or null"),
        ({"limit": [1.0, "high"]}, "an entry of arm.limit is 'high', wanted a finite number"),
        ({"also": {"d": "e"}}, "arm.also.d is 'e', wanted a whole number"),
        ({"also": 3}, "arm.also is 3, wanted a mapping"),
        ({"held": "yes"}, "arm.held is 'yes', wanted true or false"),
        ({"nmes": ["b"]}, r"arm has no key 'nmes': did you mean 'names'\? It takes name, after_s"),
        ({"colour": 3}, "arm has no key 'colour': it takes name, after_s"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(Refused, match=message):
        arm(**changes)


def test_only_the_keys_that_a_kind_takes_are_taken():
    written = {"name": "a", "after_s": 1, "count": 2}
    with pytest.raises(Refused, match="arm of kind 'b' has no key 'count': it takes name, after_s"):
        section.read(Arm, written, "arm", Refused, keys=("name", "after_s"), of=" of kind 'b'")


def test_what_is_no_mapping_is_refused():
    with pytest.raises(Refused, match=r"arm is \[\], wanted a mapping"):
        section.read(Arm, [], "arm", Refused)


def test_what_is_given_is_no_key():
    assert section.read(Arm, {"after_s": 2}, "arm", Refused, name="given").name == "given"
    with pytest.raises(Refused, match="arm has no key 'name'"):
        section.read(Arm, {"name": "a", "after_s": 2}, "arm", Refused, name="given")
