"""What a camera is to everything else: stamped frames, or an error that says why there are none.

Sources are used as context managers and may be entered again after they were left, which is how a camera that was
unplugged comes back (`reopening.py`). They need no ROS: a driver in process reads them through `reader.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import RobotRLError

Picture = npt.NDArray[np.uint8]
"""Shape (height, width, 3), RGB."""


class CameraLost(RobotRLError):
    """The camera is not there or stopped working; opening it again may help."""


class NoFrame(RobotRLError):
    """The camera is there, but no frame came in time."""


class ControlRefused(RobotRLError):
    """A camera does not take a setting; it is used with the settings that were asked for, or not at all."""


class BadFrame(RobotRLError):
    """A frame that holds no picture."""


@dataclass(frozen=True)
class Frame:
    """One picture, as the camera gave it.

    Attributes:
        stamp_ns: Capture time, on the clock that the source was given [ns].
        width: [px].
        height: [px].
        image: Decoded, None where the camera compresses; `rgb` decodes then.
        jpeg: As the camera compressed it, None where it does not.
    """

    stamp_ns: int
    width: int
    height: int
    image: Picture | None = None
    jpeg: bytes | None = None

    def rgb(self) -> Picture:
        """The decoded picture, shape (height, width, 3).

        Raises:
            BadFrame: The JPEG is damaged, or there is neither image nor JPEG.
        """
        if self.image is not None:
            return self.image
        if self.jpeg is None:
            raise BadFrame("a frame has neither image nor JPEG; its source must give one of them")
        return decode_jpeg(self.jpeg)

    def encoded(self, quality: int) -> bytes:
        """The picture as JPEG: the camera's own where it compresses, else of `quality` (1 to 100)."""
        if self.jpeg is not None:
            return self.jpeg
        return encode_jpeg(self.rgb(), quality)


class FrameSource(Protocol):
    """A camera. Entering opens it, leaving releases it; both may be repeated."""

    @property
    def fps(self) -> float:
        """Frames per second that the camera says it delivers; 0 before it is entered where only it knows."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self, timeout_s: float) -> Frame:
        """The next frame.

        Raises:
            NoFrame: None came within `timeout_s`; asking again is fine.
            CameraLost: The camera must be opened again.
        """

    def set_control(self, name: str, value: float) -> None:
        """Changes a setting such as `exposure_ms` for good: it holds after the camera was opened again, too.

        Raises:
            ControlRefused: The camera has no such setting or does not take the value; the old one stays.
        """

    def describe(self) -> Mapping[str, str]:
        """Facts for people: which camera, which format, whose stamps, which settings."""


def decode_jpeg(jpeg: bytes) -> Picture:
    """A JPEG's picture, shape (height, width, 3).

    Raises:
        BadFrame: It is no JPEG or too damaged to decode.
    """
    # IGNORE_ORIENTATION: cameras do not turn their pictures, and a stray EXIF tag must not turn a training image.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    except cv2.error as error:
        raise BadFrame(f"{len(jpeg)} bytes are no JPEG: {error}") from error
    if image is None:
        raise BadFrame(f"{len(jpeg)} bytes are no JPEG that can be decoded; check the camera's cable and USB bandwidth")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def encode_jpeg(image: Picture, quality: int) -> bytes:
    """A picture as JPEG of `quality` (1 to 100)."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise BadFrame(f"OpenCV cannot write a picture of shape {image.shape} as JPEG")
    return bytes(encoded)


def resized(image: Picture, height: int, width: int) -> Picture:
    """A picture at another size; every source pixel counts when it shrinks. Shape (height, width, 3)."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
