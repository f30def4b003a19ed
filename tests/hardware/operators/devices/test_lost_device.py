"""A device that is lost: no action, one pause, and on again only when told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings
from hardware.operators.layout import Layout
from hardware.operators.terminal.key_events import KeyEvents
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.devices.device_fakes import ARM, METAWORLD, Holder
from tests.hardware.operators.devices.pad_holder import LAYOUTS, Typed, holder

NONE, PAUSE = OperatorEvent.NONE, OperatorEvent.PAUSE


def test_an_unplugged_device_gives_no_action_pauses_once_and_says_so():
    person = holder()
    person.poll(lb=1.0)
    person.poll(left_x=1.0)
    person.device.unplug()
    commands = [person.poll_as_it_is() for _ in range(20)]
    assert all(command.action is None for command in commands)
    assert [command.event for command in commands] == [PAUSE] + [NONE] * 19
    assert person.told == ["pad: Fake pad is gone (No such device): plug it in again"]


def test_a_device_lost_before_anything_moved_pauses_nothing():
    person = holder()
    person.device.unplug()
    assert person.poll_as_it_is().event is NONE


def test_a_device_lost_while_the_policy_drives_pauses_the_policy():
    person = holder(correcting=True)
    person.poll()
    person.device.unplug()
    assert [person.poll_as_it_is().event for _ in range(3)] == [PAUSE, NONE, NONE]


def test_a_device_that_is_still_lost_pauses_the_next_episode_too():
    person = holder(correcting=True)
    person.device.unplug()
    person.poll_as_it_is()
    person.operator.reset(1)
    assert person.poll_as_it_is().event is PAUSE


def test_nobody_can_go_on_while_the_device_is_lost():
    def make(spec, device, say):
        written = DeviceSettings("pad", ButtonWishes(), correcting=True)
        typed = KeyEvents(Typed(b"", b"", b" ", b"", b" "))
        return DeviceOperator(spec, Layout.for_spec(spec, LAYOUTS), device, written, typed, say)

    person = Holder(METAWORLD, make, (0, 0, 0, 1))
    person.device.unplug()
    assert [person.poll_as_it_is().event for _ in range(3)] == [PAUSE, NONE, NONE]
    person.device.replug()
    assert [person.poll_as_it_is().event for _ in range(2)] == [PAUSE, NONE]


def test_a_device_lost_in_a_pause_does_not_end_the_pause():
    person = holder()
    person.poll(lb=1.0)
    person.poll(left_x=1.0)
    assert person.poll("start").event is PAUSE
    person.device.unplug()
    assert [person.poll_as_it_is().event for _ in range(3)] == [NONE] * 3


def test_plugged_in_again_it_goes_on_when_told_and_from_where_the_arm_is():
    person = holder(ARM, (0.5, 0, 0))
    person.poll(lb=1.0)
    person.poll(left_x=1.0)
    person.device.unplug()
    person.poll_as_it_is()
    person.place[0] = -1.0
    person.device.replug()
    assert person.told[-1] != "pad: Fake pad is back; start goes on"
    held = [person.poll(lb=1.0, left_x=1.0) for _ in range(5)]
    assert person.told[-1] == "pad: Fake pad is back; start goes on"
    assert all(command.event is NONE for command in held)
    assert person.poll("start").event is PAUSE
    assert person.poll().action[0] == -1.0
    person.poll(left_x=0.0)
    assert person.poll(left_x=1.0).action[0] == pytest.approx(-0.95)


@given(
    script=st.lists(
        st.sampled_from(["hold", "release", "push", "centre", "unplug", "replug", "start", "b", "a", "reset"]),
        max_size=40,
    ),
    correcting=st.booleans(),
)
@settings(deadline=None)
def test_whatever_happens_a_lost_device_never_gives_an_action(script, correcting):
    person = holder(correcting=correcting)
    lost = paused = driven_while_lost = False
    for act in script:
        moves = {"hold": {"lb": 1.0}, "release": {"lb": 0.0}, "push": {"left_x": 1.0}, "centre": {"left_x": 0.0}}
        if act == "unplug" and not lost:
            person.device.unplug()
            lost = True
        elif act == "replug" and lost:
            person.device.replug()
            lost = False
        elif act == "reset":
            person.operator.reset(0)
            paused = False
        elif act in moves and not lost:
            person.device.values.update(moves[act])
        elif act in {"start", "b", "a"} and not lost:
            person.device.pressed.append(act)
        command = person.poll_as_it_is()
        paused ^= command.event is PAUSE
        driven_while_lost |= lost and command.action is not None
        assert not (lost and correcting and not paused), "the policy drives and nobody can stop it"
    assert not driven_while_lost
