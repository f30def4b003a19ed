"""From a robot's yaml to what its topics mean in a bag: the live robot's own decoders, rings and alignment."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.convert.bag_file import BagError, BagTopic, Recorded
from data.convert.bag_layout import (
    AppliedRow,
    BagLayout,
    Channel,
    CommandPart,
    CommandRow,
    JudgedRow,
)
from data.convert.diffusion_policy import UNKNOWN_SEED
from hardware.ros import arm_topics, decode
from hardware.ros.command_settings import arm_names
from hardware.ros.gripper import GripperConfig
from hardware.ros.robot_config import RobotConfig
from hardware.ros.rotation import rotation_between
from hardware.ros.stream_reader import StreamReader
from hardware.sync import align
from robot_rl.core.episode import Observation
from robot_rl.core.errors import StaleSensor
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import AnyArray, FloatArray

ARM_NODE = "arm_node"
FLOATS = "std_msgs/msg/Float64MultiArray"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


def bag_layout(
    robot: Mapping[str, Any],
    start: Mapping[str, float],
    recorded: Mapping[str, Recorded],
    split_topic: str | None = None,
) -> BagLayout:
    """How a bag of this robot is read.

    Args:
        robot: The yaml's section `robot`, of a robot behind topics.
        start: The yaml's `limits.start`: what a gripper does before its first command.
        recorded: What the bag has; an arm node's acknowledgements, judgements and resets are used where they are there.
        split_topic: Any topic each of whose messages begins an episode; None is the arm node's own resets.

    Raises:
        RobotRLError: The yaml does not describe a robot behind topics, or one whose commands no bag can hold.
    """
    config = _config(robot)
    remote = config.adapter == ARM_NODE
    return BagLayout(
        spec=config.spec,
        streams={
            name: BagTopic(config.topic(stream.topic), (stream.message_type,), f"stream '{name}'")
            for name, stream in config.streams.items()
        },
        make_view=lambda: BagView(config),
        commands=[_arm_node_commands(config)] if remote else _vendor_commands(config, start),
        stamps_are_ticks=remote,
        lockstep=_lockstep(config),
        applied=_arm_channel(config, arm_topics.APPLIED, _applied, recorded) if remote else None,
        judgement=_arm_channel(config, arm_topics.JUDGEMENT, _judged, recorded) if remote else None,
        episode_start=_episode_start(config, recorded, split_topic),
    )


class BagView:
    """What a robot behind topics sees while a bag plays; see `data.convert.bag_script.View`.

    Args:
        config: The robot's.
    """

    def __init__(self, config: RobotConfig) -> None:
        self._lockstep = _lockstep(config)
        self._readers = {
            name: StreamReader(stream, config.topic(stream.topic), threading.Condition(), checked=not self._lockstep)
            for name, stream in config.streams.items()
        }

    def take(self, topic: str, message: Any) -> None:
        """See `View`."""
        for reader in self._readers.values():
            if reader.topic == topic:
                reader.take(message)

    def observe(self, tick_ns: int) -> Observation:
        """See `View`; in lockstep the newest of every stream, which is of the last row and of age 0."""
        if not self._lockstep:
            return align({name: reader.ring for name, reader in self._readers.items()}, tick_ns)
        values: dict[str, AnyArray] = {}
        for name, reader in self._readers.items():
            if reader.newest is None:
                raise StaleSensor(f"{name} has shown nothing yet: check that it was recorded from the beginning")
            values[name] = reader.newest[1]
        return Observation(tick_ns, values, dict.fromkeys(values, 0))

    def unseen(self) -> Mapping[str, str]:
        """See `View`."""
        return {
            name: f"{reader.topic}: {reader.problem or 'no message came before the last command'}"
            for name, reader in self._readers.items()
            if reader.newest is None and not reader.implausible
        }

    def refused(self) -> Mapping[str, int]:
        """See `View`."""
        return {reader.topic: reader.refused for reader in self._readers.values() if reader.refused}

    def implausible(self) -> Mapping[str, tuple[int, str]]:
        """See `View`."""
        return {
            name: (reader.implausible, reader.first_implausible)
            for name, reader in self._readers.items()
            if reader.implausible
        }

    def fault(self) -> str:
        """See `View`."""
        return "; ".join(reader.fault for reader in self._readers.values() if reader.fault)

    def let_jump(self, allowed: bool) -> None:
        """See `View`."""
        for reader in self._readers.values():
            reader.let_jump(allowed)

    def forget_fault(self) -> None:
        """See `View`."""
        for reader in self._readers.values():
            if reader.fault:
                reader.forget()


def _lockstep(config: RobotConfig) -> bool:
    return config.adapter == ARM_NODE and bool(config.command.get("lockstep", False))


def _config(robot: Mapping[str, Any]) -> RobotConfig:
    known = inspect.signature(RobotConfig.parse).parameters
    missing = [
        name for name, each in known.items() if each.default is inspect.Parameter.empty and robot.get(name) is None
    ]
    if missing:
        raise BagError(
            f"robot '{robot.get('name', robot.get('_target_', '?'))}' has no {', '.join(missing)}: a bag can be read "
            "with the yaml of a robot behind topics (robot=ros/...), which says which topics those are"
        )
    return RobotConfig.parse(**{name: robot[name] for name in known if name in robot})


def _arm_node_commands(config: RobotConfig) -> CommandPart:
    names = arm_topics.action_names(config.spec)

    def read(message: Any) -> CommandRow:
        row = arm_topics.decode_row(message, names)
        return CommandRow(row.stamp_ns, row.values)

    name = arm_topics.absolute(config.namespace, arm_topics.COMMAND.name)
    topic = BagTopic(name, (arm_topics.COMMAND.type_name,), "commands")
    return CommandPart(Channel(topic, read), tuple(range(len(names))))


def _arm_channel(
    config: RobotConfig,
    topic: arm_topics.Topic,
    read: Callable[[tuple[str, ...], Any], Any],
    recorded: Mapping[str, Recorded],
) -> Channel[Any] | None:
    """A topic of the arm node, where the bag has messages of it."""
    name = arm_topics.absolute(config.namespace, topic.name)
    if name not in recorded or not recorded[name].messages:
        return None
    names = arm_topics.action_names(config.spec)
    return Channel(BagTopic(name, (topic.type_name,), topic.name), functools.partial(read, names))


def _applied(names: tuple[str, ...], message: Any) -> AppliedRow:
    row = arm_topics.decode_applied(message, names)
    return AppliedRow(row.stamp_ns, row.values, row.reasons)


def _judged(names: tuple[str, ...], message: Any) -> JudgedRow:
    stamp_ns, _ = arm_topics.decode_header(message.header)
    wanted = arm_topics.JUDGEMENT_NAMES
    reward, success, done = arm_topics.by_name("judgement", message.name, message.position, wanted)
    return JudgedRow(stamp_ns, Judgement(float(reward), bool(success), bool(done)))


def _episode_start(
    config: RobotConfig, recorded: Mapping[str, Recorded], split_topic: str | None
) -> Channel[int] | None:
    if split_topic is not None:
        return Channel(BagTopic(config.topic(split_topic), (), "episodes"), lambda message: UNKNOWN_SEED)
    if config.adapter != ARM_NODE:
        return None
    return _arm_channel(config, arm_topics.RESET, lambda names, message: arm_topics.decode_reset(message)[1], recorded)


def _vendor_commands(config: RobotConfig, start: Mapping[str, float]) -> list[CommandPart]:
    """The arm's commands as its adapter sends them, and those of a gripper that is commanded apart."""
    names = config.spec.action.names
    arm = arm_names(config)
    joints = tuple(str(joint) for joint in config.command.get("joints", arm))
    reads: Mapping[str, tuple[str, tuple[str, ...], Callable[[Any], CommandRow], Any]] = {
        "joint_forward": (FLOATS, joints, functools.partial(_floats, len(joints)), None),
        "joint_trajectory": (TRAJECTORY, joints, functools.partial(_trajectory, joints), None),
        "cartesian_pose": ("geometry_msgs/msg/PoseStamped", arm, _pose, _displacements),
        "servo_twist": (
            "geometry_msgs/msg/TwistStamped",
            arm,
            functools.partial(_twist, config.spec.control_hz),
            None,
        ),
    }
    type_name, order, read, actions = reads[config.adapter]
    topic = BagTopic(config.topic(str(config.command["topic"])), (type_name,), "commands")
    parts = [CommandPart(Channel(topic, read), tuple(names.index(name) for name in order), actions)]
    gripper = GripperConfig.parse(config)
    return parts if gripper is None else [*parts, _gripper_commands(config, gripper, start)]


def _gripper_commands(config: RobotConfig, gripper: GripperConfig, start: Mapping[str, float]) -> CommandPart:
    if gripper.outlet is None:
        raise BagError(
            f"gripper {gripper.topic} is commanded by an action, which a bag does not hold: record with arm_node, "
            "whose commands contain the gripper"
        )
    topic = BagTopic(gripper.outlet.topic, (gripper.outlet.type_name,), "gripper commands")

    def read(message: Any) -> CommandRow:
        if gripper.kind == "joint_trajectory":
            [position] = _trajectory((gripper.joint,), message).values
        else:
            position = message.data if gripper.kind == "float64" else _floats(1, message).values[0]
        share = (float(position) - gripper.open) / (gripper.closed - gripper.open)
        return CommandRow(0, np.array([gripper.low + share * (gripper.high - gripper.low)]))

    index = config.spec.action.names.index(gripper.action)
    before = start.get(gripper.action)
    return CommandPart(Channel(topic, read), (index,), initial=None if before is None else (float(before),))


def _floats(count: int, message: Any) -> CommandRow:
    values = np.asarray(message.data, np.float64)
    if values.shape != (count,):
        raise BagError(f"command has {values.size} numbers, wanted {count}, one for each joint")
    return CommandRow(0, values)


def _trajectory(joints: tuple[str, ...], message: Any) -> CommandRow:
    """Where a trajectory ends, by joint name; one that is longer than its tick is replaced by the next."""
    if not len(message.points):
        raise BagError("trajectory without a point")
    values = arm_topics.by_name("trajectory", [*message.joint_names], message.points[-1].positions, joints)
    return CommandRow(decode.stamp_ns(message), values)


def _pose(message: Any) -> CommandRow:
    return CommandRow(decode.stamp_ns(message), decode.pose(message))


def _displacements(poses: FloatArray) -> FloatArray:
    """Displacements [m, rad] from target to target, the first none. Shapes (T, 7) and (T, 6)."""
    rows = np.zeros((len(poses), 6))
    rows[1:, :3] = np.diff(poses[:, :3], axis=0)
    for index in range(1, len(poses)):
        before, after = (poses[at, 3:].astype(np.float64) for at in (index - 1, index))
        rows[index, 3:] = rotation_between(before, after)
    return rows


def _twist(control_hz: float, message: Any) -> CommandRow:
    """A velocity as the displacement of one control tick."""
    linear, angular = message.twist.linear, message.twist.angular
    velocity = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    return CommandRow(decode.stamp_ns(message), velocity / control_hz)
