"""A person with a 3Dconnexion SpaceMouse, read from /dev/hidraw* without any package.

A radio receiver shows a file for every puck that it could hear, of which one speaks; all of a device's are read.

The puck gives all six directions at once. Its reports, little endian, begin with their number: 1 is the translation
(three int16, or six with the rotation behind it on newer models), 2 the rotation, 3 the buttons as bits. While the puck
is deflected they come every 8 ms (16 ms by radio), and a few with zeros when it is let go. HID gives the axes as
x to the right, y towards the person, z down, with right-handed rotations about them (HID Usage Tables, 4.2); here they
are turned into REP-103's: x forward, y to the left, z up.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hardware.operators.devices.device_events import (
    Change,
    Connection,
    DeviceFile,
    DeviceMissing,
    DeviceReader,
    EventStream,
)
from hardware.operators.devices.device_operator import (
    ButtonWishes,
    DeviceOperator,
    DeviceSettings,
    StickShape,
)
from hardware.operators.devices.event_recording import EventRecording, Playback, device_source
from hardware.operators.layout import Layout
from hardware.operators.terminal.key_events import KeyEvents, say_on_stderr
from hardware.operators.terminal.raw_terminal import RawTerminal
from robot_rl.core.specs import RobotSpec

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

LISTEN_S = 0.05
"""A puck that is held while it is opened has spoken within this: three reports by radio."""

MULTI_AXIS = bytes([0x05, 0x01, 0x09, 0x08])
"""How a multi-axis controller begins in a report descriptor: Generic Desktop, Multi-axis Controller."""
VENDOR = 0x256F
LOGITECH = 0x046D
LOGITECH_PRODUCTS = range(0xC603, 0xC62C)
"""Older models bear the number of 3Dconnexion's former owner."""

PERMISSION_REMEDY = (
    'echo \'KERNEL=="hidraw*", ATTRS{idVendor}=="256f", TAG+="uaccess"\' | '
    "sudo tee /etc/udev/rules.d/70-spacemouse.rules; sudo udevadm control --reload; then plug it in again"
)


class HidNode(NamedTuple):
    """A HID device as sysfs shows it, which anyone may read.

    Attributes:
        path: Its device file.
        name: Its own name.
        vendor: USB's number for its maker.
        product: The maker's number for it.
        descriptor: Its report descriptor.
        where: What it is plugged into, the same for every file of one device; empty if that is not known.
        plugged: Names this file's device until it is unplugged; file names are used again.
    """

    path: Path
    name: str
    vendor: int
    product: int
    descriptor: bytes
    where: str = ""
    plugged: str = ""

    @property
    def is_spacemouse(self) -> bool:
        """Whether it is the motion interface of a 3Dconnexion device; some have a keyboard's as well."""
        ours = self.vendor == VENDOR or (self.vendor == LOGITECH and self.product in LOGITECH_PRODUCTS)
        return ours and (not self.descriptor or MULTI_AXIS in self.descriptor)

    @property
    def device(self) -> tuple[int, int, str]:
        """The same for every file of one device."""
        return self.vendor, self.product, self.where or self.name

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
        # `usb-0000:00:14.0-2/input1` is the second file of what is plugged in there; by Bluetooth only the last counts.
        where = facts.get("HID_PHYS", "").rpartition("/input")[0] + facts.get("HID_UNIQ", "")
        name, plugged = facts.get("HID_NAME", entry.name), str((entry / "device").resolve())
        yield HidNode(root / "dev" / entry.name, name, vendor, product, described, where, plugged)


class SpaceMouseDecoder:
    """Turns a SpaceMouse's reports into changes of its controls."""

    def feed(self, data: bytes) -> list[Change]:
        """Deflections and buttons of whole reports, in order.

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


class DeviceFiles:
    """Files of one device read as one: a receiver shows some of which only one ever speaks. Losing one is losing all.

    Args:
        files: Open; at least one.
    """

    def __init__(self, files: Sequence[DeviceFile]) -> None:
        self.name = files[0].name
        self._files = list(files)
        self._ready = select.epoll()
        for file in files:
            # A regular file need not be waited for, and cannot.
            with contextlib.suppress(PermissionError):
                self._ready.register(file.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Ready when any of the files is."""
        return self._ready.fileno()

    def read(self) -> bytes:
        """What one file has to say, so that its records stay whole."""
        ended = 0
        for file in self._files:
            try:
                data = file.read()
            except BlockingIOError:
                continue
            if data:
                # Whoever spoke goes last, so that none is drowned out.
                self._files.remove(file)
                self._files.append(file)
                return data
            ended += 1
        if ended == len(self._files):
            return b""
        raise BlockingIOError

    def close(self) -> None:
        """Closes all files."""
        for file in self._files:
            file.close()
        self._ready.close()


def connect_spacemouse(
    device: str | None = None, root: Path = Path("/"), passed_over: set[str] | None = None
) -> Connection:
    """Opens a SpaceMouse, all files of it, and listens whether it is held.

    Args:
        device: Its device file, which alone is then read; None is the first SpaceMouse there is.
        root: File system to read.
        passed_over: Files of other pucks that lay there when it was opened; see `connect_gamepad`.

    Raises:
        DeviceMissing: There is none, or this user may not read it.
    """
    nodes = list(hid_nodes(root))
    passed_over = set() if passed_over is None else passed_over
    wanted = Path(device).resolve() if device else None
    found = [node for node in nodes if (node.is_spacemouse if wanted is None else node.path == wanted)]
    found = [node for node in found if node.plugged not in passed_over]
    if not found:
        there = _listed(nodes) or "no HID device at all"
        raise DeviceMissing(f"no SpaceMouse {device or 'under /dev/hidraw*'}: plug one in; there is {there}")
    first = next((node for node in found if node.is_readable), None)
    if first is None:
        raise DeviceMissing(f"SpaceMouse {_listed(found)} may not be read: {PERMISSION_REMEDY}")
    used = [node for node in found if node.device == first.device and node.is_readable]
    stream = _open(used)
    try:
        opening = _held(stream)
    except OSError as error:
        stream.close()
        raise DeviceMissing(f"SpaceMouse {_listed(used)} cannot be read: {error.strerror}") from error
    left = [node for node in nodes if node.is_spacemouse and node not in used]
    passed_over.update(node.plugged for node in left if node.device != first.device)
    return Connection(stream, SpaceMouseDecoder(), opening, notes=_notes(used, left))


def _listed(nodes: Iterable[HidNode]) -> str:
    return ", ".join(f"{node.path} ({node.name})" for node in nodes)


def _open(nodes: Sequence[HidNode]) -> EventStream:
    """The files of one device.

    Raises:
        DeviceMissing: One cannot be opened.
    """
    with contextlib.ExitStack() as opened:
        files = []
        for node in nodes:
            try:
                files.append(DeviceFile(node.path, node.name))
            except OSError as error:
                raise DeviceMissing(f"SpaceMouse {_listed([node])} cannot be opened: {error.strerror}") from error
            opened.callback(files[-1].close)
        opened.pop_all()
    return files[0] if len(files) == 1 else DeviceFiles(files)


def _held(stream: EventStream) -> list[Change]:
    """How far a puck is deflected that was just opened: hidraw does not tell, but a puck that is held speaks.

    Raises:
        OSError: The device is gone.
    """
    waiting, decoder = select.poll(), SpaceMouseDecoder()
    waiting.register(stream.fileno(), select.POLLIN)
    until_s, values = time.monotonic() + LISTEN_S, dict[str, float]()
    while (left_s := until_s - time.monotonic()) > 0 and waiting.poll(1000 * left_s):
        try:
            data = stream.read()
        except BlockingIOError:
            continue
        if not data:
            break
        values.update(decoder.feed(data))
    return [Change(control, value) for control, value in values.items()]


def _notes(used: Sequence[HidNode], left: Sequence[HidNode]) -> list[str]:
    """What to tell a person about a SpaceMouse that shows several files, or who has several."""
    notes = []
    if len(used) > 1:
        notes.append(f"it shows {len(used)} files, of which one speaks; all are heard: {_listed(used)}")
    if left:
        notes.append(f"not heard: {_listed(left)}; operator.device chooses, and it must be readable")
    return notes


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
        buttons: Fields of `ButtonWishes`.
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
    settings = DeviceSettings(name, ButtonWishes.of(buttons), deadman, StickShape.of(stick), correcting)
    settings.buttons.check(BUTTON_NAMES, deadman)
    layout = Layout.for_spec(spec, layouts)
    used = [*settings.buttons.used, *([deadman] if deadman else [])]
    layout.check_controls(spec.name, tuple(AXES), BUTTON_NAMES, used)
    connect = functools.partial(connect_spacemouse, passed_over=set())
    find = device_source("spacemouse", device, connect, play_spacemouse)
    reader = DeviceReader(find, repeating=AXES, rest_after_s=REST_AFTER_S, say=say_on_stderr)
    return DeviceOperator(spec, layout, reader, settings, KeyEvents(RawTerminal() if terminal_keys else None))
