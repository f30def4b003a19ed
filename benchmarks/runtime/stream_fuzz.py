"""Drives the command interpolator, with an arm behind it, with everything that can go wrong, and checks every command.

    python -m benchmarks.runtime.stream_fuzz --steps 1000000 [--seed 0] [--processes 2] [--seconds 240]

Each round draws a robot as `filter_fuzz.py` does, commands one to eleven times as fast as its rows, and 500 ticks. Rows
come on time, late, early, in bursts, twice, out of order, or not at all, with stamps that jitter, stand still, jump and
go back; they hold whatever that fuzz asks of the filter. Observations drop out, the deadman is let go, the arm is
disabled and enabled, faults are cleared, and the ticks' own clock jitters, jumps and goes back. The arm lags,
saturates, sticks and pauses (`fuzz_plant.py`); one that does not follow is a fault, after which motion begins anew
where the arm stands still.

Checked of every command: each limit at the ticks' rate, by its definition, and that it is what the rows amount to if
and only if it has no reason. A command that waits for the arm (`FilterReason.FOLLOWING`) may stop dead; its velocity
limit stays. Checked of every answer to a row: each limit at the rows' rate, and the same of reasons. Checked of the
arm: that no command goes further from it than `limits.following.wait`, and what it may have gone since its newest
sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.runtime.fuzz_checks import LimitCheck, first_broken, unexplained
from benchmarks.runtime.fuzz_draws import Array, Circumstances, Script, random_limits
from benchmarks.runtime.fuzz_plant import Plant, with_following
from benchmarks.runtime.fuzz_run import TICKS_PER_ROUND, FuzzCount, run_rounds
from hardware.arm.interpolator import UNUSABLE, CommandInterpolator, Taken
from hardware.safety.filter import FilterReason, OperatorState
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray

LONGEST_SILENCE = 20
"""Periods; beyond them the clock has jumped, and a sender starts afresh."""
RATIOS = (1.0, 2.0, 3.3, 5.0, 11.0)
ROWS_DRAWN = 1024
NO_AGE_NS = 5 * NS_PER_S


class Sender:
    """Sends rows as a network and a policy at their worst might: when, with which stamp, and how often.

    Args:
        limits: Of the rows.
        generator: Of its bad ideas.
    """

    def __init__(self, limits: CommandLimits, generator: np.random.Generator) -> None:
        self._script = Script(limits, generator, ROWS_DRAWN)
        self._period_ns = limits.spec.tick_ns
        self._stamp_ns = 10**12
        self._next_ns = self._asked = 0
        self._last: Array = np.zeros(len(limits.axes))
        self._still = [0.0] * len(limits.axes)
        self._until_next, self._until_next_stamp = _spacings(self._period_ns, generator)
        self._times = (
            (generator.random(ROWS_DRAWN) > 0.03).astype(int) + (generator.random(ROWS_DRAWN) < 0.02)
        ).tolist()

    def rows(self, now_ns: int) -> list[tuple[AnyArray | None, int]]:
        """Rows that have come by a time, each with its stamp."""
        come: list[tuple[AnyArray | None, int]] = []
        if abs(now_ns - self._next_ns) > LONGEST_SILENCE * self._period_ns:
            self._next_ns = now_ns
        while self._next_ns <= now_ns:
            index = self._asked % ROWS_DRAWN
            self._next_ns += self._until_next[index]
            self._stamp_ns += self._until_next_stamp[index]
            row = self._script.request(index, self._last, self._still)
            self._asked += 1
            come += [(row, self._stamp_ns)] * self._times[index]
        return come

    def answered(self, taken: Taken) -> None:
        """The next rows begin where this one ended, as an honest sender's do."""
        self._last = taken.applied.astype(np.float64)


def _spacings(period_ns: int, generator: np.random.Generator) -> tuple[list[int], list[int]]:
    """Times from row to row, and between their stamps [ns]."""
    luck = generator.random(ROWS_DRAWN)
    usual, late = generator.uniform(0.8, 1.2, ROWS_DRAWN), generator.uniform(1, 8, ROWS_DRAWN)
    until_next = period_ns * np.select([luck < 0.02, luck < 0.04], [0.0, late], usual)
    luck = generator.random(ROWS_DRAWN)
    odd = generator.choice([0, 1, -period_ns, -20 * period_ns, 10**10], ROWS_DRAWN)
    jittered = (period_ns * generator.uniform(0.5, 1.5, ROWS_DRAWN)).astype(np.int64)
    until_next_stamp = np.select([luck < 0.01, luck < 0.8], [odd, period_ns], jittered)
    return until_next.astype(np.int64).tolist(), until_next_stamp.astype(np.int64).tolist()


@dataclass
class _Part:
    """Outputs that follow one another, from a pose at rest, or from where nobody knows (NaN)."""

    pose: Array
    applied: list[AnyArray] = field(default_factory=list)


class Round:
    """One robot, its interpolator and its arm, and what is checked of them.

    Args:
        seed: Of everything.
        count: Told of every tick.
    """

    def __init__(self, seed: int, count: FuzzCount) -> None:
        self._generator = generator = np.random.default_rng(seed)
        self._count = count
        rows = random_limits(generator, measured_places=0.7)
        hz = rows.spec.control_hz * float(generator.choice(RATIOS))
        self._rows = with_following(rows, hz, generator)
        self._interpolator = CommandInterpolator(self._rows, hz)
        self.limits = self._interpolator.limits
        rate = np.array([kind is ActionKind.RATE for kind in rows.spec.action_kinds])
        self._command = np.where(rate, 0.0, generator.uniform(rows.low, rows.high))
        self._interpolator.restart(self._command)
        self._plant = Plant(self.limits, self._command, generator, TICKS_PER_ROUND)
        self._sender = Sender(self._rows, generator)
        self._given = Circumstances(1 / hz, generator, TICKS_PER_ROUND)
        self._luck = generator.random((TICKS_PER_ROUND, 4)).tolist()
        self._elapsed_ns = _elapsed(self.limits.spec.tick_ns, generator)
        self._now_ns, self._enabled, self._failed = 0, True, False
        self._commands: list[AnyArray] = []
        self._requested: list[AnyArray | None] = []
        self._reasons: list[int] = []
        self._parts = [_Part(self._command)]
        self._jumped: list[bool] = []
        self._waited: list[bool] = []
        self._ages_ns: list[int] = []
        self._sample_ns = 0
        self._row_parts: list[_Part] = []
        self._row_open = self._row_waited = False
        self._row_stamp_ns = 0
        self._answers: list[tuple[AnyArray, AnyArray | None, int]] = []
        self._wrong: list[tuple[int, str]] = []

    def tick(self, tick: int) -> None:
        """Rows that have come, and one command."""
        self._now_ns += self._elapsed_ns[tick]
        observation = self._observation(tick)
        for row, stamp_ns in self._sender.rows(self._now_ns):
            self._row(tick, row, stamp_ns, observation)
        clears, toggles, deadman, _ = self._luck[tick]
        if self._interpolator.fault and clears < 0.2:
            self._interpolator.clear_fault()
            self._row_open = False
        if self._failed and clears < 0.2 and self._plant.still:
            self._begin_anew()
        if toggles < (0.003 if self._enabled else 0.05):
            self._enabled = not self._enabled
        allowed = OperatorState(deadman > 0.005, self._enabled and not self._failed)
        self._row_open = self._row_open and all(allowed)
        waits = self._interpolator.waits
        made = self._interpolator.tick(self._now_ns, self._given.dt_s[tick], observation, allowed)
        # A command, or a row, that waited and is what was asked for has no reason.
        self._waited.append(self._interpolator.waits > waits)
        fails = bool(self._interpolator.not_following) and not self._failed
        self._failed = self._failed or fails
        self._command = made.command
        self._plant.move(tick, made.command)
        self._commands.append(made.command)
        self._requested.append(made.requested)
        self._reasons.append(int(made.reasons))
        self._jumped.append(fails)
        self._parts[-1].applied.append(made.command)

    def _observation(self, tick: int) -> Observation | None:
        """What is shown, as old as it says."""
        stamp_ns = 10**12 + tick * self.limits.spec.tick_ns
        ages = self._given.ages[tick]
        if ages is not None:
            self._sample_ns = max(self._sample_ns, stamp_ns - max(0, ages["state"]))
        self._ages_ns.append(min(stamp_ns - self._sample_ns, NO_AGE_NS))
        return None if ages is None else Observation(stamp_ns, {"state": self._plant.shown(ages["state"])}, ages)

    def _begin_anew(self) -> None:
        """As an arm node does once a person has cleared: at rest, where the arm is."""
        pose = self._plant.pose(self._command.astype(np.float64))
        self._interpolator.restart(pose)
        self._parts.append(_Part(np.where(self.limits.spec.kind_mask(ActionKind.RATE), 0.0, pose)))
        self._failed = self._row_open = False
        self._count.restarts += 1

    def _row(self, tick: int, row: AnyArray | None, stamp_ns: int, observation: Observation | None) -> None:
        begins = not self._row_open
        self._row_waited = self._row_waited and not begins
        taken = self._interpolator.take(row, stamp_ns, self._now_ns, observation)
        self._count.rows += 1
        if not begins and stamp_ns == self._row_stamp_ns:
            return
        self._sender.answered(taken)
        if not taken.usable and not taken.reasons & UNUSABLE:
            self._count.held += 1
            if not taken.reasons:
                self._wrong.append((tick, f"a row was held without a reason: {taken}"))
            return
        waits = bool(taken.reasons & FilterReason.FOLLOWING) or self._waited[-1:] == [True]
        if waits or self._row_waited:
            # What is answered is what the arm will make of the row, not where the rows are.
            self._row_parts.append(_Part(np.full(len(self._command), np.nan)))
        elif begins:
            self._row_parts.append(_Part(self._command.astype(np.float64)))
        self._row_open, self._row_waited, self._row_stamp_ns = True, waits, stamp_ns
        self._row_parts[-1].applied.append(taken.applied)
        self._answers.append((taken.applied, row, int(taken.reasons)))

    def broken(self) -> list[tuple[int, str]]:
        """Everything that was, with its tick, in words."""
        commands, reasons = np.array(self._commands), np.array(self._reasons)
        self._count.see(reasons)
        waited = np.array(self._waited)
        found, first = self._wrong, 0
        for part in self._parts:
            end = first + len(part.applied)
            if end > first:
                judged = LimitCheck(self.limits, part.pose).all(
                    commands[first:end], waited[first:end], np.array(self._jumped[first:end])
                )
                found += [(first + tick, words) for tick, words in judged]
            first = end
        found += unexplained(commands, self._requested, reasons)
        found += self._plant.tool.broken(commands)
        found += self._plant.broken(commands, np.array(self._ages_ns), self._count)
        return found + self._broken_rows()

    def _broken_rows(self) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for part in self._row_parts:
            judged = LimitCheck(self._rows, part.pose).all(np.array(part.applied))
            found += [(TICKS_PER_ROUND, f"row: {words}") for _, words in judged]
        if self._answers:
            applied, rows, reasons = zip(*self._answers, strict=True)
            wrong = unexplained(np.array(applied), rows, np.array(reasons))
            found += [(TICKS_PER_ROUND, f"row: {words}") for _, words in wrong]
        return found


def _elapsed(period_ns: int, generator: np.random.Generator) -> list[int]:
    """Times from tick to tick on the ticks' own clock [ns]."""
    luck = generator.random(TICKS_PER_ROUND)
    odd = generator.choice([0, -period_ns, -NS_PER_S, NS_PER_S, 10**13], TICKS_PER_ROUND)
    jittered = (period_ns * generator.uniform(0.2, 3, TICKS_PER_ROUND)).astype(np.int64)
    elapsed: list[int] = np.select([luck < 0.005, luck < 0.05], [odd, jittered], period_ns).astype(np.int64).tolist()
    return elapsed


def fuzz_round(seed: int, count: FuzzCount) -> list[str]:
    """One robot and 500 ticks. Returns what was broken first, in words; [] if nothing was."""
    one = Round(seed, count)
    for tick in range(TICKS_PER_ROUND):
        one.tick(tick)
    return first_broken(seed, one.limits, one.broken())


def totals(count: FuzzCount) -> str:
    """What the fuzz has seen."""
    return (
        f"{count.ticks:,} ticks, {count.changed:,} changed; {count.rows:,} rows, {count.held:,} held; "
        f"{count.restarts:,} times begun anew at the arm; no limit broken, largest true speed of the arm with fresh "
        f"samples {count.fastest:.2f} of the limit"
    )


if __name__ == "__main__":
    run_rounds(fuzz_round, totals, __doc__)
