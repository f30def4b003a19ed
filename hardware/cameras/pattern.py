"""A camera without a camera: a moving pattern that carries its own capture time.

The time is written into the picture itself, so that whoever receives it, through whatever encoder, network and
resizing, can tell how old it is and whether one is missing, whatever its header claims.

Layout: the top quarter is a grid of 5 rows and 18 columns of black and white cells. The outer columns alternate,
which gives the decoder its levels; the 80 cells between them are the stamp (64 bit, nanoseconds, most significant
first) and its CRC-16. Cells are fractions of the picture, so that its size does not matter.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from hardware.cameras.frame_source import ControlRefused, Frame, NoFrame, Picture
from hardware.cameras.pacing import FramePacer
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S

ROWS, DATA_COLUMNS = 5, 16
COLUMNS = DATA_COLUMNS + 2
STRIP = 0.25
"""Share of the picture's height that the cells take."""
BLACK, WHITE = 24, 232
LEAST_CONTRAST = 48.0
"""Distance of the two levels below which a picture is said to hold no stamp."""
SMALLEST_CELL_PX = 2
SCROLL_S = 4.0
"""Seconds in which the pattern moves by one picture's width."""
_SUBSAMPLES = 4


class NoStamp(RobotRLError):
    """A picture without a readable capture time."""


class PatternCamera:
    """Draws the pattern at a fixed rate. A frame's stamp is its place on the rate's grid, as a sensor's would be.

    Args:
        clock: Stamps and paces the frames.
        width: [px].
        height: [px].
        fps: Frames per second.

    Raises:
        RobotRLError: The picture is too small for a stamp, or the rate is not positive.
    """

    def __init__(self, *, clock: Clock, width: int = 640, height: int = 480, fps: float = 30.0) -> None:
        _require_room(width, height)
        self.fps = fps
        self._width, self._height = width, height
        self._pacer = FramePacer(clock, fps)
        self._background = _background(width, height)

    def __enter__(self) -> Self:
        self._pacer.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def read(self, timeout_s: float) -> Frame:
        """The pattern of the next moment of its rate."""
        due = self._pacer.next_frame(timeout_s)
        if due is None:
            raise NoFrame(f"the pattern's next frame is more than {timeout_s:.3f} s away")
        stamp_ns = due[1]
        return Frame(stamp_ns, self._width, self._height, image=self.draw(stamp_ns))

    def draw(self, stamp_ns: int) -> Picture:
        """The picture of a moment, shape (height, width, 3)."""
        shift = int(stamp_ns % round(SCROLL_S * NS_PER_S) / (SCROLL_S * NS_PER_S) * self._width)
        picture = self._background[:, shift : shift + self._width].copy()
        write_stamp(picture, stamp_ns)
        return picture

    def set_control(self, name: str, value: float) -> None:
        """Refuses: there is no sensor."""
        raise ControlRefused(f"{name} cannot be set to {value:g}: a generated pattern has no settings")

    def describe(self) -> Mapping[str, str]:
        """Size, rate, whose stamps, and moments that nobody asked for in time."""
        return {
            "source": "generated pattern",
            "format": f"{self._width}x{self._height} at {self.fps:g} Hz",
            "stamps": "the moment for which the picture was drawn",
            "skipped": str(self._pacer.skipped),
        }


def write_stamp(image: Picture, stamp_ns: int) -> None:
    """Writes a capture time over the top of a picture, in place.

    Args:
        image: Shape (height, width, 3).
        stamp_ns: Not negative, below 2^64 [ns].
    """
    height, width = image.shape[:2]
    _require_room(width, height)
    cells = _cells(stamp_ns)
    rows = np.repeat(np.arange(ROWS), np.diff(_edges(round(height * STRIP), ROWS)))
    columns = np.repeat(np.arange(COLUMNS), np.diff(_edges(width, COLUMNS)))
    image[: len(rows)] = cells[rows][:, columns, None]


def decode_stamp(image: Picture) -> int:
    """The capture time written into a picture [ns], whatever happened to its size, sharpness and contrast since.

    Args:
        image: The whole picture, shape (height, width, 3).

    Raises:
        NoStamp: The picture holds none, or it is damaged.
    """
    height, width = image.shape[:2]
    strip = image[: max(1, round(height * STRIP)), :, 1]
    size = (COLUMNS * _SUBSAMPLES, ROWS * _SUBSAMPLES)
    fine = cv2.resize(strip, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    # Only the middle of each cell counts: encoders and resizing smear its edges.
    middle = slice(_SUBSAMPLES // 4, _SUBSAMPLES - _SUBSAMPLES // 4)
    levels = fine.reshape(ROWS, _SUBSAMPLES, COLUMNS, _SUBSAMPLES)[:, middle, :, middle].mean(axis=(1, 3))
    known = _known_columns()
    outer = levels[:, [0, -1]]
    bright, dark = float(outer[known].mean()), float(outer[~known].mean())
    if bright - dark < LEAST_CONTRAST:
        raise NoStamp(f"a {width}x{height} picture shows no stamp: its outer cells differ by {bright - dark:.0f}")
    bits = levels[:, 1:-1].ravel() > (bright + dark) / 2.0
    data = np.packbits(bits).tobytes()
    stamp, checksum = data[:8], int.from_bytes(data[8:], "big")
    if binascii.crc_hqx(stamp, 0) != checksum:
        raise NoStamp(f"the stamp in a {width}x{height} picture is damaged: its checksum does not fit")
    return int.from_bytes(stamp, "big")


def _cells(stamp_ns: int) -> npt.NDArray[np.uint8]:
    """Grey level of every cell. Shape (ROWS, COLUMNS)."""
    stamp = stamp_ns.to_bytes(8, "big")
    data = stamp + binascii.crc_hqx(stamp, 0).to_bytes(2, "big")
    bits = np.empty((ROWS, COLUMNS), bool)
    bits[:, 1:-1] = np.unpackbits(np.frombuffer(data, np.uint8)).reshape(ROWS, DATA_COLUMNS)
    bits[:, [0, -1]] = _known_columns()
    return np.where(bits, WHITE, BLACK).astype(np.uint8)


def _known_columns() -> npt.NDArray[np.bool_]:
    """Which cells of the first and the last column are white. Shape (ROWS, 2)."""
    white: npt.NDArray[np.bool_] = (np.arange(ROWS)[:, None] + np.arange(2)) % 2 == 0
    return white


def _edges(length_px: int, count: int) -> npt.NDArray[np.int64]:
    """Where cells begin and end. Shape (count + 1,)."""
    return np.rint(np.linspace(0.0, length_px, count + 1)).astype(np.int64)


def _require_room(width: int, height: int) -> None:
    least = (COLUMNS * SMALLEST_CELL_PX, round(ROWS * SMALLEST_CELL_PX / STRIP))
    if width < least[0] or height < least[1]:
        raise RobotRLError(f"a pattern of {width}x{height} has no room for its stamp: wanted {least[0]}x{least[1]}")


def _background(width: int, height: int) -> Picture:
    """A picture twice as wide as a frame that repeats itself, so that a moving window of it never jumps."""
    x = np.arange(2 * width) * (2.0 * np.pi / width)
    y = np.arange(height)[:, None] * (2.0 * np.pi / height)
    waves = [np.sin(x) * np.cos(2.0 * y), np.sin(3.0 * x + y), np.cos(5.0 * x) * np.sin(4.0 * y)]
    return np.clip(np.rint(127.5 + 100.0 * np.stack(waves, axis=-1)), 0, 255).astype(np.uint8)
