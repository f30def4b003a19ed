import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.layout import LayoutError
from hardware.operators.leader.following import LeaderFollowing, LeaderLayout
from tests.hardware.operators.devices.device_fakes import ARM, METAWORLD

MS = 1_000_000
HIP = {"dimension": "hip", "joint": "l_hip", "stream": "joint_position", "index": 0}
KNEE = {"dimension": "knee", "joint": "l_knee", "scale": -0.5, "offset": 0.2, "stream": "joint_position", "index": 1}
GRIPPER = {"dimension": "gripper", "joint": "l_grip", "first": 0.0, "second": 1.0, "threshold": 0.5, "margin": 0.1}
LAYOUTS = {"arm": {"following": [HIP, KNEE], "switching": [GRIPPER]}}
angles = st.floats(-2, 2)


def following(align_within=0.1, ramp_s=0.4):
    return LeaderFollowing(ARM, LeaderLayout.for_spec(ARM, LAYOUTS), align_within, ramp_s)


def leader(hip, knee, grip=0.0):
    return {"l_hip": hip, "l_knee": knee, "l_grip": grip}


def test_targets_are_scaled_offset_and_kept_in_range():
    assert following().targets(leader(1.0, 1.0)) == pytest.approx([1.0, -0.3, 0.0])
    assert following().targets(leader(9.0, -9.0))[:2].tolist() == [2.0, 2.0]


def test_a_switch_does_not_flutter_around_its_threshold():
    arm = following()
    path = [0.45, 0.55, 0.59, 0.61, 0.55, 0.45, 0.41, 0.39]
    assert [arm.targets(leader(0, 0, grip))[2] for grip in path] == [0, 0, 0, 1, 1, 1, 1, 0]


def test_a_gap_says_how_far_the_leader_must_still_go():
    gaps = following().gaps(leader(0.3, 0.4, 0.2), np.array([0.5, 0.4, 1.0]))
    assert [(gap.name, gap.joint) for gap in gaps] == [("hip", "l_hip"), ("knee", "l_knee"), ("gripper", "l_grip")]
    assert [gap.move for gap in gaps] == pytest.approx([0.2, -0.8, 0.4])


@given(hip=angles, knee=angles, at=st.tuples(angles, angles))
def test_moving_the_leader_as_the_gaps_say_closes_them(hip, knee, at):
    arm, follower = following(), np.array([*at, 0.0])
    now = leader(hip, knee)
    for gap in arm.gaps(now, follower):
        now[gap.joint] += gap.move
    assert arm.gaps(now, follower) == []


def test_a_difference_that_is_no_number_is_a_gap():
    assert following().gaps(leader(0, 0.4), np.array([np.nan, 0.0, 0.0]))


@given(hip=angles, knee=st.floats(-3, 3), away=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)))
def test_a_takeover_starts_exactly_from_the_follower_and_ends_exactly_at_the_leader(hip, knee, away):
    arm, now = following(), leader(hip, knee)
    follower = np.clip(arm.targets(now) + np.array([*away, 0.0]), [-2, -2, 0], [2, 2, 1])
    arm.engage(now, follower, 1000 * MS)
    assert arm.action(now, 1000 * MS) == pytest.approx(follower, abs=1e-12)
    assert arm.action(now, 1400 * MS) == pytest.approx(arm.targets(now), abs=1e-12)


@given(away=st.floats(-0.1, 0.1), path=st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=40))
def test_a_takeover_is_continuous_however_the_leader_moves(away, path):
    arm, hip = following(), 0.0
    follower = np.array([away, 0.2, 0.0])
    arm.engage(leader(hip, 0.0), follower, 0)
    last = follower
    for tick, step in enumerate(path):
        hip += step
        action = arm.action(leader(hip, 0.0), tick * ARM.tick_ns)
        # 1.5 is the steepest slope of the ramp.
        assert abs(action[0] - last[0]) <= abs(step) + 1.5 * abs(away) * ARM.tick_ns / (400 * MS) + 1e-9
        last = action


@pytest.mark.parametrize(
    ("spec", "layouts", "message"),
    [
        (METAWORLD, LAYOUTS, "a leader arm gives positions, but 'x' of 'metaworld' is a displacement per tick"),
        (ARM, {}, "no layout for robot 'arm'"),
        (ARM, {"arm": {"following": [HIP, KNEE]}}, "nothing drives 'gripper' of 'arm'"),
        (ARM, {"arm": {"following": [HIP, HIP, KNEE], "switching": [GRIPPER]}}, "two entries drive 'hip'"),
        (ARM, {"arm": {"following": [{**HIP, "index": 9}, KNEE], "switching": [GRIPPER]}}, "has no element 9"),
        (ARM, {"arm": {"following": [{**HIP, "scale": 0.0}, KNEE], "switching": [GRIPPER]}}, "scale 0.0"),
        (ARM, {"arm": {"following": [{**HIP, "scale": "1:2"}, KNEE], "switching": [GRIPPER]}}, "scale 1:2"),
        (ARM, {"arm": {"following": [{**HIP, "within": np.inf}, KNEE], "switching": [GRIPPER]}}, "within is inf"),
        (ARM, {"arm": {"following": [{**HIP, "within": -0.1}, KNEE], "switching": [GRIPPER]}}, "within is -0.1"),
        (ARM, {"arm": {"following": [{**HIP, "index": 0.5}, KNEE], "switching": [GRIPPER]}}, "has no element 0.5"),
        (ARM, {"arm": {"following": [HIP, KNEE], "switching": [{**GRIPPER, "threshold": np.nan}]}}, "threshold is nan"),
        (ARM, {"arm": {"following": [HIP, KNEE], "switching": [{**GRIPPER, "first": "open"}]}}, "first is 'open'"),
        (ARM, {"arm": {"following": [{"dimension": "hip"}]}}, "does not fit; it takes dimension, joint, scale"),
    ],
)
def test_a_leader_that_does_not_fit_the_robot_is_refused_in_words(spec, layouts, message):
    with pytest.raises(LayoutError, match=message):
        LeaderLayout.for_spec(spec, layouts)


@pytest.mark.parametrize(
    "wrong", [{"align_within": 0.0}, {"ramp_s": -1.0}, {"align_within": np.inf}, {"ramp_s": "slow"}]
)
def test_settings_that_permit_a_jump_are_refused(wrong):
    with pytest.raises(LayoutError, match="wanted numbers above 0"):
        following(**wrong)
