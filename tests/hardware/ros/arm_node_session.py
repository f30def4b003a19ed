"""The other side of an arm node over the wire: its settings, and a session that is told what to do."""

import threading
import time

import numpy as np

from hardware.arm.messages import ArmMode
from hardware.arm.state import Mode
from hardware.ros import arm_topics
from hardware.ros.arm_topics import absolute, decode_applied, encode_header, encode_reset, encode_row
from hardware.ros.spinning_thread import SpinningThread
from hardware.sim.joint_arm import JOINTS, NAMES

GIVE_UP_S = 20.0
ROW_S = 0.05
CONFIG = {
    "robot": {"control_hz": 20.0},
    "arm": {
        "namespace": "/sim",
        "stream_hz": 100.0,
        "watchdog_s": 1.0,
        "deadman_timeout_s": 1.0,
        "driver": {"_target_": "hardware.sim.joint_arm.JointArm"},
    },
    "limits": {
        "low": [-3.0] * 6 + [0.0],
        "high": [3.0] * 6 + [1.0],
        "max_step": [0.1] * 6 + [1.0],
        "max_velocity": [1.0] * 6 + [100.0],
        "max_acceleration": [5.0] * 6 + [1e5],
        "max_jerk": [50.0] * 6 + [1e8],
        "max_age_s": {"joint_position": 0.05, "tool_pose": 0.05},
        "ramp_after_s": 0.5,
        "fault_after_s": 2.0,
        "start": {"gripper": 1.0},
        "measured": {name: {"stream": "joint_position", "index": index} for index, name in enumerate(JOINTS)},
        "following": {"lag_s": 0.05, "wait": 0.057, "fault": 1.0},
    },
}


class Session:
    """The other side: a node that keeps what it hears and says what it is told; a thread drives while `driving`."""

    def __init__(self, name):
        from hardware.ros.client import SingleThreadedExecutor, rclpy

        self.name = name
        self.node = rclpy.create_node(name)
        self.modes, self.answers, self.joints, self.poses, self.lines = [], [], [], [], []
        self._news = threading.Condition()
        self._writers = {
            topic: self.node.create_publisher(topic.message(), self._full(topic.name), topic.qos())
            for topic in (
                arm_topics.COMMAND,
                arm_topics.ENABLE,
                arm_topics.DEADMAN,
                arm_topics.STOP,
                arm_topics.CLEAR,
                arm_topics.RESET,
            )
        }
        self._listen(arm_topics.MODE._replace(depth=20), lambda heard: self.modes.append(ArmMode.from_json(heard.data)))
        self._listen(arm_topics.APPLIED, lambda heard: self.answers.append(decode_applied(heard, NAMES)))
        self._listen(arm_topics.DIAGNOSTICS, lambda heard: self.lines.extend(heard.status))
        streams = {
            "joint_states": ("sensor_msgs/msg/JointState", self.joints),
            "tool_pose": ("geometry_msgs/msg/PoseStamped", self.poses),
        }
        for topic, (type_name, kept) in streams.items():
            self._listen(arm_topics.Topic(topic, type_name, reliable=False, depth=5), kept.append)
        self.driving = self.beating = self.counts = False
        self.beats = 0
        self.place = None
        self._ended = threading.Event()
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        self._hearing = SpinningThread(executor, name)
        self._driver = threading.Thread(target=self._drive, daemon=True)
        self._hearing.start()
        self._driver.start()

    def _full(self, topic):
        return absolute("/sim", topic)

    def _listen(self, topic, take):
        def taken(heard):
            with self._news:
                take(heard)
                self._news.notify_all()

        self.node.create_subscription(topic.message(), self._full(topic.name), taken, topic.qos())

    def close(self):
        self._ended.set()
        self._driver.join(GIVE_UP_S)
        self._hearing.end()
        self.node.destroy_node()

    def wait(self, what, condition):
        with self._news:
            assert self._news.wait_for(condition, GIVE_UP_S), f"{what} never came; modes {self.modes[-3:]}"

    def wait_mode(self, mode):
        self.wait(f"mode {mode}", lambda: self.modes and self.modes[-1].mode is mode)
        return self.modes[-1]

    def connect(self):
        self.wait("a mode", lambda: self.modes)
        self.wait("joints", lambda: self.joints)
        until_s = time.monotonic() + GIVE_UP_S
        while not all(each.get_subscription_count() for each in self._writers.values()):
            assert time.monotonic() < until_s, "the arm node never listened"
            time.sleep(0.02)
        return self

    def say(self, topic, message):
        self._writers[topic].publish(message)

    def enable(self, on=True):
        self.say(arm_topics.ENABLE, arm_topics.ENABLE.message()(data=on))

    def stop(self):
        self.say(arm_topics.STOP, arm_topics.STOP.message()(data=True))

    def clear(self):
        self.say(arm_topics.CLEAR, arm_topics.CLEAR.message()(data="ada"))

    def now_ns(self):
        return self.node.get_clock().now().nanoseconds

    def row(self, values, stamp_ns=None, names=NAMES):
        stamp_ns = stamp_ns or self.now_ns()
        self.say(arm_topics.COMMAND, encode_row(stamp_ns, self.name, names, np.asarray(values, dtype=np.float64)))
        return stamp_ns

    def answer(self, stamp_ns):
        """The acknowledgement of a row."""

        def mine():
            return [row for row in self.answers if (row.stamp_ns, row.session) == (stamp_ns, self.name)]

        self.wait("an acknowledgement", mine)
        return mine()[0]

    def begin(self, seed=3):
        self.enable()
        self.wait_mode(Mode.ACTIVE)
        self.say(arm_topics.RESET, encode_reset(self.now_ns(), self.name, seed))
        self.wait("the reset", lambda: self.modes[-1].seed == seed and self.modes[-1].session == self.name)
        return self

    def go(self):
        """Begins to turn the first joint, and returns when it does."""
        self.place = np.array(self.joints[-1].position)
        begin = self.place[0]
        self.driving = self.beating = True
        self.wait("motion", lambda: abs(self.joints[-1].position[0] - begin) > 0.05)
        return self

    def _drive(self):
        step = 0.0
        while not self._ended.wait(ROW_S):
            if self.beating:
                self.beats += 1
                self.beat_as(self.name, self.beats if self.counts else 0)
            if self.driving:
                step = min(step + 0.004, 0.02)
                self.place[0] += step * np.sign(-self.place[0] if abs(self.place[0]) > 2.5 else 1.0)
                self.row(self.place)

    def beat_as(self, name, number):
        self.say(arm_topics.DEADMAN, encode_header(self.now_ns(), arm_topics.numbered(name, number)))

    def wait_rest(self):
        """Returns when successive joint states no longer differ."""

        def still():
            last = [list(each.position) for each in self.joints[-20:]]
            return len(last) == 20 and np.ptp(np.array(last), axis=0).max() < 1e-6

        with self._news:
            self.joints.clear()
        self.wait("rest", still)
