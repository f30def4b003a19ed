"""Arms' sides of the topics, with behaviour: what a vendor's driver publishes, and the commands that it obeys."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hardware.ros.client import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    SingleThreadedExecutor,
    message,
    rclpy,
)
from hardware.ros.rotation import turned
from hardware.ros.spinning_thread import SpinningThread
from hardware.ros.status import status_message
from hardware.ros.status_condition import StatusCondition
from robot_rl.core.errors import RobotRLError

FLOATS = "std_msgs/msg/Float64MultiArray"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
SENSOR = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""As ros2_control publishes: reliable, which best effort subscribers match."""
COMMANDS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def stamp_now(node: Any) -> Any:
    return node.get_clock().now().to_msg()


class OnTopics:
    """A node in a thread, the same in every process or test; a context manager."""

    def __init__(self, name: str, make: Callable[[], Any] | None = None) -> None:
        self.owns = not rclpy.ok()
        if self.owns:
            rclpy.init(args=[])
        self.node = rclpy.create_node(name) if make is None else make()
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        self._hearing = SpinningThread(executor, name)

    def __enter__(self) -> Any:
        self._hearing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hearing.end()
        self.node.destroy_node()
        if self.owns:
            rclpy.shutdown()


class FakeArm(OnTopics):
    """Joints that go where they are told at once, shown at 100 Hz in an order that is not the yaml's.

    Args:
        joints: Name to start position.
        joint_states: Topic.
        extra: Other joints in the same message.
        name: Of the node.

    Attributes:
        position: Joint to where it is.
        refused: Commands that a real driver would have thrown away, with the reason.
        commands: Commands obeyed.
        glitches: False positions, each shown once in place of the true ones.
    """

    hz = 100.0

    def __init__(
        self,
        joints: Mapping[str, float],
        joint_states: str = "/joint_states",
        extra: Mapping[str, float] | None = None,
        name: str = "fake_arm",
    ) -> None:
        super().__init__(name)
        self.position = dict(joints)
        self.refused: list[str] = []
        self.commands = 0
        self.moved = threading.Condition()
        self.stamped = True
        self.frozen_stamp: Any = None
        self.hidden: set[str] = set()
        self.glitches: list[Mapping[str, float]] = []
        self._extra = dict(extra or {})
        self._type = message("sensor_msgs/msg/JointState")
        self._states = self.node.create_publisher(self._type, joint_states, SENSOR)
        self.node.create_timer(1.0 / self.hz, self.show)

    def stamp(self) -> Any:
        if not self.stamped:
            return message("builtin_interfaces/msg/Time")()
        return self.frozen_stamp or stamp_now(self.node)

    def show(self) -> None:
        place = self.glitches.pop() if self.glitches else self.position
        shown = {name: each for name, each in place.items() if name not in self.hidden} | self._extra
        names = sorted(shown, reverse=True)
        state = self._type(name=names, position=[float(shown[name]) for name in names])
        state.header.stamp = self.stamp()
        self._states.publish(state)

    def obey(self, names: list[str], positions: Any) -> None:
        """Moves, if the command makes sense."""
        values = np.asarray(positions, dtype=np.float64)
        problem = None
        if sorted(names) != sorted(self.position):
            problem = f"joints {names}"
        elif values.shape != (len(names),) or not np.isfinite(values).all():
            problem = f"values {values}"
        with self.moved:
            if problem:
                self.refused.append(problem)
            else:
                self.position.update(zip(names, values.tolist(), strict=True))
                self.commands += 1
            self.moved.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        with self.moved:
            return self.moved.wait_for(condition, timeout_s)

    # A forward_command_controller knows its joints by order, a trajectory controller by name.

    def obeys_array(self, topic: str, order: list[str]) -> FakeArm:
        self.node.create_subscription(
            message(FLOATS), topic, lambda heard: self.obey(list(order), heard.data), COMMANDS
        )
        return self

    def obeys_trajectory(self, topic: str) -> FakeArm:
        def take(heard: Any) -> None:
            if len(heard.points) != 1 or heard.points[0].time_from_start.nanosec == 0:
                with self.moved:
                    self.refused.append("a trajectory without time")
                return
            self.obey(list(heard.joint_names), heard.points[0].positions)

        self.node.create_subscription(message(TRAJECTORY), topic, take, COMMANDS)
        return self


class FakeTool(FakeArm):
    """An arm whose tool is commanded in space; its pose is shown too."""

    def __init__(self, joints: Mapping[str, float], pose_topic: str, **arguments: Any) -> None:
        super().__init__(joints, **arguments)
        self.pose = np.array([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
        self.held = False
        self.twist = np.zeros(6)
        self._pose_type = message("geometry_msgs/msg/PoseStamped")
        self._poses = self.node.create_publisher(self._pose_type, pose_topic, SENSOR)

    def show(self) -> None:
        super().show()
        if not hasattr(self, "_poses"):
            return
        shown = self._pose_type()
        shown.header.stamp = self.stamp()
        place, turn = shown.pose.position, shown.pose.orientation
        place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w = self.pose.tolist()
        self._poses.publish(shown)

    def obeys_pose(self, topic: str, frame_id: str) -> FakeTool:
        def take(heard: Any) -> None:
            place, turn = heard.pose.position, heard.pose.orientation
            target = np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w])
            with self.moved:
                if heard.header.frame_id != frame_id or abs(np.linalg.norm(target[3:]) - 1) > 1e-6:
                    self.refused.append(f"{heard.header.frame_id} {target}")
                else:
                    self.commands += 1
                    if not self.held:
                        self.pose = target
                self.moved.notify_all()

        self.node.create_subscription(self._pose_type, topic, take, COMMANDS)
        return self

    def obeys_twist(self, topic: str, frame_id: str, rate_hz: float) -> FakeTool:
        """As MoveIt Servo: each twist holds for one period, an old one is not obeyed."""

        def take(heard: Any) -> None:
            linear, angular = heard.twist.linear, heard.twist.angular
            twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
            age_s = time.time() - heard.header.stamp.sec - heard.header.stamp.nanosec / 1e9
            with self.moved:
                if heard.header.frame_id != frame_id or not np.isfinite(twist).all() or abs(age_s) > 5.0:
                    self.refused.append(f"{heard.header.frame_id} {twist} {age_s}")
                else:
                    self.commands += 1
                    self.twist = twist
                    step = twist / rate_hz
                    self.pose = np.concatenate([self.pose[:3] + step[:3], turned(self.pose[3:], step[3:])])
                self.moved.notify_all()

        self.node.create_subscription(message("geometry_msgs/msg/TwistStamped"), topic, take, COMMANDS)
        return self


@dataclasses.dataclass
class Latched:
    """A topic that says something once and keeps it."""

    owner: OnTopics
    topic: str
    type_name: Any

    def __post_init__(self) -> None:
        kind = message(self.type_name) if isinstance(self.type_name, str) else self.type_name
        self._kind = kind
        self._publisher = self.owner.node.create_publisher(kind, self.topic, LATCHED)

    def say(self, **fields: Any) -> None:
        self._publisher.publish(self._kind(**fields))


class SaidOfItself:
    """One value of a driver's status message, said on change (latched) or again and again.

    Attributes:
        value: As said now.
        silent: Says nothing any more.
    """

    def __init__(self, topic: StatusTopic, condition: StatusCondition) -> None:
        self._topic = topic
        self._condition = condition
        self.silent = False
        self.say(value=_allowed(condition))

    def say(self, *, value: Any) -> None:
        self.value = value
        *way, last = self._condition.field.split(".")
        section = self._topic.message
        for part in way:
            section = getattr(section, part)
        setattr(section, last, value)
        self._topic.publish()


class StatusTopic:
    """A topic on which a driver says how it is, with every value of its message that a yaml asks for."""

    def __init__(self, owner: OnTopics, condition: StatusCondition) -> None:
        kind = status_message(condition)
        self.message = kind()
        self.values: list[SaidOfItself] = []
        self._publisher = owner.node.create_publisher(kind, condition.topic, LATCHED if condition.latched else SENSOR)
        if not condition.latched:
            owner.node.create_timer(0.02, self.publish)

    def publish(self) -> None:
        if not any(each.silent for each in self.values):
            self._publisher.publish(self.message)


def statuses_of(owner: OnTopics, conditions: Sequence[StatusCondition]) -> dict[str, SaidOfItself]:
    """Every condition by name, said to be fulfilled."""
    topics: dict[str, StatusTopic] = {}
    for condition in conditions:
        if condition.topic not in topics:
            topics[condition.topic] = StatusTopic(owner, condition)
    said = {each.name: SaidOfItself(topics[each.topic], each) for each in conditions}
    for condition in conditions:
        topics[condition.topic].values.append(said[condition.name])
    return said


def _allowed(condition: StatusCondition) -> Any:
    if condition.one_of:
        return condition.one_of[0]
    bound = condition.at_least if condition.at_least is not None else condition.at_most
    kind = type(condition.read(status_message(condition)()))
    return kind(bound)


class ArmNodeOnTopics(OnTopics):
    """A real arm node in this process.

    Args:
        config: The whole robot, as its JSON has it.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        from hardware.ros.arm_node import ArmNode

        super().__init__("arm_node", lambda: ArmNode(config))

    def __enter__(self) -> ArmNodeOnTopics:
        self.node.start()
        super().__enter__()
        return self

    def deafen(self) -> None:
        """Hears nothing any more, but goes on showing its streams."""
        self._hearing.end()

    def __exit__(self, *error: object) -> None:
        self.node.end()
        super().__exit__(*error)


def until_refused(act: Callable[[], object]) -> None:
    """Acts until it is refused: what a topic says takes a moment to arrive."""
    until_s = time.monotonic() + 10.0
    while time.monotonic() < until_s:
        act()
        time.sleep(0.01)


def until_allowed(act: Callable[[], object]) -> object:
    """Acts until it is not refused any more."""
    until_s = time.monotonic() + 10.0
    while True:
        try:
            return act()
        except RobotRLError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)
