import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.drive import Drive
from hardware.operators.layout import Layout
from robot_rl.core.episode import Observation
from tests.hardware.operators.devices.device_fakes import ARM, METAWORLD

MOVING = [
    {"dimension": "hip", "axis": "stick", "speed": 1.0, "stream": "joint_position", "leash": 0.3},
    {"dimension": "knee", "minus": "down", "plus": "up", "speed": 0.5, "stream": "joint_position", "index": 1},
]
BLIND_GRIPPER = {"dimension": "gripper", "key": "a", "first": 0.0, "second": 1.0}


def arm_drive(gripper=BLIND_GRIPPER):
    return Drive(ARM, Layout.for_spec(ARM, {"arm": {"moving": MOVING, "switching": [gripper]}}))


def seen(*place):
    return Observation(0, {"joint_position": np.array(place, dtype=np.float32)}, {"joint_position": 0})


def still(control):
    return 0.0


def test_a_takeover_starts_from_what_the_robot_was_told_rather_than_from_where_it_is_seen():
    drive = arm_drive()
    drive.anchor(seen(0.5, 0.5, 0.0), applied=np.array([0.6, 0.7, 1.0]))
    assert drive.action(seen(0.5, 0.5, 0.0), still) == pytest.approx([0.6, 0.7, 1.0])


def test_a_takeover_before_anything_was_told_starts_from_where_the_robot_is_seen():
    drive = arm_drive()
    drive.anchor(seen(0.5, 0.25, 0.0))
    assert drive.action(seen(0.5, 0.25, 0.0), still).tolist() == [0.5, 0.25, 0.0]


def test_a_gripper_that_nobody_sees_stays_as_it_was_left_through_a_pause_and_opens_for_a_new_episode():
    drive = arm_drive()
    drive.anchor(seen(0, 0, 0))
    drive.press("a")
    drive.anchor(seen(0, 0, 0))
    assert drive.action(seen(0, 0, 0), still)[2] == 1.0
    drive.forget()
    drive.anchor(seen(0, 0, 0))
    assert drive.action(seen(0, 0, 0), still)[2] == 0.0


@given(
    applied=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.sampled_from([0.0, 1.0])),
    deflection=st.floats(-1, 1),
)
def test_the_first_action_after_a_takeover_is_one_ticks_motion_from_the_last_command(applied, deflection):
    drive = arm_drive({**BLIND_GRIPPER})
    here = seen(*applied)
    drive.anchor(here, applied=np.array(applied))
    action = drive.action(here, lambda control: deflection)
    assert np.abs(action - applied).max() <= 1.0 / ARM.control_hz + 1e-6


@given(st.lists(st.floats(-1, 1), max_size=200), st.floats(-2, 2))
def test_a_target_stays_on_its_leash_and_in_its_range_whatever_the_stick_does(deflections, place):
    drive = arm_drive()
    here = seen(place, 0, 0)
    drive.anchor(here)
    for deflection in deflections:
        hip = drive.action(here, lambda control, now=deflection: now)[0]
        assert abs(hip - place) <= 0.3 + 1e-6
        assert -2.0 <= hip <= 2.0


FALSE_PLACES = [0.0, -1.5, 5.0, 4095.0, 2 * np.pi + 1.5, np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("false", FALSE_PLACES)
@pytest.mark.parametrize("stick", [0.0, 1.0, -1.0])
def test_one_false_measurement_moves_no_target_by_more_than_the_stick_asks_for(false, stick):
    drive = arm_drive()
    drive.anchor(seen(1.5, 0, 0))
    before = drive.action(seen(1.5, 0, 0), still)[0]
    during = drive.action(seen(false, 0, 0), lambda control: stick)[0]
    after = drive.action(seen(1.5, 0, 0), still)[0]
    assert abs(during - before) <= abs(stick) / ARM.control_hz + 1e-6
    assert (during - before) * stick >= 0.0
    assert after == during


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(allow_nan=True, width=32)), max_size=100))
def test_a_target_moves_only_as_far_and_in_the_direction_that_the_stick_says_whatever_is_measured(ticks):
    drive = arm_drive()
    drive.anchor(seen(0.5, 0, 0))
    last = 0.5
    for stick, place in ticks:
        hip = drive.action(seen(place, 0, 0), lambda control, now=stick: now)[0]
        assert min(0.0, stick) / ARM.control_hz - 1e-6 <= hip - last <= max(0.0, stick) / ARM.control_hz + 1e-6
        last = hip


def test_a_target_beyond_its_leash_stays_until_it_is_moved_back():
    drive = arm_drive()
    drive.anchor(seen(1.5, 0, 0))
    blocked_arm = seen(0.0, 0, 0)
    assert drive.action(blocked_arm, lambda control: 1.0)[0] == 1.5
    assert drive.action(blocked_arm, still)[0] == 1.5
    assert drive.action(blocked_arm, lambda control: -1.0)[0] == pytest.approx(1.45)


@given(st.floats(-5, 5), st.floats(0, 4))
def test_a_displacement_is_never_larger_than_the_action_allows(deflection, scale):
    layout = {
        "metaworld": {
            "moving": [{"dimension": "x", "axis": "stick", "speed": 10.0}],
            "switching": [{"dimension": "gripper", "key": "a", "first": -1.0, "second": 1.0}],
        }
    }
    drive = Drive(METAWORLD, Layout.for_spec(METAWORLD, layout))
    state = Observation(0, {"state": np.zeros(4, dtype=np.float32)}, {"state": 0})
    drive.anchor(state)
    assert abs(drive.action(state, lambda control: deflection, scale)[0]) <= 1.0
