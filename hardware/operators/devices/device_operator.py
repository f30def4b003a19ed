"""A person with a hand-held device: takes over, drives, labels and gives back; a lost device pauses the robot."""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Protocol, Self

from hardware.operators.devices.device_events import PRESSED, Reading
from hardware.operators.drive import Drive
from hardware.operators.layout import Layout, LayoutError, is_finite
from hardware.operators.meanings import SHORT_LEGEND, Meaning, while_lost
from hardware.operators.terminal.key_events import KeyEvents
from robot_rl.core.episode import Observation, Outcome
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.core.specs import FloatArray, RobotSpec


@dataclass(frozen=True)
class ButtonMeanings:
    """Button for each thing a person can ask for besides moving; empty for none.

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
    def of(cls, written: Mapping[str, str]) -> ButtonMeanings:
        """The meanings written in `operator.buttons`.

        Raises:
            LayoutError: Something that no button can mean.
        """
        known = [each.name for each in fields(cls)]
        unknown = [meaning for meaning in written if meaning not in known]
        if unknown:
            raise LayoutError(f"operator.buttons has no '{unknown[0]}'; there is {', '.join(known)}")
        return cls(**{meaning: button or "" for meaning, button in written.items()})

    @property
    def used(self) -> list[str]:
        """Every button that means something, as often as it does."""
        return [button for button in vars(self).values() if button]

    def check(self, buttons: Collection[str], deadman: str) -> None:
        """Refuses buttons that the device does not have, or that mean two things.

        Args:
            buttons: The device's.
            deadman: The one that must be held to move; empty for none.

        Raises:
            LayoutError: Names it.
        """
        named = {**{f"buttons.{meaning}": button for meaning, button in vars(self).items()}, "deadman": deadman}
        seen: dict[str, str] = {}
        for setting, button in named.items():
            if not button:
                continue
            if button not in buttons:
                raise LayoutError(f"operator.{setting} is '{button}', which is none of {', '.join(buttons)}")
            if button in seen:
                raise LayoutError(f"operator.{setting} and operator.{seen[button]} are both '{button}'; choose another")
            seen[button] = setting

    def commands(self) -> dict[str, Meaning]:
        """Button to what it stands for."""
        table = {
            self.success: Meaning(OperatorEvent.END, Outcome.SUCCESS),
            self.failure: Meaning(OperatorEvent.END, Outcome.FAILURE),
            self.end: Meaning(OperatorEvent.END),
            self.redo: Meaning(OperatorEvent.REDO),
            self.pause: Meaning(OperatorEvent.PAUSE),
            self.stop: Meaning(OperatorEvent.STOP),
        }
        return {button: meaning for button, meaning in table.items() if button}


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
        meanings: Of the device's buttons.
        deadman: Button that must be held for anything to move; empty for none.
        stick: Shape of its axes.
        correcting: Whether a policy drives until the operator takes over.
    """

    name: str
    meanings: ButtonMeanings
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
class _Episode:
    """What one episode adds up to.

    Attributes:
        in_control: The operator drives.
        paused: The operator, or a lost device, asked for a pause.
        settled: The device was seen at rest, so that what it says is meant for this robot now.
        allowed: The dead-man button was held at the last tick, or there is none.
        told: The person was told that it is not at rest.
        applied: The last command that was executed. Shape (A,).
        moved: The robot may have been moved since, as in a pause.
    """

    in_control: bool = False
    paused: bool = False
    settled: bool = False
    allowed: bool = False
    told: bool = False
    applied: FloatArray | None = None
    moved: bool = False


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
        settings: See there.
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
        self._meanings = settings.meanings
        self._commands = settings.meanings.commands()
        self._deadman = settings.deadman
        self._correcting = settings.correcting
        self._keys = keys or KeyEvents(None)
        self._say = say or say_on_stderr
        self._drive = Drive(spec, layout)
        self._switches = {each.key for each in layout.switching}
        self._events: collections.deque[Meaning] = collections.deque()
        self._entered = contextlib.ExitStack()
        self._connections = 0
        self._problem = ""
        self._episode = _Episode()

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
        self._episode = _Episode()
        self._drive.forget()
        self._events.extend(self._keys.hear().meanings)
        self._events.extend(self._commands[each] for each in self._reader.reading().pressed if each in self._commands)
        self._events = collections.deque(each for each in self._events if each.event is OperatorEvent.STOP)

    def poll(self, observation: Observation) -> OperatorCommand:
        """What the device has said since the last tick; never waits."""
        reading = self._reader.reading()
        self._notice(reading)
        allowed = not self._deadman or reading.values.get(self._deadman, 0.0) > PRESSED
        for button in reading.pressed:
            self._press(button, allowed, observation)
        typed = self._keys.hear()
        self._events.extend(typed.meanings)
        for _ in range(typed.take_over):
            self._pass_control(observation)
        if reading.problem:
            moves = (self._episode.in_control or self._correcting) and not self._episode.paused
            self._events = while_lost(self._events, moves)
        meaning = self._events.popleft() if self._events else Meaning(OperatorEvent.NONE)
        if meaning.event is OperatorEvent.PAUSE:
            self._pause(observation)
        action = None if reading.problem else self._action(reading, allowed, observation)
        return OperatorCommand(action, meaning.event, meaning.outcome)

    def see_applied(self, applied: FloatArray) -> None:
        """Told of every command that was executed; taking over starts from the last one. Shape (A,)."""
        self._episode.applied = applied
        self._episode.moved = self._episode.moved and self._episode.paused

    def _notice(self, reading: Reading) -> None:
        """Losing and finding the device."""
        if reading.problem and reading.problem != self._problem:
            self._say(f"{self.name}: {reading.problem}")
            self._unsettle()
        if reading.connections != self._connections and self._connections:
            self._unsettle()
            goes_on = f"; {self._meanings.pause or 'Space'} goes on" if self._episode.paused else ""
            self._say(f"{self.name}: {self._reader.name} is back{goes_on}")
        self._problem, self._connections = reading.problem, reading.connections

    def _press(self, button: str, allowed: bool, observation: Observation) -> None:
        if button in self._commands:
            self._events.append(self._commands[button])
        elif button == self._meanings.take_over and button:
            self._pass_control(observation)
        elif button in self._switches and allowed and not self._episode.paused:
            if not self._episode.in_control and not self._correcting:
                self._begin(observation)
            if self._episode.in_control:
                self._drive.press(button)

    def _pass_control(self, observation: Observation) -> None:
        if not self._correcting:
            return
        if self._episode.in_control:
            self._episode.in_control = False
            self._say(f"{self.name}: the policy drives")
        else:
            self._begin(observation)
            self._say(f"{self.name}: you drive, {self._meanings.take_over} gives back")

    def _begin(self, observation: Observation) -> None:
        self._episode.in_control = True
        self._drive.anchor(observation, self._episode.applied, self._episode.moved)

    def _pause(self, observation: Observation) -> None:
        self._episode.paused = not self._episode.paused
        self._unsettle()
        self._episode.moved = True
        if self._episode.in_control and not self._episode.paused:
            self._drive.anchor(observation, self._episode.applied, moved=True)

    def _unsettle(self) -> None:
        """The device must be seen at rest before it moves anything."""
        self._episode.settled = self._episode.told = False

    def _tell_unsettled(self, reading: Reading, controls: Sequence[str]) -> None:
        """Says once what must be let go of."""
        if not self._episode.told:
            self._episode.told = True
            where = ", ".join(f"{control} ({reading.values[control]:+.2f})" for control in controls)
            self._say(f"{self.name}: let go of {where} first; nothing moves until the device was at rest")

    def _action(self, reading: Reading, allowed: bool, observation: Observation) -> FloatArray | None:
        """The action while in control, else None; the first motion takes control where there is no policy."""
        wanted = {
            control: self._settings.stick.shaped(reading.values.get(control, 0.0))
            for each in self.layout.moving
            for control in each.controls
        }
        moving = any(wanted.values())
        # What is deflected when the dead-man button is pressed was not meant for this: a stick that is held or worn, a
        # trigger that rests elsewhere than was thought.
        self._episode.settled = not moving or (allowed and self._episode.allowed and self._episode.settled)
        self._episode.allowed = allowed
        self._episode.told = self._episode.told and not self._episode.settled
        moving = moving and allowed and not self._episode.paused
        if moving and not self._episode.settled:
            self._tell_unsettled(reading, [control for control, value in wanted.items() if value])
        moving = moving and self._episode.settled
        if moving and not self._episode.in_control and not self._correcting:
            self._begin(observation)
        if not self._episode.in_control:
            return None
        return self._drive.action(observation, lambda control: wanted[control] if moving else 0.0)


def say_on_stderr(message: str) -> None:
    """Tells the person at the terminal something."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
