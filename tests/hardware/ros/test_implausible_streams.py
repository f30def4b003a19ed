"""On the wire: what no body could have reached is never observed, and when it lasts, observing says why it cannot."""

import math
import time

import pytest

pytest.importorskip("hardware.ros.client")

from hardware.ros.robot import RosRobot
from robot_rl.core.errors import StaleSensor
from tests.hardware.ros.arms_on_topics import FakeArm
from tests.hardware.ros.test_ros_connecting import changed, fake_arm

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]

GIVE_UP_S = 20.0


def connected():
    return RosRobot(**changed(connect_s=GIVE_UP_S))


def seen_until(robot, enough):
    """Everything that is observed until there is enough, or a stream is stale; and why it is."""
    shown, until_s = [], time.monotonic() + GIVE_UP_S
    while not enough() and time.monotonic() < until_s:
        try:
            shown.append(robot.observe(time.monotonic_ns()).values["joint_position"].tolist())
        except StaleSensor as error:
            return shown, str(error)
        time.sleep(0.002)
    return shown, ""


def stale(robot):
    """What is observed until the stream is stale, and the words."""
    shown, words = seen_until(robot, lambda: False)
    assert words, "the stream never became stale"
    return shown, words


def test_one_false_sample_on_the_wire_is_counted_and_never_observed():
    with fake_arm() as arm, connected() as robot:
        robot.reset(0)
        arm.glitches = [{"pan": 0.0, "lift": 4095.0}]
        shown, words = seen_until(robot, lambda: robot.counters["joint_position_implausible"] >= 1)
        assert words == ""
        assert robot.counters["joint_position_implausible"] == 1
        assert {tuple(each) for each in shown} == {(0.5, 0.5)}


def test_an_encoder_that_wraps_ends_the_stream_with_its_name():
    with fake_arm() as arm, connected() as robot:
        robot.reset(0)
        arm.position["lift"] += 2 * math.pi
        shown, words = stale(robot)
        assert {tuple(each) for each in shown} <= {(0.5, 0.5)}
        assert "/arm/joint_states: joint_position: 3 samples in a row cannot be true" in words
        assert "'lift' went from 0.5 to 6.783 rad" in words


def test_a_second_publisher_that_appears_while_running_ends_the_stream_and_is_never_observed():
    with fake_arm(), connected() as robot:
        robot.reset(0)
        with FakeArm({"pan": 2.0, "lift": -1.0}, "/arm/joint_states", name="other_arm"):
            shown, words = stale(robot)
        assert {tuple(each) for each in shown} <= {(0.5, 0.5)}
        assert "cannot be true" in words
        assert "whether two drivers publish" in words
