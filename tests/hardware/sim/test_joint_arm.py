import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.contract import check_robot
from hardware.sim.joint_arm import HOME_RAD, JointArm, approached, tool_pose
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

MS = 1_000_000
angles = st.floats(-3.0, 3.0)


def test_it_keeps_the_robot_contract():
    clock = SimulatedClock()
    assert check_robot(lambda: JointArm(clock=clock), clock=clock) == []


def test_it_moves_on_while_nobody_calls():
    clock = SimulatedClock()
    arm = JointArm(clock=clock)
    arm.reset(1)
    arm.apply(np.array([0.5, *HOME_RAD[1:], 1.0], np.float32))
    places = []
    for tick in range(1, 6):
        clock.sleep_until_ns(tick * 100 * MS)
        places.append(arm.observe(clock.now_ns()).values["joint_position"][0])
    assert (np.diff(places) > 0).all()
    assert places[-1] == pytest.approx(0.5, abs=0.01)


def test_a_stop_leaves_it_where_it_is():
    clock = SimulatedClock()
    arm = JointArm(clock=clock)
    arm.reset(1)
    arm.apply(np.full(7, 1.0, np.float32))
    clock.sleep_until_ns(100 * MS)
    arm.stop()
    before = arm.position()
    clock.sleep_until_ns(NS_PER_S)
    assert np.array_equal(arm.position(), before)


def test_the_gripper_has_two_states():
    clock = SimulatedClock()
    arm = JointArm(clock=clock)
    arm.reset(1)
    assert arm.apply(np.array([*HOME_RAD, 0.3], np.float32))[-1] == 0.0
    clock.sleep_until_ns(NS_PER_S)
    assert arm.position()[-1] == pytest.approx(0.0, abs=1e-3)


@given(angles, angles, st.floats(0, 3), st.floats(0, 3))
def test_an_approach_in_two_parts_is_the_approach_in_one(start, target, one_s, other_s):
    begin, end, speed = np.array([start]), np.array([target]), np.array([2.0])
    halfway = approached(begin, end, one_s, 0.05, speed)
    assert approached(halfway, end, other_s, 0.05, speed) == pytest.approx(
        approached(begin, end, one_s + other_s, 0.05, speed), abs=1e-9
    )


@given(angles, angles, st.floats(0, 3), st.floats(1e-4, 0.1))
def test_no_joint_is_faster_than_its_limit_and_none_overshoots(start, target, elapsed_s, step_s):
    begin, end, speed = np.array([start]), np.array([target]), np.array([2.0])
    one, other = (approached(begin, end, t, 0.05, speed) for t in (elapsed_s, elapsed_s + step_s))
    assert abs(other - one)[0] <= 2.0 * step_s + 1e-9
    assert abs(end - other)[0] <= abs(end - one)[0] + 1e-12


@settings(max_examples=50)
@given(st.lists(angles, min_size=6, max_size=6))
def test_the_tool_pose_has_a_unit_quaternion_and_stays_in_reach(joints):
    pose = tool_pose(np.array(joints))
    assert np.linalg.norm(pose[3:]) == pytest.approx(1.0)
    assert pose[6] >= 0.0
    assert np.linalg.norm(pose[:3]) < 1.1


def test_the_stretched_arm_is_where_its_links_put_it():
    pose = tool_pose(np.zeros(6))
    assert pose[:3] == pytest.approx([-0.65, -0.19, 0.06], abs=1e-9)


def test_turning_the_first_joint_turns_the_tool_about_the_vertical():
    before, after = tool_pose(np.array(HOME_RAD)), tool_pose(np.array([math.pi / 2, *HOME_RAD[1:]]))
    assert after[:3] == pytest.approx([-before[1], before[0], before[2]])


def test_an_impossible_setting_is_refused():
    with pytest.raises(RobotRLError, match="lag_s is 0"):
        JointArm(lag_s=0)
