"""What an arm node and a `Robot` on its other side say to each other: topics, quality of service, and encodings.

Importing this needs no ROS; making a quality of service or a message does. Messages are read duck-typed, so that what a
bag holds can be read as well.

Every stream of the driver's spec is published under its own name, `joint_position` under `joint_states`. A stream
`tool_pose` of 7 numbers is a PoseStamped (x y z qx qy qz qw), an image an Image (rgb8), anything else a JointState
whose `name` are the spec's names (empty where it has none) and whose `position` are the numbers in C order. Stamps are
capture times. In lockstep time stands still: what a row or reset leads to has its stamp until the next one, and comes
in the order streams, judgement, acknowledgement.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hardware.arm.messages import Row
from robot_rl.core.errors import BadMessage as BadMessage
from robot_rl.core.specs import NS_PER_S, AnyArray, ArraySpec, FloatArray, RobotSpec

TOOL_POSE = "tool_pose"
STREAM_TOPICS = {"joint_position": "joint_states"}
"""Streams whose topic has a customary name of its own."""
POSE_FRAME = "base"
JUDGEMENT_NAMES = ("reward", "success", "done")


class Topic(NamedTuple):
    """One topic, relative to the arm's namespace.

    Attributes:
        name: For example `command`.
        type_name: For example `std_msgs/msg/Bool`.
        reliable: Reliable, else best effort.
        latched: Transient local, else volatile.
        depth: Samples kept.
    """

    name: str
    type_name: str
    reliable: bool = True
    latched: bool = False
    depth: int = 1

    def qos(self, *, volatile: bool = False, everything: bool = False) -> Any:
        """The `QoSProfile`.

        Args:
            volatile: For a reader that must not be given what was published before it came.
            everything: For a reader of what may stop an arm: of nothing that was said is only the last word kept.
        """
        from hardware.ros.client import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

        return QoSProfile(
            history=HistoryPolicy.KEEP_ALL if everything else HistoryPolicy.KEEP_LAST,
            depth=self.depth,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched and not volatile else DurabilityPolicy.VOLATILE,
        )

    def message(self) -> Any:
        """The message class."""
        from hardware.ros.client import message

        return message(self.type_name)


COMMAND = Topic("command", "trajectory_msgs/msg/JointTrajectory")
APPLIED = Topic("applied", "sensor_msgs/msg/JointState", depth=10)
JUDGEMENT = Topic("judgement", "sensor_msgs/msg/JointState", depth=10)
ENABLE = Topic("enable", "std_msgs/msg/Bool", latched=True)
"""An arm node reads it volatile: consent given before the node started is not consent to what it does now."""
DEADMAN = Topic("deadman", "std_msgs/msg/Header", reliable=False)
STOP = Topic("stop", "std_msgs/msg/Bool", latched=True)
CLEAR = Topic("clear", "std_msgs/msg/String")
RESET = Topic("reset", "std_msgs/msg/Header")
MODE = Topic("mode", "std_msgs/msg/String", latched=True)
DIAGNOSTICS = Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", depth=10)


def absolute(namespace: str, topic: str) -> str:
    """A topic's full name; one that is already absolute stays."""
    return topic if topic.startswith("/") else f"/{namespace.strip('/')}/{topic}".replace("//", "/")


def stream_topic(stream: str, spec: ArraySpec, *, lockstep: bool = False) -> Topic:
    """Where a stream of a driver's spec is published.

    Args:
        stream: Its name in the spec.
        spec: Its own.
        lockstep: The arm waits for its other side, so that nothing may be lost; otherwise what is new matters more.
    """
    if spec.is_image:
        type_name = "sensor_msgs/msg/Image"
    elif stream == TOOL_POSE and spec.shape == (7,):
        type_name = "geometry_msgs/msg/PoseStamped"
    else:
        type_name = "sensor_msgs/msg/JointState"
    return Topic(STREAM_TOPICS.get(stream, stream), type_name, reliable=lockstep, depth=5)


def encode_row(stamp_ns: int, session: str, names: Sequence[str], values: AnyArray, number: int = 0) -> Any:
    """A `command` message.

    Args:
        stamp_ns: The control tick, robot clock [ns].
        session: The sender's id, without spaces.
        names: What the action dimensions are called, `action_names`.
        values: Shape (A,).
        number: Counts the sender's commands, from 1.
    """
    from hardware.ros.client import message

    point = message("trajectory_msgs/msg/JointTrajectoryPoint")(positions=_floats(values))
    header = encode_header(stamp_ns, numbered(session, number))
    return COMMAND.message()(header=header, joint_names=list(names), points=[point])


def decode_row(message: Any, names: Sequence[str]) -> Row:
    """The row of a `command` message, its dimensions found by name.

    Raises:
        BadMessage: Not one point with one position for every action dimension.
    """
    stamp_ns, sender = decode_header(message.header)
    session, number = session_and_number(sender)
    if len(message.points) != 1:
        raise BadMessage(f"command has {len(message.points)} points, wanted one row per message")
    values = by_name("command", message.joint_names, message.points[0].positions, names)
    return Row(stamp_ns, session, values, number=number)


def encode_applied(row: Row, names: Sequence[str]) -> Any:
    """An `applied` message: what the arm will do for the command with this stamp and session."""
    return APPLIED.message()(
        header=encode_header(row.stamp_ns, row.session),
        name=list(names),
        position=_floats(row.values),
        effort=[float(row.reasons)],
    )


def decode_applied(message: Any, names: Sequence[str]) -> Row:
    """The acknowledgement that `encode_applied` wrote.

    Raises:
        BadMessage: It is none.
    """
    stamp_ns, session = decode_header(message.header)
    if len(message.effort) != 1 or not float(message.effort[0]).is_integer():
        raise BadMessage(f"applied has effort {list(message.effort)}, wanted one bit set of reasons")
    values = by_name("applied", message.name, message.position, names)
    return Row(stamp_ns, session, values, int(message.effort[0]))


def encode_numbers(topic: Topic, stamp_ns: int, frame: str, names: Sequence[str], values: AnyArray) -> Any:
    """Stamped named numbers: a JointState whose `position` they are, in C order."""
    return topic.message()(header=encode_header(stamp_ns, frame), name=list(names), position=_floats(values))


def encode_stream(topic: Topic, stamp_ns: int, names: Sequence[str], value: AnyArray) -> Any:
    """One stream's sample as `stream_topic` says."""
    if topic.type_name == "sensor_msgs/msg/Image":
        height_px, width_px, _ = value.shape
        return topic.message()(
            header=encode_header(stamp_ns, topic.name),
            height=height_px,
            width=width_px,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * width_px,
            # rclpy takes an array.array as it is, and checks every element of anything else.
            data=array.array("B", np.ascontiguousarray(value).tobytes()),
        )
    if topic.type_name == "geometry_msgs/msg/PoseStamped":
        return _encode_pose(topic, stamp_ns, value)
    return encode_numbers(topic, stamp_ns, "", names, value)


def _encode_pose(topic: Topic, stamp_ns: int, pose: AnyArray) -> Any:
    from hardware.ros.client import message

    x, y, z, qx, qy, qz, qw = map(float, pose)
    return topic.message()(
        header=encode_header(stamp_ns, POSE_FRAME),
        pose=message("geometry_msgs/msg/Pose")(
            position=message("geometry_msgs/msg/Point")(x=x, y=y, z=z),
            orientation=message("geometry_msgs/msg/Quaternion")(x=qx, y=qy, z=qz, w=qw),
        ),
    )


def encode_header(stamp_ns: int, frame: str) -> Any:
    """A std_msgs Header."""
    from hardware.ros.client import message

    seconds, nanoseconds = divmod(int(stamp_ns), NS_PER_S)
    stamp = message("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)
    return message("std_msgs/msg/Header")(stamp=stamp, frame_id=frame)


def decode_header(header: Any) -> tuple[int, str]:
    """Stamp [ns] and frame of a std_msgs Header."""
    return header.stamp.sec * NS_PER_S + header.stamp.nanosec, header.frame_id


def numbered(session: str, number: int) -> str:
    """What a session signs with: its id and how often it has spoken, so that another under its name is noticed."""
    return f"{session} {number}" if number else session


def session_and_number(sender: str) -> tuple[str, int]:
    """What `numbered` made; 0 where nobody counted."""
    session, _, number = sender.rpartition(" ")
    return (session, int(number)) if session and number.isdecimal() and len(number) < 19 else (sender, 0)


def encode_reset(stamp_ns: int, session: str, seed: int) -> Any:
    """A `reset` message."""
    return encode_header(stamp_ns, f"{session} {seed}")


def decode_reset(header: Any) -> tuple[str, int]:
    """Session and seed of a `reset` message.

    Raises:
        BadMessage: It holds no such pair.
    """
    session, _, seed = header.frame_id.rpartition(" ")
    if not session or not seed.isdecimal():
        raise BadMessage(f"reset says {header.frame_id!r}, wanted '<session> <seed>'")
    return session, int(seed)


def action_names(spec: RobotSpec) -> tuple[str, ...]:
    """What the action dimensions are called on the wire: their names, or `action_0` and so on."""
    return spec.action.names or tuple(f"action_{index}" for index in range(spec.action.size))


def by_name(what: str, given: Sequence[str], values: Any, wanted: Sequence[str]) -> FloatArray:
    """Values in the order of the wanted names. Shape (len(wanted),), float64.

    Raises:
        BadMessage: Names are missing, strange or double, or values are not as many as names.
    """
    numbers: FloatArray = np.asarray(values, dtype=np.float64)
    if len(numbers) != len(given):
        raise BadMessage(f"{what} has {len(numbers)} values for {len(given)} names, wanted one each")
    place = {name: index for index, name in enumerate(given)}
    if len(given) != len(wanted) or place.keys() != set(wanted):
        raise BadMessage(f"{what} is for {', '.join(given) or 'nothing'}; wanted {', '.join(wanted)}, each once")
    return numbers[[place[name] for name in wanted]]


def _floats(values: AnyArray) -> list[float]:
    numbers: list[float] = np.asarray(values, dtype=np.float64).ravel().tolist()
    return numbers
