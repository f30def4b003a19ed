"""A person with a hand-held device: takes over, drives, labels and gives back; a lost device pauses the robot.

A new device is one file, as `spacemouse.py` is: it opens the device, makes deflections of named controls of what the
device says, and builds a `DeviceOperator`. Which controls move what and which buttons ask for what is yaml.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Protocol, Self

from hardware.operators.control import WISHES, Control, Wish
from hardware.operators.devices.device_events import PRESSED, Reading
from hardware.operators.drive import Drive
from hardware.operators.layout import Layout, LayoutError, is_finite
from hardware.operators.terminal.key_events import SHORT_LEGEND, KeyEvents, say_on_stderr
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.core.specs import FloatArray, RobotSpec


@dataclass(frozen=True)
class ButtonWishes:
    """Button for each thing that a person can wish for; empty for none.

    Attributes:
        take_over: Takes control from the policy, and gives it back.
        success: Ends the episode as a success.
        failure: Ends it as a failure.
        end: Ends and keeps it.
        redo: Throws it away and does it again.
        pause: Holds still, or goes on.
        stop: Ends the session.
    """

    take_over: str = ""
    success: str = ""
    failure: str = ""
    end: str = ""
    redo: str = ""
    pause: str = ""
    stop: str = ""

    @classmethod
    def of(cls, written: Mapping[str, str]) -> ButtonWishes:
        """The buttons written in `operator.buttons`.

        Raises:
            LayoutError: Something that no button can ask for.
        """
        known = [each.name for each in fields(cls)]
        unknown = [wish for wish in written if wish not in known]
        if unknown:
            raise LayoutError(f"operator.buttons has no '{unknown[0]}'; there is {', '.join(known)}")
        return cls(**{wish: button or "" for wish, button in written.items()})

    @property
    def used(self) -> list[str]:
        """Every button that asks for something, as often as it does."""
        return [button for button in vars(self).values() if button]

    def check(self, buttons: Collection[str], deadman: str) -> None:
        """Refuses buttons that the device does not have, or that ask for two things.

        Args:
            buttons: The device's.
            deadman: The one that must be held to move; empty for none.

        Raises:
            LayoutError: Names it.
        """
        named = {**{f"buttons.{wish}": button for wish, button in vars(self).items()}, "deadman": deadman}
        seen: dict[str, str] = {}
        for setting, button in named.items():
            if not button:
                continue
            if button not in buttons:
                raise LayoutError(f"operator.{setting} is '{button}', which is none of {', '.join(buttons)}")
            if button in seen:
                raise LayoutError(f"operator.{setting} and operator.{seen[button]} are both '{button}'; choose another")
            seen[button] = setting

    def wishes(self) -> dict[str, Wish]:
        """Button to what it asks for."""
        return {button: WISHES[name] for name, button in vars(self).items() if button}


@dataclass(frozen=True)
class StickShape:
    """How far the robot moves for how far a stick is moved.

    Attributes:
        dead_zone: Share of the way around the middle that does nothing; sticks do not rest exactly there.
        expo: 0 is proportional; up to 1 it makes small deflections finer, with the full one unchanged.
    """

    dead_zone: float = 0.1
    expo: float = 0.3

    @classmethod
    def of(cls, written: Mapping[str, float] | None) -> StickShape:
        """The shape written in `operator.stick`.

        Raises:
            LayoutError: A field that there is not, or one that is no number.
        """
        known = [each.name for each in fields(cls)]
        for name, value in (written or {}).items():
            if name not in known:
                raise LayoutError(f"operator.stick has no '{name}'; there is {', '.join(known)}")
            if not is_finite(value):
                raise LayoutError(f"operator.stick.{name} is {value!r}, wanted a number")
        return cls(**(written or {}))

    def __post_init__(self) -> None:
        """Refuses shapes that would not move, or move backwards."""
        if not 0.0 <= self.dead_zone < 1.0:
            raise LayoutError(f"operator.stick.dead_zone is {self.dead_zone}, wanted 0 or more and below 1")
        if not 0.0 <= self.expo <= 1.0:
            raise LayoutError(f"operator.stick.expo is {self.expo}, wanted 0 to 1")

    def shaped(self, value: float) -> float:
        """Share of full speed for a deflection, both -1 to 1; continuous and odd."""
        beyond = min(1.0, max(0.0, (abs(value) - self.dead_zone) / (1.0 - self.dead_zone)))
        share = (1.0 - self.expo) * beyond + self.expo * beyond**3
        return share if value >= 0.0 else -share


@dataclass(frozen=True)
class DeviceSettings:
    """How a person drives with a device.

    Attributes:
        name: Who drives; recorded with every episode.
        buttons: What the device's buttons ask for.
        deadman: Button that must be held for anything to move; empty for none.
        stick: Shape of its axes.
        correcting: Whether a policy drives until the operator takes over.
    """

    name: str
    buttons: ButtonWishes
    deadman: str = ""
    stick: StickShape = StickShape()
    correcting: bool = False


class Reader(Protocol):
    """A device's controls as they are now; `DeviceReader` is one."""

    @property
    def name(self) -> str:
        """The device's own name, once it was found."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reading(self) -> Reading:
        """What the device says now; never waits."""


@dataclass
class _Rest:
    """Whether what the device says is meant for this robot now.

    Attributes:
        settled: The device was seen at rest.
        allowed: The dead-man button was held at the last tick, or there is none.
        told: The person was told that it is not at rest.
    """

    settled: bool = False
    allowed: bool = False
    told: bool = False


class DeviceOperator:
    """Drives with a hand-held device. A context manager that reads the device while entered.

    Nothing moves unless the dead-man button is held, where there is one; released, the robot holds still. Without a
    policy the person is in control from the first motion on; with one (`correcting`) a button takes control over from
    where the robot is seen to be, and gives it back. After a reset, a pause or a reconnection, and when the dead-man
    button is pressed, the device must be at rest, so that a stick that happens to be held moves nothing. A device that
    is lost gives no action and pauses the robot; plugged in again, it goes on when the pause button or the space bar is
    pressed.

    Args:
        spec: The robot's.
        layout: Of the device for this robot, checked.
        reader: The device.
        settings: Who drives, with which buttons and how fast.
        keys: The keyboard beside the device, whose keys label, pause, stop and take over as well.
        say: Tells the person something.
    """

    in_person = True
    """A person cannot follow a simulation that runs as fast as it can."""

    def __init__(
        self,
        spec: RobotSpec,
        layout: Layout,
        reader: Reader,
        settings: DeviceSettings,
        keys: KeyEvents | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.name = settings.name
        self.layout = layout
        self._settings = settings
        self._reader = reader
        self._wishes = settings.buttons.wishes()
        self._deadman = settings.deadman
        self._control = Control(settings.correcting)
        self._keys = keys or KeyEvents(None)
        self._say = say or say_on_stderr
        self._drive = Drive(spec, layout)
        self._switches = {each.key for each in layout.switching}
        self._entered = contextlib.ExitStack()
        self._connections = 0
        self._problem = ""
        self._rest = _Rest()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._reader)
            stack.enter_context(self._keys)
            if self._keys.hears:
                self._say(SHORT_LEGEND)
            self._connections = self._reader.reading().connections
            hold = f", hold {self._deadman} to move" if self._deadman else ""
            self._say(f"{self.name}: {self._reader.name}{hold}")
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def reset(self, seed: int) -> None:
        """Forgets the last episode and what was pressed since; a wish to stop is not forgotten."""
        self._rest = _Rest()
        self._drive.forget()
        pressed = self._reader.reading().pressed
        self._control.reset([*self._keys.wishes(), *(self._wishes[each] for each in pressed if each in self._wishes)])

    def poll(self, observation: Observation) -> OperatorCommand:
        """What the device has said since the last tick; never waits."""
        reading = self._reader.reading()
        self._notice(reading)
        allowed = not self._deadman or reading.values.get(self._deadman, 0.0) > PRESSED
        for button in reading.pressed:
            self._press(button, allowed, observation)
        for wish in self._keys.wishes():
            self._wish(wish, observation)
        wish = self._control.next_wish(lost=bool(reading.problem))
        if wish.event is OperatorEvent.PAUSE:
            self._pause(observation)
        return wish.command(None if reading.problem else self._action(reading, allowed, observation))

    def see_applied(self, applied: FloatArray) -> None:
        """Told of every command that was executed; taking over starts from the last one. Shape (A,)."""
        self._control.see_applied(applied)

    def _notice(self, reading: Reading) -> None:
        """Losing and finding the device."""
        if reading.problem and reading.problem != self._problem:
            self._say(f"{self.name}: {reading.problem}")
            self._unsettle()
        if reading.connections != self._connections and self._connections:
            self._unsettle()
            goes_on = f"; {self._settings.buttons.pause or 'Space'} goes on" if self._control.paused else ""
            self._say(f"{self.name}: {self._reader.name} is back{goes_on}")
        self._problem, self._connections = reading.problem, reading.connections

    def _press(self, button: str, allowed: bool, observation: Observation) -> None:
        if button in self._wishes:
            self._wish(self._wishes[button], observation)
        elif button in self._switches and allowed and not self._control.paused:
            self._move(observation)
            if self._control.driving:
                self._drive.press(button)

    def _wish(self, wish: Wish, observation: Observation) -> None:
        drove = self._control.driving
        self._control.wish(wish)
        if self._control.asking:
            self._begin(observation)
            self._say(f"{self.name}: you drive, {self._settings.buttons.take_over or 'Tab'} gives back")
        elif drove and not self._control.driving:
            self._say(f"{self.name}: the policy drives")

    def _move(self, observation: Observation) -> None:
        """The first motion takes control where there is no policy."""
        if not self._control.driving and not self._control.needs_asking:
            self._begin(observation)

    def _begin(self, observation: Observation) -> None:
        self._control.take()
        self._drive.anchor(observation, self._control.applied, self._control.moved)

    def _pause(self, observation: Observation) -> None:
        self._unsettle()
        if self._control.driving and not self._control.paused:
            self._begin(observation)

    def _unsettle(self) -> None:
        """The device must be seen at rest before it moves anything."""
        self._rest.settled = self._rest.told = False

    def _tell_unsettled(self, reading: Reading, controls: Sequence[str]) -> None:
        """Says once what must be let go of."""
        if not self._rest.told:
            self._rest.told = True
            where = ", ".join(f"{control} ({reading.values[control]:+.2f})" for control in controls)
            self._say(f"{self.name}: let go of {where} first; nothing moves until the device was at rest")

    def _action(self, reading: Reading, allowed: bool, observation: Observation) -> FloatArray | None:
        """The action while in control, else None."""
        wanted = {
            control: self._settings.stick.shaped(reading.values.get(control, 0.0))
            for each in self.layout.moving
            for control in each.controls
        }
        moving = any(wanted.values())
        rest = self._rest
        # What is deflected when the dead-man button is pressed was not meant for this: a stick that is held or worn, a
        # trigger that rests elsewhere than was thought.
        rest.settled = not moving or (allowed and rest.allowed and rest.settled)
        rest.allowed = allowed
        rest.told = rest.told and not rest.settled
        moving = moving and allowed and not self._control.paused
        if moving and not rest.settled:
            self._tell_unsettled(reading, [control for control, value in wanted.items() if value])
        moving = moving and rest.settled
        if moving:
            self._move(observation)
        if not self._control.driving:
            return None
        return self._drive.action(observation, lambda control: wanted[control] if moving else 0.0)
