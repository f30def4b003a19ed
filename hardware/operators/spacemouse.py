"""A person with a 3Dconnexion SpaceMouse, read from /dev/hidraw* without any package.

The puck gives all six directions at once. Its reports, little endian, begin with their number: 1 is the translation
(three int16, or six with the rotation behind it on newer models), 2 the rotation, 3 the buttons as bits. While the puck
is deflected they come every 8 ms (16 ms by radio), and a few with zeros when it is let go. HID gives the axes as
x to the right, y towards the person, z down, with right-handed rotations about them (HID Usage Tables, 4.2); here they
are turned into REP-103's: x forward, y to the left, z up.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hardware.operators.device_events import Change, Connection, DeviceFile, DeviceMissing, DeviceReader
from hardware.operators.device_operator import ButtonMeanings, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.event_recording import EventRecording, Playback, device_source
from hardware.operators.key_events import KeyEvents
from hardware.operators.layout import Layout
from hardware.operators.terminal import RawTerminal
from robot_rl.types import RobotSpec

TRANSLATION, ROTATION, BUTTONS = 1, 2, 3
"""Report numbers."""

AXES = {
    "x": (TRANSLATION, 1, -1.0),
    "y": (TRANSLATION, 0, -1.0),
    "z": (TRANSLATION, 2, -1.0),
    "roll": (ROTATION, 1, -1.0),
    "pitch": (ROTATION, 0, -1.0),
    "yaw": (ROTATION, 2, -1.0),
}
"""Axis to the report it is in, its place there and its sign; rotations are about x, y and z."""
BUTTON_COUNT = 32
BUTTON_NAMES = tuple(f"button_{number}" for number in range(1, BUTTON_COUNT + 1))
"""On a puck with two buttons the left one is `button_1`, the right one `button_2`."""

FULL_SCALE = 350.0
"""What a fully deflected puck reports, on every model."""
REST_AFTER_S = 0.2
"""A deflected puck that has said nothing for this long is out of reach or has an empty battery."""

MULTI_AXIS = bytes([0x05, 0x01, 0x09, 0x08])
"""How the report descriptor of a multi-axis controller begins: Generic Desktop, Multi-axis Controller."""
VENDOR = 0x256F
LOGITECH = 0x046D
LOGITECH_PRODUCTS = range(0xC603, 0xC62C)
"""Older models bear the number of 3Dconnexion's former owner."""

PERMISSION_REMEDY = (
    'echo \'KERNEL=="hidraw*", ATTRS{idVendor}=="256f", TAG+="uaccess"\' | '
    "sudo tee /etc/udev/rules.d/70-spacemouse.rules; sudo udevadm control --reload; then plug it in again"
)


class HidNode(NamedTuple):
    """A HID device as sysfs shows it, which anyone may read."""

    path: Path
    name: str
    vendor: int
    product: int
    descriptor: bytes

    @property
    def is_spacemouse(self) -> bool:
        """Whether it is the motion interface of a 3Dconnexion device; some have a keyboard's as well."""
        ours = self.vendor == VENDOR or (self.vendor == LOGITECH and self.product in LOGITECH_PRODUCTS)
        return ours and (not self.descriptor or self.descriptor.startswith(MULTI_AXIS))

    @property
    def is_readable(self) -> bool:
        """Whether this user may read it."""
        return os.access(self.path, os.R_OK)


def hid_nodes(root: Path = Path("/")) -> Iterator[HidNode]:
    """Every HID device, in the order of their numbers.

    Args:
        root: File system to read.
    """
    entries = sorted((root / "sys/class/hidraw").glob("hidraw*"), key=lambda entry: (len(entry.name), entry.name))
    for entry in entries:
        descriptor = entry / "device/report_descriptor"
        try:
            lines = (entry / "device/uevent").read_text().splitlines()
            facts = dict(line.split("=", 1) for line in lines if "=" in line)
            _, vendor, product = (int(part, 16) for part in facts["HID_ID"].split(":"))
            described = descriptor.read_bytes() if descriptor.exists() else b""
        except (OSError, KeyError, ValueError):
            # It went away meanwhile, or is none that has an identity.
            continue
        yield HidNode(root / "dev" / entry.name, facts.get("HID_NAME", entry.name), vendor, product, described)


class SpaceMouseDecoder:
    """Turns a SpaceMouse's reports into changes of its controls."""

    def feed(self, data: bytes) -> list[Change]:
        """See `device_events.Decoder`.

        Args:
            data: One report.
        """
        if not data:
            return []
        report, content = data[0], data[1:]
        if report == BUTTONS:
            bits = int.from_bytes(content[: BUTTON_COUNT // 8], "little")
            return [Change(name, float(bits >> place & 1)) for place, name in enumerate(BUTTON_NAMES)]
        if report == TRANSLATION and len(content) >= 12:
            return [*_axes(TRANSLATION, content), *_axes(ROTATION, content[6:])]
        if report in (TRANSLATION, ROTATION) and len(content) >= 6:
            return _axes(report, content)
        return []


def _axes(report: int, content: bytes) -> list[Change]:
    """The three axes of a report."""
    values = struct.unpack_from("<3h", content)
    return [
        Change(name, sign * min(1.0, max(-1.0, values[place] / FULL_SCALE)))
        for name, (where, place, sign) in AXES.items()
        if where == report
    ]


def connect_spacemouse(device: str | None = None, root: Path = Path("/")) -> Connection:
    """Opens a SpaceMouse.

    Args:
        device: Its device file; None is the first SpaceMouse there is.
        root: File system to read.

    Raises:
        DeviceMissing: There is none, or this user may not read it.
    """
    nodes = list(hid_nodes(root))
    wanted = Path(device).resolve() if device else None
    found = [node for node in nodes if (node.is_spacemouse if wanted is None else node.path == wanted)]
    if not found:
        there = ", ".join(f"{node.path} ({node.name})" for node in nodes) or "no HID device at all"
        raise DeviceMissing(f"no SpaceMouse {device or 'under /dev/hidraw*'}: plug one in; there is {there}")
    node = next((node for node in found if node.is_readable), None)
    if node is None:
        raise DeviceMissing(f"SpaceMouse {found[0].path} ({found[0].name}) may not be read: {PERMISSION_REMEDY}")
    try:
        return Connection(DeviceFile(node.path, node.name), SpaceMouseDecoder())
    except OSError as error:
        raise DeviceMissing(f"SpaceMouse {node.path} ({node.name}) cannot be opened: {error.strerror}") from error


def play_spacemouse(recording: EventRecording) -> Connection:
    """A recorded SpaceMouse in place of a real one."""
    return Connection(Playback(recording), SpaceMouseDecoder())


def spacemouse_operator(
    spec: RobotSpec,
    layouts: Mapping[str, Any],
    buttons: Mapping[str, str],
    deadman: str = "",
    stick: Mapping[str, float] | None = None,
    name: str = "spacemouse",
    correcting: bool = False,
    device: str | None = None,
    terminal_keys: bool = True,
) -> DeviceOperator:
    """An operator with a SpaceMouse, whose puck springs back by itself.

    Args:
        spec: The robot's.
        layouts: Robot name to its controls; see `Layout.for_spec`.
        buttons: Fields of `ButtonMeanings`.
        deadman: Button that must be held for anything to move; empty for none.
        stick: Fields of `StickShape`.
        name: Who drives; recorded with every episode.
        correcting: Whether a policy drives until the operator takes over.
        device: Device file, or a recording of one; None is the first SpaceMouse there is.
        terminal_keys: Whether the keyboard's keys for labels, pause and stop are heard as well, since most pucks have
            two buttons.

    Raises:
        LayoutError: The layout does not fit the robot, or names a control that a SpaceMouse does not have.
    """
    settings = DeviceSettings(name, ButtonMeanings.of(buttons), deadman, StickShape(**(stick or {})), correcting)
    settings.meanings.check(BUTTON_NAMES, deadman)
    layout = Layout.for_spec(spec, layouts)
    used = [*settings.meanings.used, *([deadman] if deadman else [])]
    layout.check_controls(spec.name, tuple(AXES), BUTTON_NAMES, used)
    find = device_source("spacemouse", device, connect_spacemouse, play_spacemouse)
    reader = DeviceReader(find, repeating=AXES, rest_after_s=REST_AFTER_S)
    return DeviceOperator(spec, layout, reader, settings, KeyEvents(RawTerminal() if terminal_keys else None))
