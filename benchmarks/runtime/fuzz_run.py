"""Runs many rounds of a fuzz in several processes, and says what they have seen.

The totals are printed at the end, every ten minutes, and where SIGINT or SIGTERM ends the run early; the rounds that
are under way then are still counted.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hardware.safety.filter import FilterReason

TICKS_PER_ROUND = 500
ROUNDS_AT_ONCE = 40
"""How many one process does before it says what it has seen."""
TOTALS_EVERY_S = 600.0
ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class FuzzCount:
    """What a fuzz run has seen.

    Attributes:
        ticks: Calls of the filter, or ticks of the stream.
        changed: Of them, with a reason.
        rows: Rows that were sent.
        held: Of them, not executed.
        restarts: Motion began anew at the measured place.
        reasons: How often each was given.
        fastest: Largest true speed of the plant over what it is allowed.
    """

    ticks: int = 0
    changed: int = 0
    rows: int = 0
    held: int = 0
    restarts: int = 0
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    fastest: float = 0.0

    def add(self, other: FuzzCount) -> None:
        """Takes in what another has seen."""
        for name in ("ticks", "changed", "rows", "held", "restarts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)
        self.fastest = max(self.fastest, other.fastest)

    def see(self, reasons: npt.NDArray[np.int64]) -> None:
        """Counts the reasons of many ticks. Shape (T,)."""
        self.ticks += len(reasons)
        self.changed += int(np.count_nonzero(reasons))
        for reason in FilterReason:
            times = int(np.count_nonzero(reasons & int(reason)))
            if times:
                self.reasons[str(reason.name)] += times


FuzzRound = Callable[[int, FuzzCount], list[str]]
"""From a seed and a count to what was broken, in words; [] if nothing was."""


def run_rounds(fuzz_round: FuzzRound, totals: Callable[[FuzzCount], str], description: str | None) -> None:
    """Fuzzes as the command line says and prints the totals; ends the program with what was broken.

    Args:
        fuzz_round: One round.
        totals: Says what was seen.
        description: Of the program.
    """
    arguments = _parsed(description)
    count, begun_s = FuzzCount(), time.monotonic()
    told_s = begun_s
    for seen, broken in _parts(fuzz_round, arguments):
        count.add(seen)
        if broken:
            raise SystemExit("\n".join(broken))
        if time.monotonic() - told_s > TOTALS_EVERY_S:
            told_s = time.monotonic()
            _print_totals("so far: ", totals, count, begun_s, arguments.processes)
    _print_totals("", totals, count, begun_s, arguments.processes)


def _parsed(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each round takes the next")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends after so long, with fewer steps")
    return parser.parse_args()


def _parts(fuzz_round: FuzzRound, arguments: argparse.Namespace) -> Iterator[tuple[FuzzCount, list[str]]]:
    """What parts of the rounds have seen, as they are done; no more are begun once a signal says to end."""
    end = arguments.seed + -(-arguments.steps // TICKS_PER_ROUND)
    starts = range(arguments.seed, end, ROUNDS_AT_ONCE)
    parts = [range(start, min(start + ROUNDS_AT_ONCE, end)) for start in starts]
    until_s = time.monotonic() + arguments.seconds
    told = list[int]()
    for number in ENDING:
        signal.signal(number, lambda number, _: told.append(number))
    with concurrent.futures.ProcessPoolExecutor(arguments.processes, initializer=_ignore_signals) as pool:
        for first in range(0, len(parts), arguments.processes):
            if told or time.monotonic() > until_s:
                return
            yield from pool.map(functools.partial(_part, fuzz_round), parts[first : first + arguments.processes])


def _ignore_signals() -> None:
    """A terminal's Ctrl-C reaches every process; the one that counts ends the others."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _part(fuzz_round: FuzzRound, seeds: Sequence[int]) -> tuple[FuzzCount, list[str]]:
    count = FuzzCount()
    for seed in seeds:
        broken = fuzz_round(seed, count)
        if broken:
            return count, broken
    return count, []


def _print_totals(
    when: str, totals: Callable[[FuzzCount], str], count: FuzzCount, begun_s: float, processes: int
) -> None:
    """Everything seen since the beginning, its speed, and how often each reason was given."""
    seconds = time.monotonic() - begun_s
    speed = f"{seconds:.0f} s, {(count.ticks + count.rows) / seconds:,.0f} steps/s in {processes} processes"
    reasons = [f"  {name.lower():<14} {times:>11,}" for name, times in count.reasons.most_common()]
    print("\n".join([f"{when}{totals(count)}, {speed}", *reasons]), flush=True)
