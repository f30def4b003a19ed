"""Drives the command stream with everything that can go wrong, and checks every command against every limit.

    python -m benchmarks.stream_fuzz --steps 1000000

Each round draws a robot as `filter_fuzz.py` does, a stream one to eleven times as fast as its rows, and 500 stream
ticks. Rows come on time, late, early, in bursts, twice, out of order, or not at all, with stamps that jitter, stand
still, jump and go back; they hold whatever that fuzz asks of the filter. Observations drop out, the deadman is let go,
the arm is disabled and enabled, faults are cleared, and the stream's own clock jitters, jumps and goes back.

Checked of every command: each limit at the stream's rate, by its definition, and that it is what the rows amount to if
and only if it has no reason. Checked of every answer to a row: each limit at the rows' rate, and the same of reasons.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.filter_fuzz import (
    TICKS_PER_ROUND,
    WALL_ROUNDINGS,
    Adversary,
    LimitCheck,
    print_reasons,
    random_limits,
    run_rounds,
    same_command,
)
from hardware.command_stream import UNUSABLE, CommandStream, Streamed, Taken
from hardware.limits import CommandLimits
from hardware.safety import FilterReason, OperatorState
from robot_rl.types import NS_PER_S, ActionKind, AnyArray, Observation

LONGEST_SILENCE = 20
"""Periods; beyond them the clock has jumped, and a sender starts afresh."""
RATIOS = (1.0, 2.0, 3.3, 5.0, 11.0)


@dataclass
class StreamCount:
    """What a fuzz run has seen."""

    ticks: int = 0
    changed: int = 0
    rows: int = 0
    held: int = 0
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)


class Sender:
    """Sends rows as a network and a policy at their worst might: when, with which stamp, and how often.

    Args:
        limits: Of the rows.
        generator: Of its bad ideas.
    """

    def __init__(self, limits: CommandLimits, generator: np.random.Generator) -> None:
        self._adversary = Adversary(limits, generator)
        self._generator = generator
        self._period_ns = limits.spec.tick_ns
        self._stamp_ns = 10**12
        self._next_ns = 0
        self._asked = 0
        self._last: AnyArray = np.zeros(len(limits.axes))

    def rows(self, now_ns: int) -> list[tuple[AnyArray | None, int]]:
        """Rows that have come by a time, each with its stamp."""
        come: list[tuple[AnyArray | None, int]] = []
        if abs(now_ns - self._next_ns) > LONGEST_SILENCE * self._period_ns:
            self._next_ns = now_ns
        while self._next_ns <= now_ns:
            self._next_ns += self._until_next()
            self._stamp_ns += self._until_next_stamp()
            row = self._adversary.request(self._asked, self._last, np.zeros(len(self._last)))
            self._asked += 1
            if self._generator.random() > 0.03:
                come.append((row, self._stamp_ns))
            if self._generator.random() < 0.02:
                come.append((row, self._stamp_ns))
        return come

    def answered(self, taken: Taken) -> None:
        """The next rows begin where this one ended, as an honest sender's do."""
        self._last = taken.applied.astype(np.float64)

    def _until_next(self) -> int:
        luck = self._generator.random()
        if luck < 0.02:
            return 0
        if luck < 0.04:
            return int(self._period_ns * self._generator.uniform(1, 8))
        return int(self._period_ns * self._generator.uniform(0.8, 1.2))

    def _until_next_stamp(self) -> int:
        luck = self._generator.random()
        if luck < 0.01:
            return int(self._generator.choice([0, 1, -self._period_ns, -20 * self._period_ns, 10**10]))
        return self._period_ns if luck < 0.8 else int(self._period_ns * self._generator.uniform(0.5, 1.5))


class Round:
    """One robot, its stream, and what is checked of it.

    Args:
        seed: Of everything.
        count: Told of every tick.
    """

    def __init__(self, seed: int, count: StreamCount) -> None:
        self._generator = generator = np.random.default_rng(seed)
        self._count = count
        self._rows = random_limits(generator)
        self.stream = CommandStream(self._rows, self._rows.spec.control_hz * float(generator.choice(RATIOS)))
        self.limits = self.stream.limits
        rate = np.array([kind is ActionKind.RATE for kind in self._rows.spec.action_kinds])
        self._command = np.where(rate, 0.0, generator.uniform(self._rows.low, self._rows.high))
        self.stream.restart(self._command)
        self._check = LimitCheck(self.limits, self._command)
        self._row_check: LimitCheck | None = None
        self._taken: Taken | None = None
        self._sender = Sender(self._rows, generator)
        self._eyes = Adversary(self.limits, generator)
        self._tool: npt.NDArray[np.float64] = np.full(len(rate), -0.5)
        self._now_ns = 0
        self._enabled = True

    def tick(self, tick: int) -> list[str]:
        """One stream tick. Returns what was broken, in words."""
        generator = self._generator
        self._now_ns += self._elapsed_ns()
        observation = self._eyes.observation(tick, self._tool)
        broken = []
        for row, stamp_ns in self._sender.rows(self._now_ns):
            broken += self._row(row, stamp_ns, observation)
        if self.stream.fault and generator.random() < 0.2:
            self.stream.clear_fault()
            self._row_check = None
        if generator.random() < (0.003 if self._enabled else 0.05):
            self._enabled = not self._enabled
        allowed = OperatorState(generator.random() > 0.005, self._enabled)
        if not all(allowed):
            self._row_check = None
        streamed = self.stream.tick(self._now_ns, self._eyes.dt_s(), observation, allowed)
        return broken + self._judged(streamed)

    def _elapsed_ns(self) -> int:
        luck, period_ns = self._generator.random(), self.limits.spec.tick_ns
        if luck < 0.005:
            return int(self._generator.choice([0, -period_ns, -NS_PER_S, NS_PER_S, 10**13]))
        return int(period_ns * self._generator.uniform(0.2, 3)) if luck < 0.05 else period_ns

    def _row(self, row: AnyArray | None, stamp_ns: int, observation: Observation | None) -> list[str]:
        if self._row_check is None:
            self._row_check = LimitCheck(self._rows, self._command)
        taken = self.stream.take(row, stamp_ns, self._now_ns, observation)
        self._count.rows += 1
        if taken is self._taken:
            return []
        self._sender.answered(taken)
        if not taken.usable and not taken.reasons & UNUSABLE:
            self._count.held += 1
            return [] if taken.reasons else [f"a row was held without a reason: {taken}"]
        self._taken = taken
        broken = [f"row: {each}" for each in self._row_check(taken.applied)]
        if same_command(taken.applied, row) != (taken.reasons == 0):
            broken.append(f"reasons {taken.reasons!r} for row {row} and answer {taken.applied}")
        return broken

    def _judged(self, streamed: Streamed) -> list[str]:
        broken = self._check(streamed.command)
        if same_command(streamed.command, streamed.requested) != (streamed.reasons == 0):
            broken.append(f"reasons {streamed.reasons!r} for {streamed.requested} and command {streamed.command}")
        self._command = streamed.command.astype(np.float64)
        for index, box in self.limits.measured.items():
            self._tool[index] += box.scale * self._command[index]
            largest = abs(box.scale) * max(self.limits.high[index], -self.limits.low[index], 1.0)
            slack = WALL_ROUNDINGS * largest * float(np.finfo(np.float64).eps)
            if not -1.0 - slack <= self._tool[index] <= slack:
                broken.append(f"tool box: dimension {index} is at {self._tool[index]}, outside -1..0")
        self._count.ticks += 1
        self._count.changed += bool(streamed.reasons)
        self._count.reasons.update(reason.name or "" for reason in FilterReason if reason & streamed.reasons)
        return broken


def fuzz_round(seed: int, count: StreamCount) -> list[str]:
    """One robot and 500 stream ticks. Returns what was broken first, in words; [] if nothing was."""
    one = Round(seed, count)
    for tick in range(TICKS_PER_ROUND):
        broken = one.tick(tick)
        if broken:
            return [f"seed {seed}, tick {tick}, {one.limits.spec.action_kinds}", *broken]
    return []


def main() -> None:
    """Runs the fuzz and prints what it saw."""
    count = StreamCount()
    seconds = run_rounds(fuzz_round, count, __doc__)
    print(
        f"{count.ticks:,} stream ticks, {count.changed:,} changed; {count.rows:,} rows, {count.held:,} held; "
        f"no limit broken, {seconds:.0f} s"
    )
    print_reasons(count.reasons)


if __name__ == "__main__":
    main()
