"""Linux input devices (/dev/input/event*): how they are found, what they say about themselves, and their records.

The layout of `struct input_event` and the EVIOCG* requests are the kernel's interface, see linux/input.h and
Documentation/input/event-codes.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Collection, Iterator, Mapping
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
ABS_GAS, ABS_BRAKE = 0x09, 0x0A
ABS_HAT0X, ABS_HAT0Y, ABS_HAT1X, ABS_HAT1Y, ABS_HAT2X, ABS_HAT2Y = range(0x10, 0x16)
BTN_SOUTH = 0x130
"""Every gamepad has it, see Documentation/input/gamepad.rst."""
BTN_C, BTN_Z = 0x132, 0x135
"""No button of a gamepad by that document: a driver that has them counts a HID device's buttons."""
BTN_TL, BTN_TR, BTN_TL2, BTN_TR2 = range(0x136, 0x13A)
JOYSTICK_KEYS = range(0x120, 0x130)
"""BTN_JOYSTICK: flight sticks, and gamepads that call themselves a joystick."""

ABS_COUNT, KEY_COUNT = 0x40, 0x300
_READ = 2
"""Direction bits of an ioctl request that reads."""


def _numbered(prefix: str, runs: Mapping[int, str]) -> dict[int, str]:
    """Code to name, from the first code of every run to its names."""
    return {
        code: prefix + name for first, names in runs.items() for code, name in enumerate(names.split(), start=first)
    }


AXIS_NAMES: Mapping[int, str] = _numbered(
    "ABS_",
    {
        0x00: "X Y Z RX RY RZ THROTTLE RUDDER WHEEL GAS BRAKE",
        0x10: "HAT0X HAT0Y HAT1X HAT1Y HAT2X HAT2Y HAT3X HAT3Y",
        0x18: "PRESSURE DISTANCE TILT_X TILT_Y TOOL_WIDTH",
        0x20: "VOLUME PROFILE",
        0x28: "MISC",
    },
)
"""The kernel's names of absolute axes, as linux/input-event-codes.h has them."""
KEY_NAMES: Mapping[int, str] = _numbered(
    "BTN_",
    {
        0x100: "0 1 2 3 4 5 6 7 8 9",
        0x120: "TRIGGER THUMB THUMB2 TOP TOP2 PINKIE BASE BASE2 BASE3 BASE4 BASE5 BASE6",
        0x12F: "DEAD",
        0x130: "SOUTH EAST C NORTH WEST Z TL TR TL2 TR2 SELECT START MODE THUMBL THUMBR",
        0x220: "DPAD_UP DPAD_DOWN DPAD_LEFT DPAD_RIGHT",
        0x2C0: " ".join(f"TRIGGER_HAPPY{number}" for number in range(1, 41)),
    },
)
"""The kernel's names of the keys that gamepads and joysticks have."""


class Event(NamedTuple):
    """One record: see linux/input-event-codes.h for `type` and `code`."""

    type: int
    code: int
    value: int


class AxisRange(NamedTuple):
    """Least and largest value of an absolute axis."""

    minimum: int
    maximum: int


class DeviceState(NamedTuple):
    """Where a device is: the kernel knows it before any event comes.

    Attributes:
        values: Value of every absolute axis, by code.
        down: Codes of the keys and buttons that are down.
    """

    values: Mapping[int, int]
    down: frozenset[int]


class InputNode(NamedTuple):
    """An input device as sysfs shows it, which anyone may read.

    Attributes:
        path: Its device file.
        name: Its own name.
        keys: Codes of its keys and buttons.
        axes: Codes of its absolute axes.
        plugged: Names this device until it is unplugged; file names are used again.
    """

    path: Path
    name: str
    keys: frozenset[int]
    axes: frozenset[int]
    plugged: str = ""

    @property
    def is_gamepad(self) -> bool:
        """Whether it has a gamepad's buttons and a stick."""
        return BTN_SOUTH in self.keys and {ABS_X, ABS_Y} <= self.axes

    @property
    def is_joystick(self) -> bool:
        """Whether it has a joystick's buttons and axes: what they are for, only a person can tell."""
        return not self.is_gamepad and {ABS_X, ABS_Y} <= self.axes and bool(self.keys & set(JOYSTICK_KEYS))

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
            str(about.resolve()),
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
    return {code: AxisRange(minimum, maximum) for code, (_, minimum, maximum, *_) in _axes(fd).items()}


def keys_of(fd: int) -> frozenset[int]:
    """Codes of the keys and buttons of an open device (EVIOCGBIT)."""
    return _set_bits(_answer(fd, 0x20 + EV_KEY, KEY_COUNT // 8))


def device_state(fd: int) -> DeviceState:
    """Where the axes of an open device are and which of its keys are down (EVIOCGABS, EVIOCGKEY)."""
    down = _set_bits(_answer(fd, 0x18, KEY_COUNT // 8))
    return DeviceState({code: info[0] for code, info in _axes(fd).items()}, down)


def _axes(fd: int) -> dict[int, tuple[int, ...]]:
    """`ABSINFO` of every absolute axis."""
    codes = sorted(_set_bits(_answer(fd, 0x20 + EV_ABS, ABS_COUNT // 8)))
    return {code: ABSINFO.unpack(_answer(fd, 0x40 + code, ABSINFO.size)) for code in codes}


def _set_bits(bitmap: bytes | bytearray) -> frozenset[int]:
    """Numbers of the bits set in the kernel's bitmap: bit n is in byte n / 8."""
    return frozenset(bit for bit in range(8 * len(bitmap)) if bitmap[bit // 8] >> bit % 8 & 1)


def _answer(fd: int, number: int, size: int) -> bytearray:
    """What the kernel fills in for a request; zeros where it has less to say."""
    buffer = bytearray(size)
    fcntl.ioctl(fd, read_request(number, size), buffer)
    return buffer


def read_request(number: int, size: int) -> int:
    """The ioctl request `_IOR('E', number, size)` of linux/ioctl.h."""
    return _READ << 30 | size << 16 | ord("E") << 8 | number


def events(data: bytes) -> Iterator[Event]:
    """The records in what was read; the kernel gives whole ones, and anything short at the end is left out."""
    whole = len(data) - len(data) % EVENT.size
    for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
        yield Event(kind, code, value)


def axes_in_words(ranges: Mapping[int, AxisRange], values: Mapping[int, int]) -> str:
    """Axes by their kernel names, with their range and where they are."""
    words = []
    for code, each in ranges.items():
        at = f", at {values[code]}" if code in values else ""
        words.append(f"{AXIS_NAMES.get(code, hex(code))} ({each.minimum} to {each.maximum}{at})")
    return ", ".join(words) or "no axes"


def keys_in_words(keys: Collection[int]) -> str:
    """Keys and buttons by their kernel names."""
    return ", ".join(KEY_NAMES.get(code, hex(code)) for code in sorted(keys)) or "no buttons"
