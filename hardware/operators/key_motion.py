"""Motion from a terminal's keys, which says when a key goes down and repeats, and never when it is released.

A terminal sends a key once, repeats it after 250-660 ms every 25-40 ms while it is held, and nothing on release. So the
first press makes a small step; a press that follows within the repeat delay means that the key is held, and motion then
lasts until repeats fail to come for `hold_s`, which must exceed the repeat interval and the jitter of the connection.
Only the key pressed last repeats: with two keys held, the first one's motion ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from robot_rl.types import NS_PER_S, ActionKind, FloatArray, Observation, RobotRLError, RobotSpec


class LayoutError(RobotRLError):
    """The keys cannot drive this robot."""


@dataclass(frozen=True)
class HoldTiming:
    """How presses become motion.

    Attributes:
        tap_s: Motion after a single press [s].
        repeat_delay_s: A press within this time of the last one of the same key means that the key is held [s].
        hold_s: A held key is taken for released when no repeat comes for this long [s].
        decay_s: Time over which the speed then falls to zero [s].
    """

    tap_s: float = 0.08
    repeat_delay_s: float = 0.7
    hold_s: float = 0.15
    decay_s: float = 0.1

    def __post_init__(self) -> None:
        """Refuses durations that are none."""
        for each in fields(self):
            if not getattr(self, each.name) > 0.0:
                raise LayoutError(f"operator.timing.{each.name} is {getattr(self, each.name)}, wanted seconds above 0")


@dataclass(frozen=True)
class MovingKeys:
    """Two keys that move one action dimension.

    Attributes:
        dimension: Name or index of the action dimension.
        minus: Key that moves it down.
        plus: Key that moves it up.
        speed: Action units per second.
        meaning: For the legend, for example `left / right`.
        stream: For a POSITION dimension, the state stream that shows where it is.
        index: Element of that stream, in C order.
        leash: For a POSITION dimension, how far the target may run ahead of what is seen, action units.
    """

    dimension: str | int
    minus: str
    plus: str
    speed: float
    meaning: str = ""
    stream: str | None = None
    index: int = 0
    leash: float | None = None


@dataclass(frozen=True)
class SwitchingKey:
    """A key that switches one action dimension between two values, such as a gripper.

    Attributes:
        dimension: Name or index of the action dimension.
        key: The key.
        first: Value it starts with.
        second: The other value.
        meaning: For the legend, for example `gripper open / closed`.
        stream: State stream that shows which it is when the operator takes over; None starts from `first`.
        index: Element of that stream, in C order.
        second_below: It is `second` where the stream shows less than this.
    """

    dimension: str | int
    key: str
    first: float
    second: float
    meaning: str = ""
    stream: str | None = None
    index: int = 0
    second_below: float = 0.0


Entry = TypeVar("Entry", MovingKeys, SwitchingKey)


@dataclass(frozen=True)
class KeyLayout:
    """Which keys drive which action dimension of one robot."""

    moving: tuple[MovingKeys, ...]
    switching: tuple[SwitchingKey, ...]

    @classmethod
    def for_spec(cls, spec: RobotSpec, layouts: Mapping[str, Any]) -> KeyLayout:
        """The layout written for a robot, checked against its spec.

        Args:
            spec: The robot's.
            layouts: Robot name to `moving` and `switching`, each a list of mappings.

        Raises:
            LayoutError: There is none for this robot, or it does not fit.
        """
        written = layouts.get(spec.name)
        if written is None:
            known = ", ".join(layouts) or "none"
            raise LayoutError(f"no keys for robot '{spec.name}'; operator.layouts has {known}: add a section for it")
        layout = cls(
            tuple(_entry(MovingKeys, each) for each in written.get("moving") or ()),
            tuple(_entry(SwitchingKey, each) for each in written.get("switching") or ()),
        )
        layout.check(spec)
        return layout

    @property
    def keys(self) -> list[str]:
        """Every key it uses."""
        return [key for each in self.moving for key in (each.minus, each.plus)] + [each.key for each in self.switching]

    def check(self, spec: RobotSpec) -> None:
        """Refuses a robot that these keys cannot drive.

        Raises:
            LayoutError: A dimension that is not there, that is driven twice or, except a rate's, by nothing.
        """
        driven: set[int] = set()
        entries: list[MovingKeys | SwitchingKey] = [*self.moving, *self.switching]
        for each in entries:
            index = dimension_index(spec, each.dimension)
            if index in driven:
                raise LayoutError(f"two key entries drive action dimension '{each.dimension}'; keep one")
            driven.add(index)
            if each.stream is not None and each.stream not in spec.observations:
                known = ", ".join(spec.observations)
                raise LayoutError(f"keys of '{each.dimension}': no stream '{each.stream}'; there is {known}")
            place = spec.action_kinds[index] is not ActionKind.RATE
            if isinstance(each, MovingKeys) and place and each.stream is None:
                raise LayoutError(f"keys of '{each.dimension}': give stream and index, to start where the robot is")
        for index, kind in enumerate(spec.action_kinds):
            if kind is not ActionKind.RATE and index not in driven:
                raise LayoutError(
                    f"no key drives action dimension {index} of '{spec.name}'; add it to operator.layouts"
                )


def dimension_index(spec: RobotSpec, dimension: str | int) -> int:
    """The action dimension that a name or an index means.

    Raises:
        LayoutError: There is none.
    """
    if dimension in spec.action.names:
        return spec.action.names.index(str(dimension))
    if isinstance(dimension, int) and 0 <= dimension < spec.action.shape[0]:
        return dimension
    known = ", ".join(spec.action.names) or f"0..{spec.action.shape[0] - 1}"
    raise LayoutError(f"keys for action dimension '{dimension}' of '{spec.name}', which has {known}")


def _entry(kind: type[Entry], written: Mapping[str, Any]) -> Entry:
    try:
        return kind(**written)
    except TypeError as error:
        known = ", ".join(each.name for each in fields(kind))
        raise LayoutError(f"operator.layouts entry {dict(written)} does not fit; it takes {known}") from error


class HeldKeys:
    """Which keys are being held, judged from presses alone."""

    def __init__(self, timing: HoldTiming) -> None:
        self._timing = timing
        self._pressed: dict[str, tuple[int, bool]] = {}

    def press(self, key: str, now_ns: int) -> None:
        """A key arrived [ns]."""
        last = self._pressed.get(key)
        held = last is not None and now_ns - last[0] <= self._timing.repeat_delay_s * NS_PER_S
        self._pressed[key] = (now_ns, held)

    def release(self, keys: Sequence[str]) -> None:
        """Takes keys for released."""
        for key in keys:
            self._pressed.pop(key, None)

    def clear(self) -> None:
        """Takes all keys for released."""
        self._pressed.clear()

    def weight(self, key: str, now_ns: int) -> float:
        """Share of full speed that a key asks for, from 1 while it is held to 0."""
        last = self._pressed.get(key)
        if last is None:
            return 0.0
        silent_s = (now_ns - last[0]) / NS_PER_S
        held_s = self._timing.hold_s if last[1] else self._timing.tap_s
        if silent_s <= held_s:
            return 1.0
        return max(0.0, 1.0 - (silent_s - held_s) / self._timing.decay_s)


class KeyDrive:
    """Turns keys into a robot's actions."""

    def __init__(self, spec: RobotSpec, layout: KeyLayout, timing: HoldTiming) -> None:
        self._spec = spec
        self._held = HeldKeys(timing)
        self._low, self._high = spec.action.bounds()
        self._moving = [(dimension_index(spec, each.dimension), each) for each in layout.moving]
        self._switching = [(dimension_index(spec, each.dimension), each) for each in layout.switching]
        self._target = np.zeros(spec.action.shape)
        self._opposite = {each.minus: each.plus for each in layout.moving}
        self._opposite |= {plus: minus for minus, plus in self._opposite.items()}

    def anchor(self, observation: Observation) -> None:
        """Starts from where the robot is seen to be, at rest."""
        self._held.clear()
        for index, keys in self._moving:
            if keys.stream is not None:
                self._target[index] = float(observation.values[keys.stream].flat[keys.index])
        for index, switch in self._switching:
            is_second = switch.stream is not None and (
                float(observation.values[switch.stream].flat[switch.index]) < switch.second_below
            )
            self._target[index] = switch.second if is_second else switch.first

    def press(self, key: str, now_ns: int) -> None:
        """A key of the layout arrived [ns]; a press of the opposite one ends a motion at once."""
        if key in self._opposite:
            self._held.release([self._opposite[key]])
            self._held.press(key, now_ns)
        for index, switch in self._switching:
            if key == switch.key:
                self._target[index] = switch.first if self._target[index] == switch.second else switch.second

    def rest(self) -> None:
        """Takes all keys for released."""
        self._held.clear()

    def action(self, observation: Observation, now_ns: int, speed_scale: float) -> FloatArray:
        """The action for this tick. Shape (A,), the action's dtype.

        Args:
            observation: This tick's.
            now_ns: Monotonic time [ns].
            speed_scale: Of every speed.
        """
        for index, keys in self._moving:
            weight = self._held.weight(keys.plus, now_ns) - self._held.weight(keys.minus, now_ns)
            moved = weight * keys.speed * speed_scale / self._spec.control_hz
            if self._spec.action_kinds[index] is ActionKind.RATE:
                self._target[index] = moved
                continue
            self._target[index] += moved
            if keys.leash is not None and keys.stream is not None:
                seen = float(observation.values[keys.stream].flat[keys.index])
                self._target[index] = min(max(self._target[index], seen - keys.leash), seen + keys.leash)
        self._target = np.clip(self._target, self._low, self._high)
        return self._target.astype(self._spec.action.dtype)

    def switches(self) -> list[str]:
        """What every switch is set to, in words."""
        words = []
        for index, switch in self._switching:
            name, _, states = (switch.meaning or str(switch.dimension)).partition(" ")
            first, _, second = states.partition(" / ")
            state = (second or "on") if self._target[index] == switch.second else (first or "off")
            words.append(f"{name} {state}")
        return words
