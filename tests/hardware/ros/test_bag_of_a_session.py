"""A bag recorded beside a session holds what the session saw and did."""

import contextlib
import threading
import time

import numpy as np
import pytest

pytest.importorskip("hardware.ros.client")

from data.archive.schema import decode_episode
from data.convert.bag_file import BagFile
from data.convert.bag_script import ImportReport
from data.convert.diffusion_policy import Facts
from data.convert.ros_bag import BagSettings, episodes_of
from hardware.node_config import build
from hardware.ros.client import HistoryPolicy, QoSProfile, ReliabilityPolicy, message
from robot_rl.commands.data.bag_view import bag_layout
from robot_rl.sessions.setup import load_robot
from tests.data.bags import Sent, as_recorded, write_bag
from tests.hardware.ros.arms_on_topics import ArmNodeOnTopics, OnTopics

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]

TOPICS = {
    "/sim/state": "sensor_msgs/msg/JointState",
    "/sim/environment_state": "sensor_msgs/msg/JointState",
    "/sim/command": "trajectory_msgs/msg/JointTrajectory",
    "/sim/applied": "sensor_msgs/msg/JointState",
    "/sim/judgement": "sensor_msgs/msg/JointState",
    "/sim/reset": "std_msgs/msg/Header",
}
EVERYTHING = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
GIVE_UP_S = 15.0


class Recorder(OnTopics):
    """What `ros2 bag record` hears."""

    def __init__(self):
        super().__init__("recorder")
        self.sent = []
        self.news = threading.Condition()
        for topic, type_name in TOPICS.items():
            self.node.create_subscription(message(type_name), topic, self._taker(topic), EVERYTHING)

    def _taker(self, topic):
        def take(heard):
            with self.news:
                self.sent.append(Sent(time.time_ns(), topic, as_recorded(heard)))
                self.news.notify_all()

        return take

    def await_messages(self, topic, count):
        with self.news:
            assert self.news.wait_for(lambda: sum(each.topic == topic for each in self.sent) >= count, GIVE_UP_S)

    def await_publishers(self):
        """Until everybody who will speak has been found: what is said before goes unheard."""
        until_s = time.monotonic() + GIVE_UP_S
        while not all(self.node.count_publishers(topic) for topic in TOPICS):
            assert time.monotonic() < until_s
            time.sleep(0.02)


def test_the_bag_of_a_lockstep_session_becomes_the_episodes_that_the_session_saw(tmp_path):
    file = load_robot("ros/sim")
    config = {"robot": file.robot | {"connect_s": 10.0}, "arm": file.arm, "limits": file.limits}
    generator = np.random.default_rng(0)
    seen, asked, done, judged = [], [], [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(ArmNodeOnTopics(config))
        recorder = stack.enter_context(Recorder())
        robot = stack.enter_context(build(config["robot"]))
        recorder.await_publishers()
        for seed in (3, 4):
            robot.reset(seed)
            recorder.await_messages("/sim/reset", seed - 2)
            for tick in range(20):
                seen.append(robot.observe(tick))
                asked.append(generator.uniform(-1, 1, 4).astype(np.float32))
                done.append(robot.apply(asked[-1]))
                judged.append(robot.judge().reward)
        recorder.await_messages("/sim/applied", 40)
    with BagFile(write_bag(tmp_path / "bag", recorder.sent)) as bag:
        layout = bag_layout(config["robot"], file.limits.get("start", {}), bag.topics)
        encoded = [*episodes_of(bag, layout, Facts("peg"), BagSettings({}), ImportReport())]
    first, second = map(decode_episode, encoded)
    assert (first.header.seed, second.header.seed) == (3, 4)
    for stream in layout.spec.observations:
        values = np.concatenate([first.per_tick(stream), second.per_tick(stream)])
        np.testing.assert_array_equal(values, [each.values[stream] for each in seen])
    np.testing.assert_array_equal(np.concatenate([first.requested, second.requested]), asked)
    np.testing.assert_array_equal(np.concatenate([first.applied, second.applied]), done)
    np.testing.assert_allclose(np.concatenate([first.reward, second.reward]), judged, rtol=1e-6)
