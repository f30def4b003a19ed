"""A capability that was meant but misshapen is said before anybody relies on it."""

import pytest

from robot_rl.core.capabilities import misshapen, require_shape
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import (
    OPERATOR_CAPABILITIES,
    POLICY_CAPABILITIES,
    ROBOT_CAPABILITIES,
    DrivesAlways,
    Notable,
    SeesApplied,
    drives_always,
)


class Hand:
    in_person = drives_always = False

    def see_applied(self, applied):
        pass

    def note(self, message):
        pass


def test_what_is_well_made_or_not_offered_is_no_problem():
    assert misshapen(Hand(), OPERATOR_CAPABILITIES) == []
    assert all(isinstance(Hand(), each) for each in OPERATOR_CAPABILITIES)
    for capabilities in (ROBOT_CAPABILITIES, OPERATOR_CAPABILITIES, POLICY_CAPABILITIES):
        assert misshapen(object(), capabilities) == []


@pytest.mark.parametrize(
    ("name", "value", "capability", "words"),
    [
        ("see_applied", lambda: None, SeesApplied, r"see_applied of Hand cannot be called as see_applied\(applied\)"),
        ("note", "hello", Notable, r"note of Hand is 'hello', wanted a method note\(message\), which Notable in"),
        ("drives_always", "often", DrivesAlways, "drives_always of Hand is 'often', wanted True or False"),
    ],
)
def test_a_misshapen_capability_is_named_with_what_is_wanted(name, value, capability, words):
    hand = Hand()
    setattr(hand, name, value)
    with pytest.raises(RobotRLError, match=words):
        require_shape(hand, [capability])


def test_a_method_that_takes_more_than_it_must_is_well_made():
    hand = Hand()
    hand.note = lambda message, seconds=1.0, *more: None
    assert misshapen(hand, [Notable]) == []


def test_who_drives_always_says_so_in_so_many_words():
    hand = Hand()
    assert not drives_always(hand)
    assert not drives_always(object())
    hand.drives_always = "often"
    with pytest.raises(RobotRLError, match="wanted True or False"):
        drives_always(hand)
