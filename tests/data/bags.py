"""Messages of a small arm with two cameras, and bags of them in both storage formats."""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

MS = 1_000_000
S = 1_000_000_000
START_NS = 1_700_000_000 * S
"""First tick."""
TICK_NS = 50 * MS
STORE = get_typestore(Stores.ROS2_JAZZY)
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
JOINTS = ("shoulder", "elbow")


class Sent(NamedTuple):
    """A message and when the recorder got it [ns]."""

    arrival_ns: int
    topic: str
    message: Any


def robot(adapter: str = "arm_node", **command: Any) -> dict[str, Any]:
    """The yaml section of the small arm."""
    return {
        "_target_": "hardware.ros.robot.RosRobot",
        "name": "small",
        "namespace": "/arm",
        "control_hz": 20.0,
        "streams": {
            "joint_position": {
                "kind": "joints",
                "topic": "joint_states",
                "joints": [*JOINTS],
                "max_age_s": 0.1,
                "interpolate": True,
                "latency_s": 0.004,
                "max_speed": 6.0,
                "margin": 0.05,
            },
            "tool_pose": {
                "kind": "pose",
                "topic": "tool_pose",
                "max_age_s": 0.1,
                "interpolate": True,
                "max_speed": [2.0, 5.0],
                "margin": [0.02, 0.05],
            },
            "image_left": {"kind": "image", "topic": "/left/image_raw", "size": [12, 16], "max_age_s": 0.15},
            "image_right": {
                "kind": "image",
                "topic": "/right/image_raw/compressed",
                "size": [12, 16],
                "max_age_s": 0.15,
                "latency_s": 0.03,
            },
        },
        "action": {
            "names": [*JOINTS],
            "unit": ["rad", "rad"],
            "kinds": ["position", "position"],
            "low": [-3.0, -3.0],
            "high": [3.0, 3.0],
        },
        "command": {"adapter": adapter, **command},
    }


def kind(name: str) -> Any:
    """A message class."""
    return STORE.types[name]


def header(stamp_ns: int, frame: str = "") -> Any:
    time = kind("builtin_interfaces/msg/Time")(sec=stamp_ns // S, nanosec=stamp_ns % S)
    return kind("std_msgs/msg/Header")(stamp=time, frame_id=frame)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def joint_state(stamp_ns: int, names: Sequence[str], position: Iterable[float], frame: str = "", effort=()) -> Any:
    return kind("sensor_msgs/msg/JointState")(
        header=header(stamp_ns, frame),
        name=[*names],
        position=floats(*position),
        velocity=floats(),
        effort=floats(*effort),
    )


def pose(stamp_ns: int, place: Sequence[float], angle_rad: float) -> Any:
    half = angle_rad / 2
    point = kind("geometry_msgs/msg/Point")(*map(float, place))
    turn = kind("geometry_msgs/msg/Quaternion")(x=0.0, y=0.0, z=float(np.sin(half)), w=float(np.cos(half)))
    return kind("geometry_msgs/msg/PoseStamped")(
        header=header(stamp_ns), pose=kind("geometry_msgs/msg/Pose")(position=point, orientation=turn)
    )


def twist(stamp_ns: int, linear: Sequence[float], angular: Sequence[float]) -> Any:
    vector = kind("geometry_msgs/msg/Vector3")
    return kind("geometry_msgs/msg/TwistStamped")(
        header=header(stamp_ns), twist=kind("geometry_msgs/msg/Twist")(vector(*linear), vector(*angular))
    )


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def image(stamp_ns: int, pixels: np.ndarray) -> Any:
    return kind("sensor_msgs/msg/Image")(
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=3 * pixels.shape[1],
        data=pixels.ravel(),
    )


def compressed(stamp_ns: int, pixels: np.ndarray) -> Any:
    data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].ravel()
    return kind("sensor_msgs/msg/CompressedImage")(header=header(stamp_ns), format="png", data=data)


def trajectory(stamp_ns: int, names: Sequence[str], *rows: Sequence[float], frame: str = "session-1") -> Any:
    nothing, at_once = floats(), kind("builtin_interfaces/msg/Duration")(sec=0, nanosec=0)
    point = kind("trajectory_msgs/msg/JointTrajectoryPoint")
    points = [point(floats(*row), nothing, nothing, nothing, at_once) for row in rows]
    return kind("trajectory_msgs/msg/JointTrajectory")(header(stamp_ns, frame), [*names], points)


def numbers(*values: float) -> Any:
    layout = kind("std_msgs/msg/MultiArrayLayout")(dim=[], data_offset=0)
    return kind("std_msgs/msg/Float64MultiArray")(layout=layout, data=floats(*values))


def sensors(ticks: int, generator: np.random.Generator, *, jitter_ms: float = 4.0) -> list[Sent]:
    """What arrives from half a second before the first tick on: joints at 100 Hz from a driver that publishes a gripper
    on the same topic, poses at 60 Hz, two 30 Hz cameras half a period apart; late, some very late, some lost.
    """
    sent = []

    def add(topic: str, stamp_ns: int, message: Any, late_ms: float) -> None:
        late = abs(generator.normal(late_ms, jitter_ms)) + (45.0 if generator.random() < 0.05 else 0.0)
        if generator.random() > 0.04:
            sent.append(Sent(stamp_ns + round(late * MS), topic, message))

    begin_ns, until_ns = START_NS - S // 2, START_NS + ticks * TICK_NS
    for index, stamp_ns in enumerate(range(begin_ns, until_ns, 10 * MS)):
        # In the driver's order, which is not the yaml's.
        state = joint_state(stamp_ns, ("elbow", "shoulder"), (np.sin(index / 20), np.cos(index / 30)))
        add("/arm/joint_states", stamp_ns, state, 1.0)
        add("/arm/joint_states", stamp_ns + MS, joint_state(stamp_ns + MS, ("finger",), (0.01,)), 1.0)
    for index, stamp_ns in enumerate(range(begin_ns, until_ns, 16_666_667)):
        add("/arm/tool_pose", stamp_ns, pose(stamp_ns, (index / 100, 0.1, 0.2), index / 15), 2.0)
    for index, stamp_ns in enumerate(range(begin_ns, until_ns, 33_333_333)):
        add("/left/image_raw", stamp_ns, image(stamp_ns, picture(index)), 8.0)
        right_ns = stamp_ns + 16_666_667
        add("/right/image_raw/compressed", right_ns, compressed(right_ns, picture(10_000 + index)), 12.0)
    # Of one publisher, messages arrive in the order in which they were sent.
    return in_order(sent)


def in_order(sent: Iterable[Sent]) -> list[Sent]:
    """By arrival, where no message overtakes an earlier one of its topic."""
    newest: dict[str, int] = {}
    kept = []
    for each in sent:
        arrival_ns = max(each.arrival_ns, newest.get(each.topic, 0) + 1)
        newest[each.topic] = arrival_ns
        kept.append(each._replace(arrival_ns=arrival_ns))
    return sorted(kept, key=lambda each: each.arrival_ns)


def arm_node_commands(ticks: int, first: int = 0, seed: int | None = None) -> list[Sent]:
    """Rows at every tick with acknowledgements that clip at 0.5, and a reset before them if there is a seed."""
    sent = []
    if seed is not None:
        reset_ns = START_NS + first * TICK_NS - 20 * MS
        sent.append(Sent(reset_ns, "/arm/reset", header(reset_ns, f"session-1 {seed}")))
    for tick in range(first, first + ticks):
        stamp_ns = START_NS + tick * TICK_NS
        row = row_at(tick)
        sent.append(Sent(stamp_ns + 2 * MS, "/arm/command", trajectory(stamp_ns, JOINTS, row)))
        clipped = np.minimum(row, 0.5)
        reasons = (1024.0 if (clipped != row).any() else 0.0,)
        # In another order than the yaml's: everything goes by name.
        acknowledged = joint_state(stamp_ns, JOINTS[::-1], clipped[::-1], "session-1", reasons)
        sent.append(Sent(stamp_ns + 3 * MS, "/arm/applied", acknowledged))
    return sent


def row_at(tick: int) -> np.ndarray:
    """What is commanded at a tick."""
    return np.array([0.02 * tick, np.sin(tick / 10)])


def write_bag(path: Path, sent: Iterable[Sent], storage: str = "mcap") -> Path:
    """A bag of the messages, in the order of their arrival."""
    with Writer(path, version=9, storage_plugin=STORAGES[storage]) as writer:
        connections: dict[tuple[str, str], Any] = {}
        for each in sorted(sent, key=lambda each: each.arrival_ns):
            type_name = each.message.__msgtype__
            key = (each.topic, type_name)
            if key not in connections:
                connections[key] = writer.add_connection(each.topic, type_name, typestore=STORE)
            writer.write(connections[key], each.arrival_ns, STORE.serialize_cdr(each.message, type_name))
    return path


def as_recorded(message: Any) -> Any:
    """A message of any ROS client as a bag's writer takes it."""
    if isinstance(message, array.array):
        return np.array(message)
    if isinstance(message, (list, tuple)):
        return [as_recorded(each) for each in message]
    if not hasattr(message, "get_fields_and_field_types"):
        return message
    [name] = [each for each in STORE.types if each.endswith(f"/msg/{type(message).__name__}")]
    fields = message.get_fields_and_field_types()
    return kind(name)(**{field: as_recorded(getattr(message, field)) for field in fields})
