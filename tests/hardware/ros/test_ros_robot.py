"""`RosRobot` straight on vendors' topics: each yaml's driver side against a fake of that vendor, with behaviour."""

import copy
import functools
import threading
import time

import numpy as np
import pytest

pytest.importorskip("hardware.ros.client")

from hardware.contract import check_robot
from hardware.node_config import build
from hardware.ros.client import BACKEND, message
from hardware.ros.status import MotionRefused, status_message
from hardware.ros.status_condition import StatusCondition
from hardware.ros.tick_clock import NotRealTime
from robot_rl.commands.collect import CollectSettings
from robot_rl.config.settings import compose, to_dataclass
from robot_rl.core.clock import HostClock
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import stands_still
from robot_rl.core.specs import ActionKind
from tests.hardware.ros.arms_on_topics import (
    FLOATS,
    ArmNodeOnTopics,
    FakeArm,
    FakeTool,
    statuses_of,
    until_allowed,
    until_refused,
)

PATIENCE_S = 0.4
STATUS_S = 2.0
pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]


@functools.cache
def _driver(name):
    settings = to_dataclass(compose("collect", [f"robot=ros/{name}", "dataset=unused"]), CollectSettings)
    return settings.arm["driver"]


def at_once(stream):
    """The bound of a body that is where it is told to be at once, as the fake arms are."""
    speed = [1000.0, 1000.0] if stream["kind"] == "pose" else 1000.0
    return {} if stream["kind"] == "image" else {"max_speed": speed}


def driver_of(name, **changes):
    """Settings of a yaml's driver, ours to change; patient, because a test machine is no robot's computer."""
    settings = copy.deepcopy(_driver(name))
    for stream in settings["streams"].values():
        stream |= {"max_age_s": PATIENCE_S, **at_once(stream)}
    for status in settings.get("status", {}).values():
        status |= {} if status.get("latched", True) else {"max_age_s": STATUS_S}
    for path, value in changes.items():
        *way, last = path.split("__")
        section = settings
        for key in way:
            section = section[key]
        section[last] = value
    return settings


def joints_of(settings):
    return list(settings["streams"]["joint_position"]["joints"])


def says_that_all_is_well(arm, settings):
    """The statuses of a vendor's yaml on their topics, each with a value that allows motion.

    Real rclpy has a vendor's messages from the vendor's package; what is not installed there is left out.
    """
    conditions = []
    for name, document in [*settings.get("status", {}).items()]:
        condition = StatusCondition.parse(name, document)
        try:
            status_message(condition)
        except (RobotRLError, ImportError):
            assert BACKEND == "rclpy", f"{name} of {settings['name']}"
            del settings["status"][name]
        else:
            conditions.append(condition)
    arm.status = statuses_of(arm, conditions)


def ur5e():
    settings = driver_of("ur5e", control_hz=50.0)
    arm = FakeTool(
        dict.fromkeys(joints_of(settings), -0.5), "/tcp_pose_broadcaster/pose", extra={"gripper_finger": 0.1}
    )
    says_that_all_is_well(arm, settings)
    return arm.obeys_array("/forward_position_controller/commands", joints_of(settings)), settings


def fr3():
    # Franka's gripper is an action server; the fake has none, so the gripper is on a topic here.
    gripper = {"kind": "float64_array", "action": "gripper", "topic": "/gripper", "open": 0.04, "closed": 0.0}
    settings = driver_of("fr3", gripper=gripper)
    arm = FakeTool(
        dict.fromkeys(joints_of(settings), 0.3),
        "/franka_robot_state_broadcaster/current_pose",
        joint_states="/franka/joint_states",
    )
    says_that_all_is_well(arm, settings)
    arm.node.create_subscription(message(FLOATS), "/gripper", lambda heard: None, 1)
    return arm.obeys_pose("/target_pose", "base"), settings


def xarm7():
    gripper = {
        "kind": "joint_trajectory",
        "action": "gripper",
        "topic": "/xarm_gripper_traj_controller/joint_trajectory",
        "joint": "drive_joint",
        "horizon_s": 0.1,
        "open": 0.0,
        "closed": 0.85,
    }
    settings = driver_of("xarm7", control_hz=50.0, gripper=gripper)
    arm = FakeArm(dict.fromkeys(joints_of(settings), 0.2), "/xarm/joint_states", extra={"drive_joint": 0.4})
    says_that_all_is_well(arm, settings)
    arm.node.create_subscription(
        message("trajectory_msgs/msg/JointTrajectory"), gripper["topic"], lambda heard: None, 1
    )
    return arm.obeys_trajectory("/xarm7_traj_controller/joint_trajectory"), settings


def so101():
    settings = driver_of("so101", control_hz=50.0)
    arm = FakeArm(dict.fromkeys(joints_of(settings), 0.1), "/follower/joint_states")
    return arm.obeys_array("/follower/forward_controller/commands", joints_of(settings)), settings


def servo_arm():
    settings = driver_of("servo_arm")
    arm = FakeTool(dict.fromkeys(joints_of(settings), 0.3), "/pose_broadcaster/pose")
    says_that_all_is_well(arm, settings)
    arm.node.create_subscription(message(FLOATS), "/gripper_controller/commands", lambda heard: None, 1)
    return arm.obeys_twist("/servo_node/delta_twist_cmds", "panda_link0", settings["control_hz"]), settings


VENDORS = [ur5e, fr3, xarm7, so101, servo_arm]


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.__name__)
def test_a_vendors_arm_keeps_the_contract_and_understands_every_command(vendor):
    arm, settings = vendor()
    with arm:
        assert check_robot(lambda: build(settings), ticks=6, clock=HostClock(), repeatable=False) == []
        # Not all of them: of two commands at once a controller may see only the newer one.
        assert arm.wait_for(lambda: arm.commands > 0)
        assert arm.refused == []


@pytest.mark.parametrize("vendor", [ur5e, xarm7, so101], ids=lambda vendor: vendor.__name__)
def test_a_joint_goes_where_it_was_told_whatever_the_order_of_names(vendor):
    arm, settings = vendor()
    with arm, build(settings) as robot:
        robot.reset(0)
        names = robot.spec.action.names
        target = np.clip(0.1 * np.arange(1, len(names) + 1), *robot.spec.action.bounds()).astype(np.float32)
        applied = robot.apply(target)
        np.testing.assert_array_equal(applied, target)
        assert arm.wait_for(lambda: arm.commands == 1)
        for name, value in zip(names, target.tolist(), strict=True):
            if name in arm.position:
                assert arm.position[name] == value


@pytest.mark.parametrize("vendor", [fr3, servo_arm], ids=lambda vendor: vendor.__name__)
def test_a_tool_moves_by_what_it_was_told(vendor):
    arm, settings = vendor()
    with arm, build(settings) as robot:
        robot.reset(0)
        before = arm.pose.copy()
        row = np.array([0.002, -0.001, 0.0, 0.0, 0.0, 0.004, 0.0], dtype=np.float32)
        np.testing.assert_allclose(robot.apply(row), row)
        assert arm.wait_for(lambda: arm.commands == 1)
        np.testing.assert_allclose(arm.pose[:3] - before[:3], [0.002, -0.001, 0.0], atol=1e-6)


def test_stopping_sends_servo_a_twist_of_zero():
    arm, settings = servo_arm()
    with arm, build(settings) as robot:
        robot.reset(0)
        robot.apply(np.array([0.002, 0, 0, 0, 0, 0, 0], dtype=np.float32))
        assert arm.wait_for(lambda: arm.twist[0] > 0)
        robot.stop()
        assert arm.wait_for(lambda: not arm.twist.any())


def test_an_arm_whose_program_does_not_run_is_not_moved_and_the_reason_told():
    arm, settings = ur5e()
    with arm, build(settings) as robot:
        robot.reset(0)
        arm.status["program"].say(value=False)
        action = robot.observe(time.monotonic_ns()).values["joint_position"]
        with pytest.raises(MotionRefused, match=r"robot_program_running is False, wanted True; start the program with"):
            until_refused(lambda: robot.apply(action))
        with pytest.raises(MotionRefused):
            robot.reset(1)
        arm.status["program"].say(value=True)
        until_allowed(lambda: robot.reset(1))
        for name, value, words in (
            ("safety", 3, r"safety_mode is 3, wanted 1 or 2; look at the arm"),
            ("mode", 5, r"robot_mode is 5, wanted 7; switch the arm on"),
            ("speed", 0.0, r"speed_scaling is 0.0, wanted at least 5; raise the speed slider"),
        ):
            if name in arm.status:
                before = arm.status[name].value
                arm.status[name].say(value=value)
                with pytest.raises(MotionRefused, match=words):
                    until_refused(lambda: robot.apply(action))
                arm.status[name].say(value=before)
                until_allowed(lambda: robot.reset(1))


def test_a_driver_that_falls_silent_is_not_commanded():
    arm, settings = ur5e()
    with arm, build(settings) as robot:
        robot.reset(0)
        action = robot.observe(time.monotonic_ns()).values["joint_position"]
        arm.status["speed"].silent = True
        with pytest.raises(MotionRefused, match=r"speed_scaling is silent for .* s \(at most 2 s\)"):
            until_refused(lambda: robot.apply(action))


@pytest.mark.parametrize(
    ("vendor", "name", "value", "words"),
    [
        (fr3, "mode", 5, r"robot_state is 5, wanted 2; release the stop button"),
        (fr3, "mode", 3, r"robot_state is 3, wanted 2"),
        (xarm7, "state", 4, r"robot_states is 4, wanted at least 1 and at most 2; release the emergency stop"),
        (xarm7, "mode", 0, r"robot_states is 0, wanted 1; set the arm's mode to 1"),
        (xarm7, "error", 31, r"robot_states is 31, wanted 0; look up the error's number"),
        (servo_arm, "servo", 5, r"status is 5, wanted 0 or 1 or 3 or 4; unpause Servo"),
    ],
)
def test_a_vendors_driver_forbids_motion(vendor, name, value, words):
    arm, settings = vendor()
    if name not in arm.status:
        pytest.skip("real rclpy has a vendor's messages from the vendor's package, which is not installed here")
    with arm, build(settings) as robot:
        robot.reset(0)
        arm.status[name].say(value=value)
        with pytest.raises(MotionRefused, match=words):
            until_refused(lambda: robot.reset(1))


def test_a_frozen_arm_is_stale_and_not_shown_as_it_was():
    arm, settings = so101()
    with arm, build(settings) as robot:
        robot.reset(0)
        arm.frozen_stamp = arm.node.get_clock().now().to_msg()
        with pytest.raises(StaleSensor, match=r"joint_position is \d+ ms old, limit is 400 ms"):
            until_refused(lambda: robot.observe(time.monotonic_ns()))


def test_a_joint_that_disappears_from_the_messages_is_not_made_up():
    arm, settings = so101()
    with arm, build(settings) as robot:
        robot.reset(0)
        arm.hidden = {"gripper"}
        with pytest.raises(StaleSensor):
            until_refused(lambda: robot.observe(time.monotonic_ns()))
        assert robot.counters["joint_position_refused"] > 0


def test_a_robot_in_real_time_is_not_driven_in_simulated_time():
    arm, settings = so101()
    with arm, build(settings) as robot:
        assert not stands_still(robot)
        robot.reset(0)
        with pytest.raises(NotRealTime, match="lives in real time"):
            robot.observe(0)


def test_a_robot_that_was_left_has_no_thread_and_no_node_any_more():
    arm, settings = so101()
    with arm:
        before = threading.active_count()
        robot = build(settings)
        for _ in range(3):
            with robot:
                robot.reset(0)
        assert threading.active_count() == before
        with pytest.raises(RobotRLError, match="not connected: use it in a with statement"):
            robot.observe(0)
        assert [name for name in arm.node.get_node_names() if name.startswith("robot_rl_")] == []


def behind_an_arm_node(name, driver):
    """The whole way: robot, arm node, and the vendor's driver that it commands."""
    settings = to_dataclass(compose("collect", [f"robot=ros/{name}", "dataset=unused"]), CollectSettings)
    robot, arm = copy.deepcopy(settings.robot), copy.deepcopy(settings.arm)
    robot["streams"].pop("image_wrist", None)
    for stream in robot["streams"].values():
        stream |= {"max_age_s": PATIENCE_S, **at_once(stream)}
    robot |= {"connect_s": 10.0, "command": {"adapter": "arm_node", "ack_timeout_s": 2.0, "silent_s": 3.0}}
    arm |= {"driver": driver, "stream_hz": driver["control_hz"], "watchdog_s": 5.0, "deadman_timeout_s": 5.0}
    limits = settings.limits | {"max_age_s": dict.fromkeys(settings.limits["max_age_s"], PATIENCE_S)}
    return {"robot": robot, "arm": arm, "limits": limits}


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.__name__)
def test_a_vendors_arm_is_moved_through_an_arm_node(vendor):
    arm, driver = vendor()
    config = behind_an_arm_node(vendor.__name__, driver)
    with arm, ArmNodeOnTopics(config), build(config["robot"]) as robot:
        robot.reset(0)
        clock, spec, first = HostClock(), robot.spec, joints_of(driver)[0]
        by_place = spec.action_kinds[0] is ActionKind.POSITION
        goal = np.zeros(spec.action.shape, np.float32)
        if by_place:
            seen = robot.observe(clock.now_ns()).values["joint_position"]
            goal[: len(seen)] = seen
        goal[0] += 0.02 if by_place else 0.001

        def place():
            return arm.position[first] if by_place else arm.pose[0]

        start, until_s = place(), time.monotonic() + 10.0
        while abs(place() - start) < 0.019 and time.monotonic() < until_s:
            tick_ns = clock.now_ns() + spec.tick_ns
            clock.sleep_until_ns(tick_ns)
            robot.observe(tick_ns)
            robot.apply(goal)
        assert abs(place() - start) >= 0.019
        assert arm.refused == []
