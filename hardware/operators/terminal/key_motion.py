"""Motion from a terminal's keys, which says when a key goes down and repeats, and never when it is released.

A terminal sends a key once, repeats it after 250-660 ms every 25-40 ms while it is held, and nothing on release. So the
first press makes a small step; a press that follows within the repeat delay means that the key is held, and motion then
lasts until repeats fail to come for `hold_s`, which must exceed the repeat interval and the jitter of the connection.
Only the key pressed last repeats: with two keys held, the first one's motion ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from hardware.operators.drive import Drive
from hardware.operators.layout import Layout, LayoutError
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, FloatArray, RobotSpec


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

    def __init__(self, spec: RobotSpec, layout: Layout, timing: HoldTiming) -> None:
        self._drive = Drive(spec, layout)
        self._held = HeldKeys(timing)
        self._opposite = {each.minus: each.plus for each in layout.moving if each.minus}
        self._opposite |= {plus: minus for minus, plus in self._opposite.items()}

    def forget(self) -> None:
        """A new episode, with all keys released."""
        self._held.clear()
        self._drive.forget()

    def anchor(self, observation: Observation, applied: FloatArray | None = None, moved: bool = False) -> None:
        """Starts at rest, see `Drive.anchor`."""
        self._held.clear()
        self._drive.anchor(observation, applied, moved)

    def press(self, key: str, now_ns: int) -> None:
        """A key of the layout arrived [ns]; a press of the opposite one ends a motion at once."""
        if key in self._opposite:
            self._held.release([self._opposite[key]])
            self._held.press(key, now_ns)
        self._drive.press(key)

    def rest(self) -> None:
        """Takes all keys for released."""
        self._held.clear()

    def action(self, observation: Observation, now_ns: int, speed_scale: float) -> FloatArray:
        """The action for this tick. Shape (A,), the action's dtype.

        Args:
            observation: This tick's.
            now_ns: Monotonic time [ns].
            speed_scale: What every speed of the layout is multiplied by.
        """
        return self._drive.action(observation, lambda key: self._held.weight(key, now_ns), speed_scale)

    def switches(self) -> list[str]:
        """What every switch is set to, in words."""
        return self._drive.switches()
