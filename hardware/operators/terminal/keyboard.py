"""A person at a keyboard, in a terminal, also over SSH."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from hardware.operators.control import Control, Wish
from hardware.operators.layout import Layout, LayoutError
from hardware.operators.terminal.key_events import KEYS, SHORT_LEGEND, KeyEvents
from hardware.operators.terminal.key_motion import HoldTiming, KeyDrive
from hardware.operators.terminal.raw_terminal import KeyTerminal, RawTerminal
from hardware.operators.terminal.view import TerminalView
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.core.specs import NS_PER_S, FloatArray, RobotSpec

SHOW_PERIOD_NS = 100_000_000
SLIP_GUARD_NS = 300_000_000
"""A letter that ends or discards an episode this soon after a motion key is taken for a slip of the finger."""

MESSAGE_NS, LEGEND_NS = 3_000_000_000, 8_000_000_000
"""For how long the person gets to read."""

SPEED_SCALES = {"1": ("slow", 0.25), "2": ("normal", 1.0), "3": ("fast", 2.0)}

AUTO = "auto"

LEGEND = "?"
RESERVED = {*KEYS, *SPEED_SCALES, LEGEND}


@dataclass
class _Episode:
    """What the person sees and does in one episode, besides driving.

    Attributes:
        begun_ns: When it began [ns].
        moved_ns: The last motion key [ns].
        shown_ns: The view was last drawn [ns].
        ticks: Since it began.
        message: Shown until `message_until_ns` [ns]; the legend likewise.
    """

    begun_ns: int | None = None
    moved_ns: int = -SLIP_GUARD_NS
    shown_ns: int = -SHOW_PERIOD_NS
    ticks: int = 0
    message: str = ""
    message_until_ns: int = 0
    legend_until_ns: int = 0


class KeyboardOperator:
    """Drives with keys, labels and ends episodes; a context manager that owns the terminal while entered.

    Without a policy the person is in control from the first motion key on; until then nothing is asked for, so that an
    episode does not begin with waiting. With a policy (`correcting`) Tab takes control over from where the robot is
    seen to be, and gives it back. Closing the terminal stops the session.

    Args:
        spec: The robot's.
        layouts: Robot name to its keys; see `Layout.for_spec`.
        name: Who drives; recorded with every episode.
        correcting: Whether a policy drives until Tab is pressed.
        view: Camera stream to show, `auto` for the first one, None for numbers only.
        timing: Of key repeats; a mapping of `HoldTiming`'s fields.
        clock_ns: Monotonic time [ns].
        terminal: Where keys come from and the view goes.

    Raises:
        LayoutError: The keys do not fit the robot, or the stream to view is not there.
    """

    in_person = True
    """A person cannot follow a simulation that runs as fast as it can."""

    def __init__(
        self,
        spec: RobotSpec,
        layouts: Mapping[str, Any],
        name: str = "keyboard",
        correcting: bool = False,
        view: str | None = AUTO,
        timing: Mapping[str, float] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        terminal: KeyTerminal | None = None,
    ) -> None:
        self.name = name
        self.layout = Layout.for_spec(spec, layouts)
        self.layout.check_controls(spec.name, axes=(), keys=self.layout.controls, used=RESERVED)
        self._spec = spec
        self._control = Control(correcting)
        self._picture = _picture_stream(spec, view)
        self._clock_ns = clock_ns
        self._terminal: KeyTerminal = terminal if terminal is not None else RawTerminal()
        self._view = TerminalView(self._terminal)
        self._keys = KeyEvents(self._terminal, clock_ns)
        self._drive = KeyDrive(spec, self.layout, HoldTiming(**(timing or {})))
        self._entered = contextlib.ExitStack()
        self._speed = "2"
        self._note = ""
        self._episode = _Episode()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._keys)
            self._terminal.write(self.legend())
            stack.enter_context(self._view)
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def reset(self, seed: int) -> None:
        """Forgets the last episode and what was typed since; a wish to stop is not forgotten."""
        self._episode = _Episode()
        self._drive.forget()
        self._control.reset(self._keys.wishes())

    def poll(self, observation: Observation) -> OperatorCommand:
        """What was typed since the last tick; never waits."""
        now_ns = self._clock_ns()
        for key in self._keys.typed():
            self._handle(key, now_ns, observation)
        wish = self._control.next_wish()
        if wish.event is OperatorEvent.PAUSE:
            self._pause(observation)
        action = self._action(observation, now_ns)
        if action is not None or self._control.correcting:
            self._episode.begun_ns = self._episode.begun_ns or now_ns
            self._episode.ticks += 1
        if now_ns - self._episode.shown_ns >= SHOW_PERIOD_NS or wish.event is not OperatorEvent.NONE:
            self._episode.shown_ns = now_ns
            self._show(observation, now_ns)
        return wish.command(action)

    def see_applied(self, applied: FloatArray) -> None:
        """Told of every command that was executed; taking over starts from the last one. Shape (A,)."""
        self._control.see_applied(applied)

    def note(self, message: str) -> None:
        """A line for the person to see until the next one: filter counters, a prompt."""
        self._note = message

    def legend(self) -> str:
        """What every key does."""
        rows = [
            (f"{each.minus} / {each.plus}", each.meaning or str(each.dimension))
            for each in self.layout.moving
            if each.plus
        ]
        rows += [(each.key, each.meaning or str(each.dimension)) for each in self.layout.switching]
        rows += [
            ("1 2 3", ", ".join(word for word, _ in SPEED_SCALES.values())),
            ("y / x", "label success / failure and go on"),
            ("Y / X", "end as success / failure"),
            ("Right, n", "end and keep"),
            ("Left, r", "throw away and do it again"),
            ("Space", "pause, go on"),
            ("Esc, q", "stop the session"),
        ]
        if self._control.correcting:
            rows.append(("Tab", "take control, give it back"))
        return "".join(f"  {keys:<10} {what}\r\n" for keys, what in rows)

    def _handle(self, key: str, now_ns: int, observation: Observation) -> None:
        if key in KEYS:
            self._wish(key, KEYS[key], now_ns, observation)
        elif key in SPEED_SCALES:
            self._speed = key
        elif key == LEGEND:
            self._episode.legend_until_ns = now_ns + LEGEND_NS
        elif key in self.layout.controls:
            self._move(key, now_ns, observation)

    def _wish(self, key: str, wish: Wish, now_ns: int, observation: Observation) -> None:
        if wish.guarded and now_ns - self._episode.moved_ns < SLIP_GUARD_NS:
            arrow = "Right" if wish.event is OperatorEvent.END else "Left"
            self._say(f"'{key}' while moving was taken for a slip; {arrow} always works", now_ns)
            return
        self._control.wish(wish)
        if wish.take_over and self._control.correcting:
            self._episode.message = ""
        if self._control.asking:
            self._begin(observation)

    def _begin(self, observation: Observation) -> None:
        self._control.take()
        self._drive.anchor(observation, self._control.applied, self._control.moved)

    def _move(self, key: str, now_ns: int, observation: Observation) -> None:
        if not self._control.driving:
            if self._control.needs_asking:
                self._say("the policy drives; Tab takes control", now_ns)
                return
            self._begin(observation)
        self._episode.moved_ns = now_ns
        if not self._control.paused:
            self._drive.press(key, now_ns)

    def _pause(self, observation: Observation) -> None:
        if self._control.driving and not self._control.paused:
            self._begin(observation)
        self._drive.rest()

    def _action(self, observation: Observation, now_ns: int) -> FloatArray | None:
        if not self._control.driving:
            return None
        return self._drive.action(observation, now_ns, SPEED_SCALES[self._speed][1])

    def _show(self, observation: Observation, now_ns: int) -> None:
        image = observation.values.get(self._picture) if self._picture is not None else None
        lines = [self._status(now_ns)]
        if now_ns < self._episode.legend_until_ns:
            image, lines = None, [*self.legend().splitlines(), *lines]
        if image is None:
            lines.append(_numbers(self._spec, observation))
        fresh = now_ns < self._episode.message_until_ns
        lines += [
            self._episode.message if fresh and self._episode.message else self._note,
            f"{SHORT_LEGEND}  {LEGEND} keys",
        ]
        self._view.show(image, lines)

    def _say(self, message: str, now_ns: int) -> None:
        self._episode.message = message
        self._episode.message_until_ns = now_ns + MESSAGE_NS

    def _status(self, now_ns: int) -> str:
        control = self._control
        if control.paused:
            who = "PAUSED, Space goes on"
        elif control.driving:
            who = "you drive, Tab gives back" if control.correcting else "you drive"
        else:
            who = "the policy drives, Tab takes over" if control.correcting else "a motion key begins"
        seconds = (now_ns - (self._episode.begun_ns or now_ns)) // NS_PER_S
        words = [
            who,
            f"{seconds // 60:02d}:{seconds % 60:02d}",
            f"tick {self._episode.ticks}",
            SPEED_SCALES[self._speed][0],
        ]
        words += self._drive.switches() if control.driving else []
        words += [str(control.label)] if control.label else []
        return "  ".join(words)


def _picture_stream(spec: RobotSpec, view: str | None) -> str | None:
    if view is None:
        return None
    if view == AUTO:
        return next(iter(spec.images), None)
    if view not in spec.images:
        known = ", ".join(spec.images) or "none"
        raise LayoutError(f"operator.view is '{view}', which is no camera of '{spec.name}'; it has {known}")
    return view


def _numbers(spec: RobotSpec, observation: Observation) -> str:
    """The first state stream, in one line."""
    for stream, each in spec.observations.items():
        if not (each.is_image or each.is_point_cloud) and stream in observation.values:
            values = np.asarray(observation.values[stream]).ravel()[:12]
            return f"{stream} " + " ".join(f"{value:9.3f}" for value in values)
    return ""
