"""A person with a gamepad, read from /dev/input/event* without any package.

Names of buttons are those printed on an Xbox pad. The kernel names the two buttons above by their letter on some pads
and by their place on others: what is `x` on an Xbox pad is the triangle on a PlayStation's, `y` the square.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware.operators import evdev
from hardware.operators.device_events import Change, Connection, DeviceFile, DeviceMissing, DeviceReader
from hardware.operators.device_operator import ButtonMeanings, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.evdev import EV_ABS, EV_KEY, EV_SYN, SYN_DROPPED, AxisRange
from hardware.operators.event_recording import EventRecording, Playback, device_source
from hardware.operators.key_events import KeyEvents
from hardware.operators.layout import Layout, LayoutError
from hardware.operators.terminal import RawTerminal
from robot_rl.types import RobotSpec

STICKS = ("left_x", "left_y", "right_x", "right_y")
"""-1 to 1; right and down (towards the person) are positive, as the kernel has it."""
TRIGGERS = ("left_trigger", "right_trigger")
"""0 to 1."""
DPAD = {evdev.ABS_HAT0X: ("dpad_left", "dpad_right"), evdev.ABS_HAT0Y: ("dpad_up", "dpad_down")}
BUTTONS = {
    0x130: "a",
    0x131: "b",
    0x133: "x",
    0x134: "y",
    0x136: "left_bumper",
    0x137: "right_bumper",
    0x13A: "select",
    0x13B: "start",
    0x13C: "mode",
    0x13D: "left_stick",
    0x13E: "right_stick",
    0x220: "dpad_up",
    0x221: "dpad_down",
    0x222: "dpad_left",
    0x223: "dpad_right",
}
DIGITAL_TRIGGERS = {0x138: "left_trigger", 0x139: "right_trigger"}
"""What pads send whose triggers are buttons; others send these beside the trigger's axis."""
ALL_BUTTONS = tuple(dict.fromkeys([*BUTTONS.values(), *TRIGGERS]))

PERMISSION_REMEDY = "sudo usermod -aG input $USER, then log in again"


class GamepadDecoder:
    """Turns a gamepad's events into changes of its controls.

    Args:
        ranges: Of its axes, by code.
    """

    def __init__(self, ranges: Mapping[int, AxisRange]) -> None:
        self._ranges = dict(ranges)
        self._names = _axis_names(self._ranges)
        self._buttons = dict(BUTTONS)
        if not set(TRIGGERS) & set(self._names.values()):
            self._buttons |= DIGITAL_TRIGGERS
        self._dropping = False

    def feed(self, data: bytes) -> list[Change]:
        """See `device_events.Decoder`. Events were lost: everything is at rest until it is moved again."""
        changes: list[Change] = []
        for event in evdev.events(data):
            if event.type == EV_SYN:
                if event.code == SYN_DROPPED:
                    self._dropping = True
                    changes += [Change(control, 0.0) for control in (*STICKS, *ALL_BUTTONS)]
                else:
                    self._dropping = False
            elif not self._dropping:
                changes += self._changes(event)
        return changes

    def _changes(self, event: evdev.Event) -> list[Change]:
        if event.type == EV_KEY and event.code in self._buttons:
            return [Change(self._buttons[event.code], float(event.value != 0))]
        if event.type != EV_ABS:
            return []
        if event.code in DPAD:
            minus, plus = DPAD[event.code]
            return [Change(minus, float(event.value < 0)), Change(plus, float(event.value > 0))]
        if event.code in self._names:
            name = self._names[event.code]
            share = _share(event.value, self._ranges[event.code])
            return [Change(name, share if name in TRIGGERS else 2.0 * share - 1.0)]
        return []


def _axis_names(ranges: Mapping[int, AxisRange]) -> dict[int, str]:
    """Code to name; older pads have the right stick where others have the triggers."""
    names = {evdev.ABS_X: "left_x", evdev.ABS_Y: "left_y"}
    if evdev.ABS_RX in ranges:
        names |= {evdev.ABS_RX: "right_x", evdev.ABS_RY: "right_y"}
        names |= {evdev.ABS_Z: "left_trigger", evdev.ABS_RZ: "right_trigger"}
    else:
        names |= {evdev.ABS_Z: "right_x", evdev.ABS_RZ: "right_y"}
    return {code: name for code, name in names.items() if code in ranges}


def _share(value: int, axis: AxisRange) -> float:
    """Where in its range a value is, 0 to 1; an axis without a range is in the middle."""
    if axis.maximum <= axis.minimum:
        return 0.5
    return min(1.0, max(0.0, (value - axis.minimum) / (axis.maximum - axis.minimum)))


def connect_gamepad(device: str | None = None, root: Path = Path("/")) -> Connection:
    """Opens a gamepad.

    Args:
        device: Its device file; None is the first gamepad there is.
        root: File system to read.

    Raises:
        DeviceMissing: There is none, or this user may not read it.
    """
    nodes = list(evdev.input_nodes(root))
    # A name under /dev/input/by-id stays the same from one boot to the next.
    wanted = Path(device).resolve() if device else None
    found = [node for node in nodes if (node.is_gamepad if wanted is None else node.path == wanted)]
    if not found:
        there = ", ".join(f"{node.path} ({node.name})" for node in nodes) or "no input device at all"
        raise DeviceMissing(f"no gamepad {device or 'under /dev/input'}: plug one in; there is {there}")
    node = next((node for node in found if node.is_readable), None)
    if node is None:
        raise DeviceMissing(f"gamepad {found[0].path} ({found[0].name}) may not be read: {PERMISSION_REMEDY}")
    try:
        stream = DeviceFile(node.path, node.name)
    except OSError as error:
        raise DeviceMissing(f"gamepad {node.path} ({node.name}) cannot be opened: {error.strerror}") from error
    try:
        return Connection(stream, GamepadDecoder(evdev.axis_ranges(stream.fileno())))
    except OSError as error:
        stream.close()
        raise DeviceMissing(f"{node.path} ({node.name}) does not say what axes it has: {error.strerror}") from error


def about_gamepad(connection: Connection) -> dict[str, Any]:
    """What a recording must know of an open gamepad."""
    ranges = evdev.axis_ranges(connection.stream.fileno())
    return {"axes": {str(code): list(each) for code, each in ranges.items()}}


def play_gamepad(recording: EventRecording) -> Connection:
    """A recorded gamepad in place of a real one."""
    ranges = {int(code): AxisRange(*each) for code, each in recording.about["axes"].items()}
    return Connection(Playback(recording), GamepadDecoder(ranges))


def gamepad_operator(
    spec: RobotSpec,
    layouts: Mapping[str, Any],
    deadman: str,
    buttons: Mapping[str, str],
    stick: Mapping[str, float] | None = None,
    name: str = "gamepad",
    correcting: bool = False,
    device: str | None = None,
    terminal_keys: bool = False,
) -> DeviceOperator:
    """An operator with a gamepad.

    Args:
        spec: The robot's.
        layouts: Robot name to its controls; see `Layout.for_spec`.
        deadman: Button or trigger that must be held for anything to move.
        buttons: Fields of `ButtonMeanings`.
        stick: Fields of `StickShape`.
        name: Who drives; recorded with every episode.
        correcting: Whether a policy drives until the operator takes over.
        device: Device file, or a recording of one; None is the first gamepad there is.
        terminal_keys: Whether the keyboard's keys for labels, pause and stop are heard as well.

    Raises:
        LayoutError: The layout does not fit the robot, or names a control that a gamepad does not have.
    """
    if not deadman:
        known = ", ".join(ALL_BUTTONS)
        raise LayoutError(f"operator.deadman is empty; name the button that must be held to move, one of {known}")
    settings = DeviceSettings(name, ButtonMeanings.of(buttons), deadman, StickShape(**(stick or {})), correcting)
    settings.meanings.check(ALL_BUTTONS, deadman)
    layout = Layout.for_spec(spec, layouts)
    layout.check_controls(spec.name, STICKS, ALL_BUTTONS, used=[*settings.meanings.used, deadman])
    reader = DeviceReader(device_source("gamepad", device, connect_gamepad, play_gamepad))
    return DeviceOperator(spec, layout, reader, settings, KeyEvents(RawTerminal() if terminal_keys else None))
