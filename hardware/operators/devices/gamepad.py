"""A person with a gamepad, read from /dev/input/event* without any package.

Names of buttons are those printed on an Xbox pad. The kernel names the two buttons above by their letter on some pads
and by their place on others: what is `x` on an Xbox pad is the triangle on a PlayStation's, `y` the square.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from hardware.operators.devices import evdev
from hardware.operators.devices.device_events import (
    Change,
    Connection,
    DeviceFile,
    DeviceMissing,
    DeviceReader,
    DeviceUnfit,
    EventStream,
)
from hardware.operators.devices.device_operator import (
    ButtonWishes,
    DeviceOperator,
    DeviceSettings,
    StickShape,
)
from hardware.operators.devices.evdev import (
    EV_ABS,
    EV_KEY,
    EV_SYN,
    SYN_DROPPED,
    AxisRange,
    DeviceState,
    axes_in_words,
    keys_in_words,
)
from hardware.operators.devices.event_recording import EventRecording, Playback, device_source
from hardware.operators.devices.pad_map import ALL_BUTTONS, AT_END, STICKS, PadMap, place_of
from hardware.operators.devices.written_map import WrittenMap
from hardware.operators.layout import Layout, LayoutError
from hardware.operators.terminal.key_events import KeyEvents, say_on_stderr
from hardware.operators.terminal.raw_terminal import RawTerminal
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec

PERMISSION_REMEDY = "sudo usermod -aG input $USER, then log in again"
NOTHING_WRITTEN = WrittenMap()


class GamepadDecoder:
    """Turns a gamepad's events into changes of its controls.

    Args:
        ranges: Of its axes, by code.
        state: Where it is; None if that is not known.
        keys: Codes of its buttons; None if they are not known.
        written: `operator.pad_map`.
        ask: Asks the device where it is now, for when events were lost.

    Raises:
        DeviceUnfit: The written map names what the pad does not have.
    """

    def __init__(
        self,
        ranges: Mapping[int, AxisRange],
        state: DeviceState | None = None,
        keys: Collection[int] | None = None,
        written: WrittenMap = NOTHING_WRITTEN,
        ask: Callable[[], DeviceState] | None = None,
    ) -> None:
        self._state = state or DeviceState({}, frozenset())
        self._fit = functools.partial(written.fitted, dict(ranges), keys=keys)
        self.pad_map: PadMap = self._fit(self._state.values)
        self._ask = ask
        self._dropping = False
        self._unheard = dict(self._state.values) if is_unheard(ranges, self._state.values) else None
        self._has_spoken = False

    @property
    def notes(self) -> list[str]:
        """What a person should know about it."""
        silent = ["it has not said yet where it is, and so reads as deflected: move a stick"]
        return [*(silent if self._unheard is not None else []), *self.pad_map.notes]

    @property
    def opening(self) -> list[Change]:
        """How far every control was deflected at the start."""
        return self.pad_map.all_changes(self._state)

    def feed(self, data: bytes) -> list[Change]:
        """Changes in order. Where events were lost, the device is asked where it is.

        If it cannot be asked, everything is at rest until it is moved again.
        """
        changes: list[Change] = []
        for event in evdev.events(data):
            if event.type == EV_SYN:
                changes += self._synchronised(dropped=event.code == SYN_DROPPED)
            elif not self._dropping:
                changes += self._changes(event)
        return changes

    def _synchronised(self, dropped: bool) -> list[Change]:
        """A packet has ended, or events are missing until the next one ends."""
        self._dropping = dropped
        if dropped:
            return self._asked()
        if self._unheard is None or not self._has_spoken:
            return []
        # Only now is it known where the axes rest.
        values, self._unheard = self._unheard, None
        self.pad_map = self._fit(values)
        return [change for code, value in values.items() for change in self.pad_map.axis_changes(code, value)]

    def _asked(self) -> list[Change]:
        """Where everything is now, at rest if the device does not answer; of one not understood yet, its buttons."""
        let_go = [Change(control, 0.0) for control in (*STICKS, *ALL_BUTTONS)]
        if self._ask is None:
            return let_go
        try:
            state = self._ask()
        except OSError:
            return let_go
        if self._unheard is None:
            return self.pad_map.all_changes(state)
        self._unheard, self._has_spoken = dict(state.values), True
        return self.pad_map.all_changes(DeviceState({}, state.down))

    def _changes(self, event: evdev.Event) -> list[Change]:
        if event.type == EV_KEY and event.code in self.pad_map.keys:
            return [Change(self.pad_map.keys[event.code], float(event.value != 0))]
        if event.type != EV_ABS:
            return []
        if self._unheard is not None:
            self._has_spoken = True
            self._unheard[event.code] = event.value
            return []
        return self.pad_map.axis_changes(event.code, event.value)


def is_unheard(ranges: Mapping[int, AxisRange], values: Mapping[int, int]) -> bool:
    """Whether a pad has not said yet where it is: the kernel then has 0 for every axis, be that its middle or its end.

    Args:
        ranges: Of its axes, by code.
        values: As the kernel has them, by code.
    """
    stick = [code for code in (evdev.ABS_X, evdev.ABS_Y) if code in values]
    return bool(stick) and not any(values.values()) and all(place_of(0, ranges[code]) <= -AT_END for code in stick)


def connect_gamepad(
    device: str | None = None,
    root: Path = Path("/"),
    written: WrittenMap = NOTHING_WRITTEN,
    passed_over: set[str] | None = None,
) -> Connection:
    """Opens a gamepad, and asks the kernel where it is.

    Args:
        device: Its device file; None is the first gamepad there is.
        root: File system to read.
        written: `operator.pad_map`.
        passed_over: Gamepads that lay beside the chosen one when it was opened, and so are not it when it is looked for
            again; added to.

    Raises:
        DeviceMissing: There is none, this user may not read it, or the written map does not fit it.
    """
    nodes = list(evdev.input_nodes(root))
    # A name under /dev/input/by-id stays the same from one boot to the next.
    wanted = Path(device).resolve() if device else None
    passed_over = set() if passed_over is None else passed_over
    found = [node for node in nodes if (node.is_gamepad if wanted is None else node.path == wanted)]
    found = [node for node in found if node.plugged not in passed_over]
    if not found:
        there = ", ".join(_named(node) for node in nodes) or "no input device at all"
        raise DeviceMissing(f"no gamepad {device or 'under /dev/input'}: plug one in; there is {there}")
    node = next((node for node in found if node.is_readable), None)
    if node is None:
        raise DeviceMissing(f"gamepad {_named(found[0])} may not be read: {PERMISSION_REMEDY}")
    try:
        stream = DeviceFile(node.path, node.name)
    except OSError as error:
        raise DeviceMissing(f"gamepad {_named(node)} cannot be opened: {error.strerror}") from error
    try:
        connection = _opened(stream, node, written)
    except OSError as error:
        stream.close()
        raise DeviceMissing(f"{_named(node)} does not say what axes it has: {error.strerror}") from error
    except DeviceUnfit as error:
        stream.close()
        raise DeviceUnfit(f"{_named(node)} does not fit: {error}") from None
    passed_over.update(each.plugged for each in found if each != node)
    return connection._replace(notes=(*connection.notes, *_others(node, found)))


def _named(node: evdev.InputNode) -> str:
    hint = ", a joystick: to drive with it, write operator.device and operator.pad_map" if node.is_joystick else ""
    return f"{node.path} ({node.name}{hint})"


def _others(chosen: evdev.InputNode, found: Collection[evdev.InputNode]) -> list[str]:
    """What to tell a person who has several gamepads, possibly of one name."""
    others = ", ".join(_named(node) for node in found if node != chosen)
    return [f"chosen is {chosen.path}; there is also {others}: operator.device chooses"] if others else []


def _opened(stream: DeviceFile, node: evdev.InputNode, written: WrittenMap) -> Connection:
    ask = functools.partial(evdev.device_state, stream.fileno())
    return connection_of(stream, evdev.axis_ranges(stream.fileno()), ask(), node.keys, written, ask)


def connection_of(
    stream: EventStream,
    ranges: Mapping[int, AxisRange],
    state: DeviceState | None,
    keys: Collection[int] | None,
    written: WrittenMap = NOTHING_WRITTEN,
    ask: Callable[[], DeviceState] | None = None,
) -> Connection:
    """A gamepad by what is known of it; see `GamepadDecoder` for the arguments.

    Raises:
        DeviceUnfit: The written map does not fit it.
    """
    decoder = GamepadDecoder(ranges, state, keys, written, ask)
    values = {} if state is None else state.values
    buttons = "unknown buttons" if keys is None else keys_in_words(keys)
    about = f"axes {axes_in_words(ranges, values)}; buttons {buttons}"
    return Connection(stream, decoder, decoder.opening, decoder.pad_map.controls, about, decoder.notes)


def about_gamepad(connection: Connection) -> dict[str, Any]:
    """What a recording must know of an open gamepad: its axes, where they are, its buttons, and which are down."""
    fd = connection.stream.fileno()
    state = evdev.device_state(fd)
    return {
        "axes": {str(code): list(each) for code, each in evdev.axis_ranges(fd).items()},
        "values": {str(code): value for code, value in state.values.items()},
        "down": sorted(state.down),
        "keys": sorted(evdev.keys_of(fd)),
    }


def play_gamepad(recording: EventRecording, written: WrittenMap = NOTHING_WRITTEN) -> Connection:
    """A recorded gamepad in place of a real one.

    Older recordings do not tell where it was at their start; it is then taken to be at rest.

    Raises:
        RobotRLError: The recording does not say what axes it has, or the written map does not fit it.
    """
    about = recording.about
    try:
        ranges = {int(code): AxisRange(*map(int, each)) for code, each in about["axes"].items()}
        values = {int(code): int(value) for code, value in about.get("values", {}).items() if int(code) in ranges}
        state = DeviceState(values, frozenset(map(int, about.get("down", ()))))
        keys = frozenset(map(int, about["keys"])) if "keys" in about else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RobotRLError(f"the recording of {recording.name} does not say what axes it has ({error!r})") from None
    return connection_of(Playback(recording), ranges, state, keys, written)


def fitting(
    find: Callable[[], Connection], needed: Mapping[str, str], wished: Mapping[str, str]
) -> Callable[[], Connection]:
    """How to open a device that has the controls which the settings use.

    Args:
        find: Opens the device.
        needed: Controls without which it is refused, and where they are written.
        wished: Controls without which something cannot be asked for, likewise.
    """

    def find_fitting() -> Connection:
        connection = find()
        if connection.controls is None:
            return connection
        lacking = [f"{each} ({where})" for each, where in needed.items() if each not in connection.controls]
        if lacking:
            connection.stream.close()
            raise DeviceUnfit(
                f"{connection.stream.name} has no {', '.join(lacking)}; it has "
                f"{', '.join(sorted(connection.controls)) or 'no control that is known'}. Use those, or write "
                f"operator.pad_map for it: {connection.about}"
            )
        absent = [f"{each} ({where})" for each, where in wished.items() if each not in connection.controls]
        note = [f"it has no {', '.join(absent)}: use the keyboard for that, or another button"] if absent else []
        return connection._replace(notes=(*connection.notes, *note))

    return find_fitting


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
    pad_map: Mapping[str, Any] | None = None,
) -> DeviceOperator:
    """An operator with a gamepad.

    Args:
        spec: The robot's.
        layouts: Robot name to its controls; see `Layout.for_spec`.
        deadman: Button or trigger that must be held for anything to move.
        buttons: Fields of `ButtonWishes`.
        stick: Fields of `StickShape`.
        name: Who drives; recorded with every episode.
        correcting: Whether a policy drives until the operator takes over.
        device: Device file, or a recording of one; None is the first gamepad there is.
        terminal_keys: Whether the keyboard's keys for labels, pause and stop are heard as well.
        pad_map: See `WrittenMap.of`; None is for pads that follow a convention.

    Raises:
        LayoutError: The layout does not fit the robot, or names a control that a gamepad does not have.
    """
    if not deadman:
        known = ", ".join(ALL_BUTTONS)
        raise LayoutError(f"operator.deadman is empty; name the button that must be held to move, one of {known}")
    settings = DeviceSettings(name, ButtonWishes.of(buttons), deadman, StickShape.of(stick), correcting)
    settings.buttons.check(ALL_BUTTONS, deadman)
    layout = Layout.for_spec(spec, layouts)
    layout.check_controls(spec.name, STICKS, ALL_BUTTONS, used=[*settings.buttons.used, deadman])
    written = WrittenMap.of(pad_map)
    connect = functools.partial(connect_gamepad, written=written, passed_over=set())
    play = functools.partial(play_gamepad, written=written)
    needed = {control: f"operator.layouts.{spec.name}" for control in layout.controls} | {deadman: "operator.deadman"}
    wished = {button: f"operator.buttons.{wish}" for wish, button in vars(settings.buttons).items() if button}
    find = fitting(device_source("gamepad", device, connect, play), needed, wished)
    reader = DeviceReader(find, say=say_on_stderr)
    return DeviceOperator(spec, layout, reader, settings, KeyEvents(RawTerminal() if terminal_keys else None))
