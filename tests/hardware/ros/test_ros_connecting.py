"""What is wrong on the network is told in one error, with names, before anything moves."""

import copy

import pytest

pytest.importorskip("hardware.ros.client")

from hardware.ros.client import Context, DurabilityPolicy, HistoryPolicy, QoSProfile, message, rclpy
from hardware.ros.robot import CannotConnect, RosRobot
from robot_rl.core.errors import StaleSensor
from tests.hardware.ros.arms_on_topics import FLOATS, SENSOR, FakeArm, Latched, until_refused

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]

JOINTS = ["pan", "lift"]
ARM = {
    "name": "arm",
    "namespace": "/arm",
    "control_hz": 20.0,
    "streams": {
        "joint_position": {
            "kind": "joints",
            "topic": "joint_states",
            "joints": JOINTS,
            "max_age_s": 0.4,
            "max_speed": 4.0,
            "margin": 0.05,
        }
    },
    "action": {"names": JOINTS, "unit": ["rad"] * 2, "kinds": ["position"] * 2, "low": -3.0, "high": 3.0},
    "command": {"adapter": "joint_forward", "topic": "commands"},
    "connect_s": 1.0,
}


def changed(**changes):
    settings = copy.deepcopy(ARM)
    for path, value in changes.items():
        *way, last = path.split("__")
        section = settings
        for key in way:
            section = section[key]
        section[last] = value
    return settings


def fake_arm(**arguments):
    arm = FakeArm(dict.fromkeys(JOINTS, 0.5), "/arm/joint_states", **arguments)
    return arm.obeys_array("/arm/commands", JOINTS)


def refusal(settings):
    """What connecting says."""
    with pytest.raises(CannotConnect) as caught, RosRobot(**settings):
        pass
    return str(caught.value)


def test_a_sound_arm_connects():
    with fake_arm(), RosRobot(**changed(connect_s=10.0)) as robot:
        robot.reset(0)


def test_a_topic_that_nobody_publishes_is_named_and_what_is_there_listed():
    with fake_arm() as arm:
        said = refusal(changed(streams__joint_position__topic="joint_state"))
        assert "robot.streams.joint_position: nobody publishes /arm/joint_state (sensor_msgs/msg/JointState)" in said
        assert "there is /arm/joint_states (sensor_msgs/msg/JointState)" in said
        assert arm.commands == 0


def test_commands_that_nobody_listens_to_are_named():
    with fake_arm():
        said = refusal(changed(command__topic="/other/commands"))
    assert "robot.command.topic: nobody listens to /other/commands (std_msgs/msg/Float64MultiArray)" in said


def test_without_any_driver_everything_that_is_missing_is_told_at_once():
    said = refusal(changed())
    assert "nobody publishes /arm/joint_states" in said
    assert "nobody listens to /arm/commands" in said


def test_joints_that_the_driver_does_not_have_are_named_with_those_it_has():
    with fake_arm():
        said = refusal(changed(streams__joint_position__joints=["pan", "lift", "elbow"]))
    assert "no joint 'elbow' in the message, which has 'pan', 'lift'" in said


def test_joints_of_two_drivers_on_one_topic_are_told_apart_and_two_streams_proposed():
    settings = changed(streams__joint_position__joints=["pan", "lift", "finger"], streams__joint_position__publishers=2)
    with fake_arm(), FakeArm({"finger": 0.02}, "/arm/joint_states", name="gripper"):
        said = refusal(settings)
    assert "no message holds all of 'pan', 'lift', 'finger'" in said
    assert "joints: [finger] and [pan, lift]" in said


def test_two_robots_on_one_topic_are_both_named():
    with fake_arm(), FakeArm(dict.fromkeys(JOINTS, 0.0), "/arm/joint_states", name="other_arm"):
        said = refusal(changed())
    assert "2 nodes publish /arm/joint_states" in said
    assert "'/fake_arm'" in said
    assert "'/other_arm'" in said


def test_a_second_sender_of_commands_is_named():
    with fake_arm() as arm:
        arm.node.create_publisher(message(FLOATS), "/arm/commands", 1)
        said = refusal(changed())
    assert "'/fake_arm' already sends commands on /arm/commands" in said


def test_a_topic_of_another_type_is_named():
    # Another participant, as a driver is: Fast DDS has one type for a topic in each.
    elsewhere = Context()
    rclpy.init(args=[], context=elsewhere)
    driver = rclpy.create_node("driver", context=elsewhere)
    driver.create_publisher(message(FLOATS), "/arm/floats", SENSOR)
    with fake_arm():
        said = refusal(changed(streams__joint_position__topic="floats"))
    driver.destroy_node()
    rclpy.shutdown(context=elsewhere)
    assert "publishes /arm/floats as std_msgs/msg/Float64MultiArray, wanted sensor_msgs/msg/JointState" in said


def test_a_status_that_cannot_be_latched_is_a_quality_of_service_that_cannot_match():
    status = {"running": {"topic": "/running", "type": "std_msgs/msg/Bool", "one_of": [True], "remedy": "start it"}}
    with fake_arm() as arm:
        arm.node.create_publisher(message("std_msgs/msg/Bool"), "/running", QoSProfile(depth=1))
        said = refusal(changed(status=status))
    assert "quality of service on /running cannot match: /fake_arm publishes volatile" in said


def test_a_listener_that_wants_old_commands_is_a_quality_of_service_that_cannot_match():
    latched = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with FakeArm(dict.fromkeys(JOINTS, 0.5), "/arm/joint_states") as arm:
        arm.node.create_subscription(message(FLOATS), "/arm/commands", lambda heard: None, latched)
        said = refusal(changed())
    assert "quality of service on /arm/commands cannot match" in said


def test_a_status_that_says_nothing_is_named():
    status = {"running": {"topic": "/running", "type": "std_msgs/msg/Bool", "one_of": [True], "remedy": "start it"}}
    with fake_arm() as arm:
        Latched(arm, "/running", "std_msgs/msg/Bool")
        said = refusal(changed(status=status))
    assert "robot.status.running: /running has said nothing" in said


def test_a_driver_that_does_not_stamp_is_refused():
    with fake_arm() as arm:
        arm.stamped = False
        said = refusal(changed())
    assert "stamp is 0 ns, wanted the capture time; set it in the driver" in said


def test_a_driver_whose_clock_is_another_is_refused():
    with fake_arm() as arm:
        arm.frozen_stamp = message("builtin_interfaces/msg/Time")(sec=1000)
        said = refusal(changed())
    assert "compare the clocks" in said


def test_a_publisher_that_is_silent_is_not_told_as_a_wrong_clock():
    with fake_arm() as arm:
        arm.show = lambda: None
        arm.node.destroy_timer(next(iter(arm.node.timers)))
        said = refusal(changed())
    assert "published and connected, but nothing has arrived" in said
    assert "clock" not in said


def test_a_driver_that_falls_silent_is_not_told_as_a_wrong_clock():
    with fake_arm() as arm, RosRobot(**changed(connect_s=10.0)) as robot:
        robot.connect_s = 1.0
        arm.node.destroy_timer(next(iter(arm.node.timers)))
        with pytest.raises(StaleSensor, match="nothing has arrived"):
            until_refused(lambda: robot.reset(0))


def test_a_driver_whose_stamps_lag_is_told_as_a_wrong_clock():
    with fake_arm() as arm, RosRobot(**changed(connect_s=10.0)) as robot:
        robot.connect_s = 1.0
        robot.reset(0)
        arm.frozen_stamp = arm.stamp()
        with pytest.raises(StaleSensor, match=r"clock"):
            until_refused(lambda: robot.reset(0))


def test_an_arm_node_that_is_not_there_is_named():
    said = refusal(changed(command={"adapter": "arm_node"}))
    assert "arm_node: /arm/mode has said nothing; is arm_node of /arm up?" in said
