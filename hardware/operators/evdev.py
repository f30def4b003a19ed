"""Linux input devices (/dev/input/event*): how they are found, what they say about themselves, and their records.

The layout of `struct input_event` and the EVIOCG* requests are the kernel's interface, see linux/input.h and
Documentation/input/event-codes.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

EVENT = struct.Struct("@llHHi")
"""`struct input_event`: seconds, microseconds, type, code, value."""
ABSINFO = struct.Struct("@6i")
"""`struct input_absinfo`: value, minimum, maximum, fuzz, flat, resolution."""

EV_SYN, EV_KEY, EV_ABS = 0x00, 0x01, 0x03
SYN_DROPPED = 3
"""The kernel's buffer ran over: events are missing."""

ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ = range(6)
ABS_HAT0X, ABS_HAT0Y = 0x10, 0x11
BTN_SOUTH = 0x130
"""Every gamepad has it, see Documentation/input/gamepad.rst."""

ABS_COUNT = 0x40
_READ = 2
"""Direction bits of an ioctl request that reads."""


class Event(NamedTuple):
    """One record: see linux/input-event-codes.h for `type` and `code`."""

    type: int
    code: int
    value: int


class AxisRange(NamedTuple):
    """Least and largest value of an absolute axis."""

    minimum: int
    maximum: int


class InputNode(NamedTuple):
    """An input device as sysfs shows it, which anyone may read.

    Attributes:
        path: Its device file.
        name: Its own name.
        keys: Codes of its keys and buttons.
        axes: Codes of its absolute axes.
    """

    path: Path
    name: str
    keys: frozenset[int]
    axes: frozenset[int]

    @property
    def is_gamepad(self) -> bool:
        """Whether it has a gamepad's buttons and a stick."""
        return BTN_SOUTH in self.keys and {ABS_X, ABS_Y} <= self.axes

    @property
    def is_readable(self) -> bool:
        """Whether this user may read it."""
        return os.access(self.path, os.R_OK)


def input_nodes(root: Path = Path("/")) -> Iterator[InputNode]:
    """Every input device, in the order of their numbers.

    Args:
        root: File system to read.
    """
    entries = sorted((root / "sys/class/input").glob("event*"), key=lambda entry: (len(entry.name), entry.name))
    for entry in entries:
        about = entry / "device"
        yield InputNode(
            root / "dev/input" / entry.name,
            _text(about / "name"),
            _bits(_text(about / "capabilities/key")),
            _bits(_text(about / "capabilities/abs")),
        )


def _text(file: Path) -> str:
    """A sysfs file; empty if the device went away meanwhile."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _bits(words: str) -> frozenset[int]:
    """Numbers of the bits set in sysfs's bitmap: hexadecimal longs, the most significant first."""
    width = 8 * struct.calcsize("@L")
    values = [int(word, 16) for word in reversed(words.split())]
    return frozenset(
        place * width + bit for place, value in enumerate(values) for bit in range(width) if value >> bit & 1
    )


def axis_ranges(fd: int) -> dict[int, AxisRange]:
    """Range of every absolute axis of an open device (EVIOCGBIT, EVIOCGABS)."""
    bitmap = bytearray(ABS_COUNT // 8)
    fcntl.ioctl(fd, read_request(0x20 + EV_ABS, len(bitmap)), bitmap)
    ranges = {}
    for code in range(ABS_COUNT):
        if bitmap[code // 8] >> code % 8 & 1:
            info = bytearray(ABSINFO.size)
            fcntl.ioctl(fd, read_request(0x40 + code, ABSINFO.size), info)
            _, minimum, maximum, *_ = ABSINFO.unpack(info)
            ranges[code] = AxisRange(minimum, maximum)
    return ranges


def read_request(number: int, size: int) -> int:
    """The ioctl request `_IOR('E', number, size)` of linux/ioctl.h."""
    return _READ << 30 | size << 16 | ord("E") << 8 | number


def events(data: bytes) -> Iterator[Event]:
    """The records in what was read; the kernel gives whole ones, and anything short at the end is left out."""
    whole = len(data) - len(data) % EVENT.size
    for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
        yield Event(kind, code, value)
