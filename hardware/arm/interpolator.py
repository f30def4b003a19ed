"""Rows at the policy's rate in, one command for every faster tick of the arm out.

A row is first put through the command filter at its own rate; what comes out is what the arm is told to do for it, and
what is acknowledged. Between rows the command runs in a straight line (POSITION), gets its share of the displacement
(RATE), or switches at once (BINARY). The command filter at the ticks' rate has the last word, so that every command
keeps within velocity, acceleration and jerk limits whatever the rows do, and so that stopping is braking. Where the
limits say how an arm follows, the command then waits for one that does not (`hardware/safety/following.py`).

Rows are played on a time line of their own: a little after they come, and whole periods apart, as their stamps say. So
the clocks of the two sides need not agree to the millisecond, and a row that is a little late changes nothing. A row
that is very late begins the time line anew; the command has meanwhile come to rest where the last row ended.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from hardware.safety.dimensions import LimitError
from hardware.safety.filter import FilterReason, FilterState, OperatorState, clear_fault, filter_command
from hardware.safety.following import Follower
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray, FloatArray

MARGIN = 0.2
"""How long before it is due a row should have come, beyond its own period, in periods: lateness that goes unnoticed."""
LEAK = 0.05
"""Share of a wrong margin that is put right with every row."""
MOST_AHEAD = 2.0
"""Periods of motion that may be waiting; rows that come faster are refused."""
LONGEST_SPACING = 2
"""Whole periods between two rows that are played as such: a longer gap is not made up for by going slowly."""
UNUSABLE = FilterReason.SHAPE | FilterReason.NOT_FINITE | FilterReason.MISSING


class Taken(NamedTuple):
    """What became of a row.

    Attributes:
        applied: What the arm is told to do for it: the row, or as much of it as limits allow. Shape (A,).
        reasons: Why it differs from the row; 0 if it does not.
        usable: The row was one that can be executed, whether limited or not.
    """

    applied: FloatArray
    reasons: FilterReason
    usable: bool


class Interpolated(NamedTuple):
    """One command.

    Attributes:
        command: Shape (A,), float64; RATE dimensions are displacements per tick.
        requested: What the rows amount to at this tick, likewise; None if there is nothing to execute.
        reasons: Why they differ; 0 if they do not.
        dry: The last row had ended before this tick.
    """

    command: FloatArray
    requested: FloatArray | None
    reasons: FilterReason
    dry: bool


class _Segment(NamedTuple):
    """The way to one row, played from `begin_ns` to `due_ns`. Shapes (A,)."""

    begin_ns: int
    due_ns: int
    start: FloatArray
    end: FloatArray


def limits_at_rate(limits: CommandLimits, hz: float) -> CommandLimits:
    """The same limits for commands at another rate, in float64.

    What is per tick is scaled with the tick: every step, and the bounds of a rate. A step that was legal at the old
    rate is legal if it is made evenly at the new one.

    Args:
        limits: Of the rows.
        hz: Rate of the commands [Hz].

    Raises:
        LimitError: The rate is not positive.
    """
    if not 0.0 < hz < math.inf:
        raise LimitError(f"stream_hz is {hz}, wanted a positive rate, for example 100")
    ratio = limits.spec.control_hz / hz
    shares = [ratio if kind is ActionKind.RATE else 1.0 for kind in limits.spec.action_kinds]
    action = limits.spec.action
    low, high = action.bounds()
    spec = dataclasses.replace(
        limits.spec,
        control_hz=hz,
        action=dataclasses.replace(
            action,
            dtype="float64",
            low=None if action.low is None else tuple((low * shares).tolist()),
            high=None if action.high is None else tuple((high * shares).tolist()),
        ),
    )
    moving = [kind is not ActionKind.BINARY for kind in limits.spec.action_kinds]
    return dataclasses.replace(
        limits,
        spec=spec,
        low=tuple(each * share for each, share in zip(limits.low, shares, strict=True)),
        high=tuple(each * share for each, share in zip(limits.high, shares, strict=True)),
        max_step=tuple(each * ratio if moves else each for each, moves in zip(limits.max_step, moving, strict=True)),
    )


def _box(limits: CommandLimits) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest place of every dimension that is one, in the rows' dtype; a rate has none. Shapes (A,)."""
    absolute = limits.spec.kind_mask(ActionKind.RATE) == 0
    low, high = (np.array([getattr(axis, side) for axis in limits.axes]) for side in ("low", "high"))
    dtype = np.dtype(limits.spec.action.dtype)
    return np.where(absolute, low, -np.inf).astype(dtype), np.where(absolute, high, np.inf).astype(dtype)


class RowFilter:
    """Filters rows at the rate at which they come. It has no clock: a row's own stamp is its time.

    Args:
        limits: Of the rows.
    """

    def __init__(self, limits: CommandLimits) -> None:
        self.limits = limits
        self.stamp_ns: int | None = None
        self._state = FilterState.at(np.zeros(len(limits.axes)))
        self._last: Taken | None = None

    def restart(self, pose: FloatArray) -> None:
        """Begins at rest at a pose in action units. Shape (A,)."""
        self._state, self.stamp_ns, self._last = FilterState.at(pose), None, None

    @property
    def place(self) -> FloatArray:
        """Where the last row went; RATE dimensions mean nothing. Shape (A,)."""
        return np.array(self._state.position)

    def held(self, reasons: FilterReason) -> Taken:
        """The answer to a row that is not executed."""
        return Taken(self.limits.spec.hold(self.place), reasons, False)

    def take(
        self, row: AnyArray | None, stamp_ns: int, observation: Observation | None, allowed: OperatorState | None = None
    ) -> Taken:
        """What the arm is told to do for a row; a stamp seen before is answered as before, an older one with holding.

        Args:
            row: What is asked for, shape (A,); anything else is refused with a reason.
            stamp_ns: The control tick it is for, on the sender's clock [ns].
            observation: What the arm sees; None if a stream failed.
            allowed: Whether motion is.
        """
        if self._last is not None and stamp_ns == self.stamp_ns:
            return self._last
        if self.stamp_ns is not None and stamp_ns < self.stamp_ns:
            return self.held(FilterReason.CLOCK)
        dt_s = 0.0 if self.stamp_ns is None else (stamp_ns - self.stamp_ns) / NS_PER_S
        spec = self.limits.spec
        result = filter_command(row, self._state, observation, allowed or OperatorState(), dt_s, self.limits, spec)
        self._state, self.stamp_ns = result.state, stamp_ns
        self._last = Taken(result.applied, result.reasons, not result.reasons & UNUSABLE)
        return self._last


class CommandInterpolator:
    """Turns rows into commands. It has no clock: times are arguments, monotonic [ns].

    Args:
        limits: Of the rows, at the rate at which they come.
        stream_hz: Rate of the commands; not below the rows'.

    Raises:
        LimitError: Commands are slower than the rows.
    """

    def __init__(self, limits: CommandLimits, stream_hz: float) -> None:
        self.limits = limits_at_rate(limits, stream_hz)
        if stream_hz < limits.spec.control_hz:
            raise LimitError(
                f"stream_hz is {stream_hz}, below the rows' {limits.spec.control_hz} Hz: a stream cannot skip rows"
            )
        self._period_ns = limits.spec.tick_ns
        self._rate = limits.spec.kind_mask(ActionKind.RATE)
        self._binary = limits.spec.kind_mask(ActionKind.BINARY)
        self._rows = RowFilter(limits)
        self._row_box = _box(limits)
        self._follower = None if limits.following is None else Follower(self.limits)
        self._state = FilterState.at(np.zeros(len(limits.axes)))
        self._anchored = False
        self._segments: collections.deque[_Segment] = collections.deque()
        self._ended: _Segment | None = None
        self._played: FloatArray | None = None

    def restart(self, pose: FloatArray) -> None:
        """Begins at rest at a pose in action units, `CommandLimits.start_pose`; a latched fault stays. Shape (A,)."""
        self._state = dataclasses.replace(FilterState.at(pose), fault=self._state.fault)
        if self._follower is not None:
            self._follower.restart()
        self.forget()

    def restart_in_place(self) -> None:
        """Begins at rest where the last command went: an arm that was told nothing for a while has stopped there.

        To go on braking from the speed that it had before would be a jump to that speed.
        """
        self.restart(np.array(self._state.position))

    def forget(self) -> None:
        """Drops every row; the next one starts from where the command is then."""
        self._segments.clear()
        self._ended = self._played = None
        self._anchored = False

    @property
    def at_rest(self) -> bool:
        """Whether the last command left nothing moving, and the arm where it may be left."""
        return self._state.at_rest and (self._follower is None or self._follower.near)

    @property
    def not_following(self) -> str:
        """How the arm does not follow, in words; empty while it does."""
        return "" if self._follower is None else self._follower.problem

    @property
    def waits(self) -> int:
        """Commands that had to wait for the arm."""
        return 0 if self._follower is None else self._follower.waits

    @property
    def fault(self) -> FilterReason:
        """Reasons of the filter's latched fault; 0 without one."""
        return self._state.fault

    def clear_fault(self) -> None:
        """Ends the latched fault; only a person's explicit act may call this."""
        self._state = clear_fault(self._state)
        if self._follower is not None:
            self._follower.restart()
        self.forget()

    def held(self, reasons: FilterReason) -> Taken:
        """The answer to a row that is not executed."""
        self._anchor()
        return self._rows.held(reasons)

    def take(self, row: AnyArray | None, stamp_ns: int, now_ns: int, observation: Observation | None) -> Taken:
        """Takes a row that just came; see `RowFilter.take`.

        Args:
            row: What is asked for, shape (A,), units of the rows.
            stamp_ns: The control tick it is for, on the sender's clock [ns].
            now_ns: When it came [ns].
            observation: What the arm sees; None if a stream failed.
        """
        self._anchor()
        before_ns, before = self._rows.stamp_ns, self._rows.place
        if self._waiting_ns(now_ns) > MOST_AHEAD * self._period_ns and before_ns != stamp_ns:
            return self._rows.held(FilterReason.CLOCK)
        taken = self._rows.take(row, stamp_ns, observation)
        if self._rows.stamp_ns != before_ns:
            spacing_ns = self._period_ns if before_ns is None else stamp_ns - before_ns
            self._schedule(taken.applied.astype(np.float64), before, spacing_ns, now_ns)
        return taken if self._follower is None else self._waiting(taken, row, self._follower)

    def _waiting(self, taken: Taken, row: AnyArray | None, follower: Follower) -> Taken:
        """What is acknowledged while the command waits: no more than the arm will make of the row."""
        # An arm that was pushed out of its box is not followed there, nor is it by a rounding of the rows' dtype.
        made = np.clip(follower.reachable(taken.applied), *self._row_box).astype(taken.applied.dtype)
        if np.array_equal(made, taken.applied):
            return taken
        as_asked = taken.usable and np.array_equal(made, np.asarray(row, dtype=made.dtype))
        return taken._replace(
            applied=made, reasons=FilterReason.NONE if as_asked else taken.reasons | FilterReason.FOLLOWING
        )

    def tick(
        self,
        now_ns: int,
        dt_s: float,
        observation: Observation | None,
        allowed: OperatorState | None = None,
        ahead: FloatArray | None = None,
    ) -> Interpolated:
        """The command for one tick.

        Args:
            now_ns: The tick's deadline, which is when the command is for [ns].
            dt_s: Time since the last call [s].
            observation: What the arm sees; None if a stream failed.
            allowed: Whether motion is; without it every row is dropped and the command brakes.
            ahead: See `Follower.check`. Shape (A,).
        """
        allowed = allowed or OperatorState()
        if not (allowed.enabled and allowed.deadman):
            self.forget()
        requested = self._requested(now_ns)
        dry = requested is not None and not self._segments
        result = filter_command(requested, self._state, observation, allowed, dt_s, self.limits, self.limits.spec)
        if self._follower is not None:
            result = self._follower.check(self._state, result, requested, observation, ahead)
        self._state = result.state
        return Interpolated(result.applied, requested, result.reasons, dry)

    def _anchor(self) -> None:
        """Before a first row, the row filter is at rest where the command is."""
        if not self._anchored:
            self._rows.restart(np.array(self._state.position))
            self._anchored = True

    def _waiting_ns(self, now_ns: int) -> int:
        return self._segments[-1].due_ns - now_ns if self._segments else 0

    def _schedule(self, applied: FloatArray, before: FloatArray, spacing_ns: int, now_ns: int) -> None:
        """Puts the way to a filtered row at the end of the time line. Shapes (A,)."""
        last = self._segments[-1] if self._segments else self._ended
        start = np.where(self._rate, 0.0, before) if last is None else last.end
        end = np.where(self._rate, start + applied, applied)
        margin_wanted_ns = round(MARGIN * self._period_ns)
        if last is None or last.due_ns <= now_ns:
            begin_ns, due_ns = now_ns, now_ns + self._period_ns + margin_wanted_ns
        else:
            begin_ns = last.due_ns
            # Rows are for ticks of a regular clock; that a stamp is when a row was sent must not show in the speed.
            periods = min(max(round(spacing_ns / self._period_ns), 1), LONGEST_SPACING)
            excess_ns = last.due_ns - now_ns - margin_wanted_ns
            due_ns = begin_ns + max(1, periods * self._period_ns - round(LEAK * excess_ns))
        self._segments.append(_Segment(begin_ns, due_ns, start, end))
        if self._played is None:
            self._played = start

    def _requested(self, now_ns: int) -> FloatArray | None:
        """What the rows amount to at a tick. Shape (A,)."""
        while self._segments and self._segments[0].due_ns <= now_ns:
            self._ended = self._segments.popleft()
        playing = self._segments[0] if self._segments else self._ended
        if playing is None or self._played is None:
            return None
        if now_ns >= playing.due_ns:
            place = playing.end
        else:
            share = max(0, now_ns - playing.begin_ns) / (playing.due_ns - playing.begin_ns)
            place = playing.start + share * (playing.end - playing.start)
            place[self._binary] = playing.end[self._binary]
        moved, self._played = place - self._played, place
        return np.where(self._rate, moved, place)
