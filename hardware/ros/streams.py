"""One observation stream of a robot's yaml: where it comes from, what it becomes, how old it may be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.ros import decode
from hardware.ros.yaml_section import (
    RobotYamlError,
    _size,
    flag,
    number,
    refuse_twice,
    refuse_unknown,
    require_mapping,
    strings,
    text,
    topic_name,
    whole,
)
from hardware.sync import Interpolation, StreamTiming
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import NS_PER_S, POSE_UNIT, AnyArray, ArraySpec

JOINT_UNITS = {"position": "rad", "velocity": "rad/s", "effort": "Nm"}
POSE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")
COMPRESSED_SUFFIX = "/compressed"
MESSAGE_TYPES = {
    "joints": "sensor_msgs/msg/JointState",
    "numbers": "sensor_msgs/msg/JointState",
    "pose": "geometry_msgs/msg/PoseStamped",
    "image": "sensor_msgs/msg/Image",
}
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
_KINDS = {
    "joints": {"joints", "field", "unit", "interpolate", "max_speed", "margin"},
    "numbers": {"names", "size", "unit", "interpolate", "max_speed", "margin"},
    "pose": {"interpolate", "max_speed", "margin"},
    "image": {"size"},
}
_ALWAYS = {"kind", "topic", "max_age_s", "latency_s", "publishers", "dtype"}
_SPEED_BOUND = {
    "joints": {
        "max_speed": "what each joint can physically do, per second (the vendor's figure, not your limit), one number "
        "or one per joint, for example max_speed: 3.2",
        "margin": "by how much two samples may differ beyond max_speed (noise, inexact stamps), one number or one per "
        "joint, for example margin: 0.05",
    },
    "pose": {
        "max_speed": "what the tool can physically do, [m/s, rad/s], for example max_speed: [2.0, 4.0]",
        "margin": "by how much two samples may differ beyond max_speed, [m, rad], for example margin: [0.02, 0.05]",
    },
}
"""What these kinds must say of how fast they change, in words."""


@dataclass(frozen=True)
class StreamConfig:
    """A stream as the yaml has it, checked.

    Attributes:
        name: Of the stream in the robot's spec.
        kind: `joints`, `pose`, `numbers` or `image`.
        topic: Relative to the robot's namespace unless it begins with `/`.
        max_age_s: Oldest sample still safe to act on [s].
        latency_s: From capture to the stamp that the driver gives [s].
        joints: Of kind `joints`: names as the driver gives them, in the order of the stream.
        field: Of kind `joints`: `position`, `velocity` or `effort`.
        names: Of kind `numbers`: by name; () for all of the message's numbers in order.
        size: Of an image height and width [px]; of nameless numbers how many, alone.
        unit: As in `ArraySpec`.
        interpolate: Whether the value at a tick is made from the samples around it.
        publishers: How many publishers the topic may have; more are taken for a second robot.
        dtype: Of the spec's array.
        max_speed: See `ArraySpec`; a sample beyond it is not used. None, of kind `numbers`, takes every sample.
        margin: See `ArraySpec`.
    """

    name: str
    kind: str
    topic: str
    max_age_s: float
    latency_s: float = 0.0
    joints: tuple[str, ...] = ()
    field: str = "position"
    names: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    unit: str = ""
    interpolate: bool = False
    publishers: int = 1
    dtype: str = "float32"
    max_speed: float | tuple[float, ...] | None = None
    margin: float | tuple[float, ...] | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is a camera's."""
        return self.kind == "image"

    @property
    def message_type(self) -> str:
        """For example `sensor_msgs/msg/JointState`; the topic's suffix tells a compressed image."""
        if self.is_image and self.topic.endswith(COMPRESSED_SUFFIX):
            return COMPRESSED_TYPE
        return MESSAGE_TYPES[self.kind]

    @property
    def spec(self) -> ArraySpec:
        """The stream as the robot's spec shows it."""
        if self.kind == "image":
            return ArraySpec((*self.size, 3), "uint8", "rgb")
        shape, unit, names = self._array()
        return ArraySpec(shape, self.dtype, unit, names=names, max_speed=self.max_speed, margin=self.margin)

    def _array(self) -> tuple[tuple[int, ...], str, tuple[str, ...]]:
        """Shape, unit and names of a stream that is no image."""
        if self.kind == "pose":
            return (7,), POSE_UNIT, POSE_NAMES
        if self.kind == "joints":
            return (len(self.joints),), self.unit or JOINT_UNITS[self.field], self.joints
        return self.size or (len(self.names),), self.unit, self.names

    @property
    def timing(self) -> StreamTiming:
        """How its samples relate to ticks."""
        return StreamTiming(
            max_age_ns=round(self.max_age_s * NS_PER_S),
            latency_ns=round(self.latency_s * NS_PER_S),
            interpolation=Interpolation.LINEAR if self.interpolate else Interpolation.NEWEST,
            quaternions=(3,) if self.kind == "pose" else (),
        )

    @property
    def decoder(self) -> Callable[[Any], AnyArray]:
        """Turns a message of this stream into an array of its spec; raises `BadMessage`."""
        if self.is_image:
            read = decode.compressed_image if self.message_type == COMPRESSED_TYPE else decode.image
            return functools.partial(read, size=self.size)
        return functools.partial(_row, self)

    @classmethod
    def parse(cls, name: str, document: object, where: str = "") -> StreamConfig:
        """A stream from its yaml.

        Args:
            name: Of the stream.
            document: Its settings.
            where: The section they are in, for errors; a robot's streams if empty.

        Raises:
            RobotYamlError: Names the stream, the key, what it is and what was wanted.
        """
        where = where or f"robot.streams.{name}"
        keys = require_mapping(document, where)
        kind = keys.get("kind")
        if not isinstance(kind, str) or kind not in _KINDS:
            raise RobotYamlError(f"{where}.kind is {kind!r}, wanted one of {', '.join(_KINDS)}")
        refuse_unknown(keys, _ALWAYS | _KINDS[kind], where, f" of kind '{kind}'")
        for key in ("topic", "max_age_s"):
            if keys.get(key) is None:
                raise RobotYamlError(f"{where}.{key} is missing")
        stream = cls(
            name=name,
            kind=kind,
            topic=topic_name(keys["topic"], f"{where}.topic"),
            max_age_s=number(keys["max_age_s"], f"{where}.max_age_s"),
            latency_s=number(keys.get("latency_s", 0.0), f"{where}.latency_s"),
            max_speed=_speed_bound(keys, "max_speed", where),
            margin=_speed_bound(keys, "margin", where),
            joints=strings(keys.get("joints", ()), f"{where}.joints"),
            field=text(keys.get("field", "position"), f"{where}.field"),
            names=strings(keys.get("names", ()), f"{where}.names"),
            size=_size(keys.get("size", ()), where),
            unit=text(keys.get("unit", ""), f"{where}.unit"),
            interpolate=flag(keys.get("interpolate", False), f"{where}.interpolate"),
            publishers=whole(keys.get("publishers", 1), f"{where}.publishers"),
            dtype=text(keys.get("dtype", "uint8" if kind == "image" else "float32"), f"{where}.dtype"),
        )
        stream._check(where)
        return stream

    def _check(self, where: str) -> None:
        if self.max_age_s <= 0.0:
            raise RobotYamlError(f"{where}.max_age_s is {self.max_age_s}, wanted seconds above 0")
        if self.kind == "joints":
            if not self.joints:
                raise RobotYamlError(f"{where}.joints is missing: name the joints as the driver does")
            if self.field not in JOINT_UNITS:
                raise RobotYamlError(f"{where}.field is '{self.field}', wanted {', '.join(JOINT_UNITS)}")
        for key in ("joints", "names"):
            refuse_twice(getattr(self, key), f"{where}.{key}")
        if self.is_image and len(self.size) != 2:
            raise RobotYamlError(f"{where}.size is {list(self.size)}, wanted [height, width] in px")
        if self.kind == "numbers":
            if not self.unit:
                raise RobotYamlError(f"{where}.unit is missing, for example m or 1")
            if bool(self.names) == bool(self.size):
                raise RobotYamlError(f"{where} takes either names or, for numbers without names, size")
        wanted = ("uint8",) if self.is_image else ("float32", "float64")
        if self.dtype not in wanted:
            raise RobotYamlError(f"{where}.dtype is '{self.dtype}', wanted {' or '.join(wanted)}")
        try:
            _ = self.spec
        except SpecMismatch as error:
            raise RobotYamlError(f"{where}: {error}") from error


def _row(stream: StreamConfig, message: Any) -> AnyArray:
    if stream.kind == "pose":
        row = decode.pose(message)
    elif stream.kind == "joints":
        row = decode.joint_values(message, stream.joints, stream.field)
    else:
        shape = stream.spec.shape
        row = decode.numbers(message, stream.names, int(np.prod(shape))).reshape(shape)
    cast: AnyArray = row.astype(stream.dtype)
    return cast


def _speed_bound(keys: Mapping[str, Any], key: str, where: str) -> float | tuple[float, ...] | None:
    """A number or a list of them, whose size and count the stream's spec checks."""
    value = keys.get(key)
    if value is None:
        wanted = _SPEED_BOUND.get(str(keys["kind"]))
        if wanted is not None:
            raise RobotYamlError(f"{where}.{key} is missing: {wanted[key]}")
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(number(each, f"{where}.{key}") for each in value)
    return number(value, f"{where}.{key}")
