import math
import threading
import time
from pathlib import Path

import pytest
import yaml

from hardware.operators.layout import LayoutError
from hardware.operators.leader.following import LeaderLayout
from hardware.operators.leader.operator import LeaderArmOperator
from hardware.ros.leader_arm import LeaderMissing, LeaderTopic, leader_arm_operator
from tests.hardware.operators.test_configured_layouts import spec_of

CONFIG = yaml.safe_load((Path(__file__).parents[3] / "configs/operator/leader_arm.yaml").read_text())["operator"]
WRITTEN = {key: value for key, value in CONFIG.items() if not key.startswith("_")}
FOLLOWERS = ("sim_joint", "ur5e", "xarm7", "so101")
GIVE_UP_S = 20.0
TOPIC = "/leader/joint_states"


def wait_for(condition):
    """Whether a condition comes true before patience ends."""
    patience, until_s = threading.Event(), time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > until_s:
            return False
        patience.wait(0.02)
    return True


class Driver:
    """A leader's driver: publishes the joints a test sets, in an order of its own, until told to be silent."""

    def __init__(self, link, topic=TOPIC):
        from hardware.ros.client import message

        self.joints = {"wrist": 0.25, "hip": -0.5}
        self.silent = False
        self.once = None
        self.link = link
        self.message = message("sensor_msgs/msg/JointState")
        self.publisher = link.node.create_publisher(self.message, topic, 5)
        link.node.create_timer(0.02, self.publish)

    def publish(self):
        if not self.silent:
            shown, self.once = self.once or self.joints, None
            state = self.message(name=list(shown), position=list(shown.values()))
            state.header.stamp = self.link.node.get_clock().now().to_msg()
            self.publisher.publish(state)


@pytest.fixture
def driver(ros_domain):
    from hardware.ros.background_node import BackgroundNode

    with BackgroundNode("leader_driver") as link:
        driving = Driver(link)
        link.spin()
        yield driving


def topic(joints=("hip", "wrist"), name=TOPIC, max_age_s=0.5, connect_s=GIVE_UP_S):
    return LeaderTopic(name, joints, max_age_s, connect_s, {"max_speed": 15.0, "margin": 0.1})


@pytest.mark.ros
def test_joints_are_heard_by_name_whatever_their_order(driver):
    with topic() as leader:
        assert wait_for(lambda: leader.reading()[:2] == ({"hip": -0.5, "wrist": 0.25}, ""))
        driver.joints["hip"] = -0.6
        assert wait_for(lambda: leader.reading().positions.get("hip") == -0.6)


@pytest.mark.ros
def test_a_leader_whose_encoder_wraps_is_lost_in_words_and_its_false_place_never_followed(driver):
    with topic() as leader:
        assert wait_for(lambda: leader.reading().positions)
        driver.joints["hip"] = -0.5 + 2 * math.pi
        assert wait_for(lambda: "'hip' went from -0.5 to 5.783 rad" in leader.reading().problem)
        assert leader.reading().positions == {}


@pytest.mark.ros
def test_one_false_state_of_a_leader_is_not_followed_and_does_not_lose_it(driver):
    with topic() as leader:
        assert wait_for(lambda: leader.reading().positions)
        driver.once = {"hip": 0.0, "wrist": 4095.0}
        readings = []
        assert wait_for(lambda: readings.append(leader.reading()) or driver.once is None)
        assert wait_for(lambda: readings.append(leader.reading()) or leader.implausible == 1)
        assert {tuple(each.positions.items()) for each in readings} == {(("hip", -0.5), ("wrist", 0.25))}


@pytest.mark.ros
def test_a_leader_that_falls_silent_is_followed_no_more_and_heard_again_when_it_speaks(driver):
    with topic() as leader:
        driver.silent = True
        assert wait_for(lambda: "ms old, limit is 500 ms" in leader.reading().problem)
        assert leader.reading().positions == {}
        driver.silent = False
        assert wait_for(lambda: leader.reading().positions)


@pytest.mark.ros
def test_a_joint_that_the_leader_does_not_have_is_refused_by_name(driver):
    with pytest.raises(LeaderMissing, match=r"no joint 'elbow' in the message, which has 'wrist', 'hip'"):
        topic(joints=("hip", "elbow"), connect_s=2.0).__enter__()


@pytest.mark.ros
def test_a_topic_that_nobody_publishes_is_named_with_those_that_are_there(driver):
    with pytest.raises(LeaderMissing, match=r"nobody publishes /lead/joint_states .*there is /leader/joint_states"):
        topic(name="/lead/joint_states", connect_s=2.0).__enter__()


@pytest.mark.parametrize("robot", FOLLOWERS)
def test_the_configured_leader_fits_every_robot_that_takes_positions(robot):
    spec = spec_of(robot)
    assert isinstance(leader_arm_operator(spec, **WRITTEN), LeaderArmOperator)
    layout = LeaderLayout.for_spec(spec, WRITTEN["layouts"])
    shown = spec.observations["joint_position"].names
    assert [shown[each.index] for each in layout.following] == [each.joint for each in layout.following]


@pytest.mark.parametrize("robot", ["sim", "fr3", "servo_arm"])
def test_a_robot_that_takes_displacements_is_told_what_to_use_instead(robot):
    with pytest.raises(LayoutError, match="use operator=spacemouse"):
        leader_arm_operator(spec_of(robot), **WRITTEN)
