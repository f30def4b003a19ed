"""One observation stream of a robot's yaml: where it comes from, what it becomes, how old it may be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from hardware.ros import decode
from hardware.ros.yaml_section import RobotYamlError, Topic, refuse_twice
from hardware.sync import Interpolation, StreamTiming
from robot_rl.core import section
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.section import Count, NotNegative, Seconds, Wanted, one_of
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
Pixels = Annotated[int, Wanted("whole numbers above 0", lambda value: value > 0)]


@dataclass(frozen=True)
class StreamConfig:
    """A stream as the yaml has it, checked.

    Attributes:
        name: What the robot's spec calls it.
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
        dtype: Of the arrays that its messages become.
        max_speed: What it can physically change by per second, one number or one per element, as in `ArraySpec`; a
            sample beyond it is not used. None, of kind `numbers`, takes every sample.
        margin: By how much two samples may differ beyond that, likewise.
    """

    name: str
    kind: str
    topic: Topic
    max_age_s: Seconds
    latency_s: NotNegative = 0.0
    joints: tuple[str, ...] = ()
    field: Annotated[str, one_of(JOINT_UNITS)] = "position"
    names: tuple[str, ...] = ()
    size: tuple[Pixels, ...] = ()
    unit: str = ""
    interpolate: bool = False
    publishers: Count = 1
    dtype: str = "float32"
    max_speed: NotNegative | tuple[NotNegative, ...] | None = None
    margin: NotNegative | tuple[NotNegative, ...] | None = None

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
            name: What the robot's spec is to call it.
            document: Its settings.
            where: The section they are in, for errors; a robot's streams if empty.

        Raises:
            RobotYamlError: Names the stream, the key, what it is and what was wanted.
        """
        where = where or f"robot.streams.{name}"
        settings = section.mapping(document, where, RobotYamlError)
        kind = section.value_of(
            Annotated[str, one_of(_KINDS, f"one of {', '.join(_KINDS)}")],
            settings.get("kind"),
            f"{where}.kind",
            RobotYamlError,
        )
        size = settings.get("size", ())
        settings |= {"size": [size] if type(size) is int else size} if "size" in settings else {}
        for key, words in _SPEED_BOUND.get(kind, {}).items():
            section.require(settings, [key], where, RobotYamlError, f": {words}")
        settings.setdefault("dtype", "uint8" if kind == "image" else "float32")
        takes, of = _ALWAYS | _KINDS[kind], f" of kind '{kind}'"
        stream = section.read(cls, settings, where, RobotYamlError, keys=takes, of=of, name=name)
        stream._check(where)
        return stream

    def _check(self, where: str) -> None:
        if self.kind == "joints" and not self.joints:
            raise RobotYamlError(f"{where}.joints is missing: name the joints as the driver does")
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
