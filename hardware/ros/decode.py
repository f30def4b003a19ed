"""From ROS messages to arrays: pure functions that read any object with a message's attributes.

rclpy, our own client and a bag reader hand over different classes with the same fields; one decoder for all of them is
what makes a recorded bag give the observations that a live session saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import BadMessage
from robot_rl.core.plausibility import QUATERNION_TOLERANCE
from robot_rl.core.specs import NS_PER_S

FloatRow = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

LARGEST_SIDE_PX = 8192
"""No camera that we know is larger; a message that claims more is damaged or hostile."""
LARGEST_PX = 12_000_000
"""Decoding takes about 10 ms per million; with one of 48 million a session heard nothing else for half a second."""
CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4, "8UC1": 1, "8UC3": 3}
"""Image encoding to bytes per pixel. `8UC3` is OpenCV's own order, blue first."""
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
}
HEADER_BYTES = 1 << 20
"""Within which a picture says its size; EXIF and colour profiles come before it."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment with a JPEG's size."""
_FIELDS = ("position", "velocity", "effort")


class OtherJoints(BadMessage):
    """A joint state of other joints altogether, as where arm and gripper publish on one topic."""


class SomeJoints(BadMessage):
    """A joint state of some of the wanted joints.

    Attributes:
        present: Those that it has, in the order wanted.
    """

    def __init__(self, words: str, present: Sequence[str]) -> None:
        super().__init__(words)
        self.present = tuple(present)


def stamp_ns(message: Any) -> int:
    """Capture time of a stamped message [ns]; 0 if its publisher does not stamp."""
    stamp = message.header.stamp
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def seconds_and_nanoseconds(time_ns: int) -> dict[str, int]:
    """The fields of a `builtin_interfaces/Time` or `Duration`."""
    sec, nanosec = divmod(time_ns, NS_PER_S)
    return {"sec": sec, "nanosec": nanosec}


def joint_values(message: Any, joints: Sequence[str], field: str = "position") -> FloatRow:
    """One value per joint, by name: the order of a JointState is its publisher's business.

    Args:
        message: JointState.
        joints: Wanted order.
        field: `position`, `velocity` or `effort`.

    Returns:
        Shape (len(joints),).

    Raises:
        OtherJoints: The message has none of the joints.
        SomeJoints: Some are missing.
        BadMessage: Some are twice there, the field is not filled, or a value is not finite.
    """
    names = [str(name) for name in message.name]
    missing = [joint for joint in joints if joint not in names]
    if missing:
        words = (
            f"no joint {quoted(missing)} in the message, which has {quoted(names)}; name the joints as the driver does"
        )
        if len(missing) == len(joints):
            raise OtherJoints(words)
        raise SomeJoints(words, [joint for joint in joints if joint in names])
    values = _field(message, field)
    if len(values) != len(names):
        raise BadMessage(
            f"{len(values)} values of '{field}' for {len(names)} joints; choose a field that the driver fills"
        )
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadMessage(f"joint {quoted(twice)} is in the message more than once; two drivers as one?")
    row = values[[names.index(joint) for joint in joints]]
    return _finite(row, joints)


def numbers(message: Any, names: Sequence[str], size: int) -> FloatRow:
    """A JointState used as stamped numbers; by name where they have names, else all of them in order.

    Args:
        message: JointState whose `position` holds the numbers.
        names: Wanted order; () for a stream without names.
        size: How many.

    Returns:
        Shape (size,).

    Raises:
        BadMessage: A name is missing, or there are more or fewer numbers.
    """
    if names:
        return joint_values(message, names)
    values = _field(message, "position")
    if len(values) != size:
        raise BadMessage(f"{len(values)} numbers in the message, wanted {size}; compare the yaml with the publisher")
    return _finite(values, [str(index) for index in range(size)])


def pose(message: Any) -> FloatRow:
    """Position and unit quaternion of a PoseStamped: x, y, z [m], qx, qy, qz, qw. Shape (7,).

    Raises:
        BadMessage: A number is not finite, or the quaternion is no rotation.
    """
    place, turn = message.pose.position, message.pose.orientation
    row = np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w], dtype=np.float64)
    _finite(row, ("x", "y", "z", "qx", "qy", "qz", "qw"))
    length = float(np.linalg.norm(row[3:]))
    if abs(length - 1.0) > QUATERNION_TOLERANCE:
        raise BadMessage(f"the pose's quaternion has length {length:.3g}, wanted 1; the driver does not fill it")
    row[3:] /= length
    return row


def image(message: Any, size: Sequence[int]) -> Picture:
    """An Image as RGB of the wanted size.

    Args:
        message: Image of an encoding in `CHANNELS`; rows may be padded (`step`).
        size: Height and width [px].

    Returns:
        Shape (height, width, 3).

    Raises:
        BadMessage: Another encoding, or the data does not fit the header.
    """
    encoding = str(message.encoding)
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise BadMessage(f"image encoding is '{encoding}', wanted one of {', '.join(CHANNELS)}; set it in the driver")
    height, width, step = int(message.height), int(message.width), int(message.step)
    _check_size(height, width)
    data = _bytes(message.data)
    if step < width * channels or len(data) < step * (height - 1) + width * channels:
        raise BadMessage(f"an {encoding} image of {width}x{height} px, step {step}, with {len(data)} bytes is damaged")
    rows = np.lib.stride_tricks.as_strided(data, (height, width, channels), (step, channels, 1), writeable=False)
    code = _TO_RGB.get(encoding)
    # Always a copy: the transport may use its buffer again.
    pixels = np.array(rows) if code is None else cv2.cvtColor(np.ascontiguousarray(rows), code)
    return _resized(pixels, size)


def compressed_image(message: Any, size: Sequence[int]) -> Picture:
    """A CompressedImage (JPEG or PNG) as RGB of the wanted size. Shape (height, width, 3).

    Raises:
        BadMessage: Not a readable picture.
    """
    data = _bytes(message.data)
    claimed = _claimed_size(data)
    if claimed is not None:
        _check_size(*claimed)
    pixels = None if claimed is None else cv2.imdecode(data, cv2.IMREAD_COLOR)
    if pixels is None:
        raise BadMessage(f"{len(data)} bytes of format '{message.format}' are no readable JPEG or PNG")
    return _resized(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), size)


def quoted(names: Iterable[str]) -> str:
    """Names for an error."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _field(message: Any, field: str) -> FloatRow:
    if field not in _FIELDS:
        raise BadMessage(f"field '{field}' of a JointState: wanted {', '.join(_FIELDS)}")
    return np.array(getattr(message, field), dtype=np.float64)


def _finite(row: FloatRow, names: Sequence[str]) -> FloatRow:
    for name, value in zip(names, row.tolist(), strict=True):
        if not math.isfinite(value):
            raise BadMessage(f"'{name}' is {value} in the message, wanted a finite number")
    return row


def _bytes(data: Any) -> npt.NDArray[np.uint8]:
    """A message's bytes without a copy, whichever container its backend uses."""
    if isinstance(data, np.ndarray):
        return data.view(np.uint8).reshape(-1)
    return np.frombuffer(data, dtype=np.uint8)


def _claimed_size(data: npt.NDArray[np.uint8]) -> tuple[int, int] | None:
    """Height and width that a JPEG's or PNG's header claims, before anything is decoded; None if it is neither."""
    head = data[:HEADER_BYTES].tobytes()
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    at = 2 if head[:2] == b"\xff\xd8" else len(head)
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _JPEG_FRAMES:
            return int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def _check_size(height: int, width: int) -> None:
    if not (0 < height <= LARGEST_SIDE_PX and 0 < width <= LARGEST_SIDE_PX):
        raise BadMessage(f"an image of {width}x{height} px, wanted sides of 1 to {LARGEST_SIDE_PX} px")
    if height * width > LARGEST_PX:
        raise BadMessage(
            f"an image of {width}x{height} px, wanted at most {LARGEST_PX} px; set a smaller one in the camera's driver"
        )


def _resized(pixels: Any, size: Sequence[int]) -> Picture:
    height, width = size
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Picture = cv2.resize(pixels, (width, height), interpolation=method)
    return resized
