"""Drives the command filter with everything that can go wrong, and checks every output against every limit.

    python -m benchmarks.runtime.filter_fuzz --steps 1000000 [--seed 0] [--processes 2] [--seconds 240]

Each round draws a robot (1 to 7 dimensions of all kinds, 5 to 500 Hz), its limits, and 500 ticks of requests: smooth,
jumping, at the edges, one jerk too far, astronomically large, NaN, infinite, missing, of a wrong shape; with stale and
missing observations, an operator who lets go, and a clock that jitters, stops, jumps and goes back. A displacement
moves a tool that shows where it is some ticks late, as `limits.measured` says.

Everything that does not depend on the filter's answers is drawn for the whole round at once, and the outputs are judged
at once, by the definitions of velocity, acceleration and jerk as differences of successive outputs, and with nothing of
the filter's own. A step is one call of the filter; two thirds of the time and more are spent in it.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.safety.filter import (
    FilterReason,
    FilterResult,
    FilterState,
    OperatorState,
    clear_fault,
    filter_command,
)
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, AnyArray, ArraySpec, RobotSpec

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Filter = Callable[..., FilterResult]

TICKS_PER_ROUND = 500
ROUNDS_AT_ONCE = 40
"""Of one task of a process."""
TOLERANCE = 1.1e-9
"""Relative: the filter's own `LIMIT_TOLERANCE` and float64 rounding."""
WALL_ROUNDINGS = 16
"""A rate is rounded to the action's dtype at every tick of a stop; the tool may pass its wall by so many of them."""
SUM_ROUNDING = 1e-13
"""Of a place between -1 and 0 that is the sum of a round's displacements."""
ALLOWED = tuple(OperatorState(deadman, enabled) for deadman in (False, True) for enabled in (False, True))
"""By 2 * deadman + enabled."""


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


def random_limits(generator: np.random.Generator, measured_places: float = 0.0) -> CommandLimits:
    """A robot and its limits: spans from a centimetre to hundreds of units, stops from one tick to hundreds.

    Args:
        generator: Of everything.
        measured_places: Share of POSITION dimensions that are measured.
    """
    hz = float(generator.choice([5, 10, 30, 80, 100, 125, 500]))
    kinds = tuple(
        ActionKind(each)
        for each in generator.choice(
            ["position", "rate", "binary"], size=int(generator.integers(1, 8)), p=[0.45, 0.4, 0.15]
        )
    )
    columns: dict[str, list[float]] = {name: [] for name in ("low", "high", "step", "velocity", "acceleration", "jerk")}
    measured: dict[int, dict[str, Any]] = {}
    for index, kind in enumerate(kinds):
        span = 10 ** generator.uniform(-2, 2.5)
        if kind is ActionKind.RATE:
            low, high = -span * generator.choice([0, 0.1, 1], p=[0.1, 0.2, 0.7]), span * generator.choice([0, 1, 1, 1])
            fastest = span
            if generator.random() < 0.4:
                scale = float(generator.choice([1, 0.01, -0.5]))
                measured[index] = {"stream": "state", "index": index, "scale": scale, "low": -1.0, "high": 0.0}
        else:
            low = span * generator.choice([0, -1, generator.uniform(-1, 1)])
            high, fastest = low + span, span * 10 ** generator.uniform(-2.5, 0.3)
            if kind is ActionKind.POSITION and generator.random() < measured_places:
                measured[index] = {"stream": "state", "index": index}
        columns["low"].append(float(low))
        columns["high"].append(float(high))
        columns["step"].append(float(fastest * generator.choice([0, 0.1, 1], p=[0.03, 0.3, 0.67])))
        columns["velocity"].append(float(fastest * hz * 10 ** generator.uniform(-0.5, 0.5)))
        columns["acceleration"].append(float(fastest * hz**2 * 10 ** generator.uniform(-1.7, 0.5)))
        columns["jerk"].append(float(fastest * hz**3 * 10 ** generator.uniform(-2.5, 0.8)))
    streams = {
        "state": ArraySpec((len(kinds),), "float64", "m"),
        "camera": ArraySpec((2, 2, 3), "uint8", "rgb"),
    }
    dtype = str(generator.choice(["float32", "float64"]))
    spec = RobotSpec("fuzzed", streams, ArraySpec((len(kinds),), dtype, "m"), kinds, hz)
    late_s = float(generator.choice([0, 0, 1, 3])) / hz
    for entry in measured.values():
        if "low" in entry:
            entry["lag_s"] = late_s
    return CommandLimits.for_spec(
        spec,
        {
            "low": columns["low"],
            "high": columns["high"],
            "max_step": columns["step"],
            "max_velocity": columns["velocity"],
            "max_acceleration": columns["acceleration"],
            "max_jerk": columns["jerk"],
            "max_age_s": {"state": 0.05, "camera": 0.1},
            "ramp_after_s": 0.1,
            "fault_after_s": 0.5,
            "measured": measured,
        },
    )


class LimitCheck:
    """Checks a sequence of outputs against limits, by the definitions.

    Args:
        limits: The robot's.
        pose: Where the sequence starts, at rest; NaN if it starts anyhow. Shape (A,).
    """

    def __init__(self, limits: CommandLimits, pose: Array) -> None:
        kinds = limits.spec.action_kinds
        hz = limits.spec.control_hz
        dtype = np.dtype(limits.spec.action.dtype)
        self._place = np.array([kind is ActionKind.POSITION for kind in kinds])
        self._rate = np.array([kind is ActionKind.RATE for kind in kinds])
        self._low, self._high = np.array(limits.low), np.array(limits.high)
        largest = np.maximum(abs(self._low), abs(self._high))
        # Rounding a command to the action's dtype moves it by half a unit in the last place; differences add up.
        half_ulp = np.spacing(largest.astype(dtype)).astype(np.float64) / 2 + 1e-14 * largest
        velocity = np.array(limits.max_velocity) / hz
        most = (
            np.minimum(limits.max_step, velocity),
            np.array(limits.max_acceleration) / hz**2,
            np.array(limits.max_jerk) / hz**3,
        )
        self._most = [
            limit * (1 + TOLERANCE) + rounding * half_ulp for limit, rounding in zip(most, (2, 4, 8), strict=True)
        ]
        self._last = np.array(pose, dtype=np.float64)
        self._step = np.where(np.isnan(self._last), np.nan, 0.0)
        self._change = self._step.copy()

    def __call__(self, applied: AnyArray) -> list[str]:
        """Every limit that the next output breaks, in words."""
        return [words for _, words in self.all(applied[None])]

    def all(self, applied: AnyArray, waited: Flags | None = None, jumped: Flags | None = None) -> list[tuple[int, str]]:
        """Every limit that the next outputs break, with the tick, in words.

        Args:
            applied: Shape (T, A).
            waited: Outputs that stop, or come nearer to the arm, at once, so that acceleration and jerk are free there,
                and counted from rest or from the output before at the next. Shape (T,).
            jumped: Outputs that go to where the arm is: nothing but the box is checked. Shape (T,).
        """
        output = applied.astype(np.float64)
        count = len(output)
        waited = np.zeros(count, dtype=bool) if waited is None else waited
        jumped = np.zeros(count, dtype=bool) if jumped is None else jumped
        before = np.vstack([self._last, output[:-1]])
        step = np.where(self._place, output - before, np.where(self._rate, output, 0.0))
        steps, after_wait = np.vstack([self._step, step]), np.append(False, waited[:-1])[:, None]
        change = np.diff(steps, axis=0)
        from_rest = np.where(after_wait, step, change)
        earlier = np.vstack([self._change, change[:-1]])
        earlier_from_rest = np.vstack([self._change, from_rest[:-1]])
        jerk = np.minimum(abs(change - earlier), abs(change - earlier_from_rest))
        jerk = np.where(after_wait, np.minimum(jerk, abs(from_rest)), jerk)
        self._last, self._step, self._change = output[-1], step[-1], change[-1]
        checked = self._place | self._rate
        tests = (
            ("not finite", ~np.isfinite(output), np.ones(count, dtype=bool)),
            ("box", (output < self._low) | (output > self._high), np.ones(count, dtype=bool)),
            ("step", checked & (abs(step) > self._most[0]), ~jumped),
            ("acceleration", checked & (np.minimum(abs(change), abs(from_rest)) > self._most[1]), ~waited & ~jumped),
            ("jerk", checked & (jerk > self._most[2]), ~waited & ~jumped),
        )
        broken = [
            (tick, f"{name}: output {output[tick]}, step {step[tick]}, change {change[tick]}, limits {self._most}")
            for name, bad, counts in tests
            for tick in np.flatnonzero(bad.any(axis=1) & counts).tolist()
        ]
        return sorted(broken)


class Script:
    """Asks for whatever a filter may be asked for, drawn for a whole round.

    Args:
        limits: The robot's.
        generator: Of everything.
        count: Of requests.
    """

    def __init__(self, limits: CommandLimits, generator: np.random.Generator, count: int) -> None:
        self._limits, self._count = limits, count
        self._low, self._high = np.array(limits.low), np.array(limits.high)
        self._dtype = np.dtype(limits.spec.action.dtype)
        self._rate = np.array([kind is ActionKind.RATE for kind in limits.spec.action_kinds])
        size = len(self._low)
        self._jerk = np.array(limits.max_jerk) / limits.spec.control_hz**3
        self._signs = generator.choice([-1.0, 0.0, 1.0], (count, size))
        self._moods = self._drawn_moods(generator)
        self._asked = list(self._drawn_requests(generator, size))
        luck = generator.random(count)
        self._odd = np.select([luck < 0.01, luck < 0.02, luck < 0.025, luck < 0.03], [1, 2, 3, 4], 0).tolist()
        self._spoilt = generator.integers(size, size=count).tolist()
        self._spoils = generator.choice([np.nan, np.inf, -np.inf], count).tolist()

    def _drawn_moods(self, generator: np.random.Generator) -> list[int]:
        changes = generator.random(self._count) < 0.03
        drawn = generator.integers(0, 7, self._count)
        since = np.maximum.accumulate(np.where(changes, np.arange(self._count), -1))
        moods: list[int] = np.where(since < 0, 0, drawn[since]).tolist()
        return moods

    def _drawn_requests(self, generator: np.random.Generator, size: int) -> AnyArray:
        """Requests of the moods that look at nothing. Shape (T, A)."""
        low, high, shape = self._low, self._high, (self._count, size)
        fastest = np.minimum(self._limits.max_step, np.array(self._limits.max_velocity) / self._limits.spec.control_hz)
        frequency = 10 ** generator.uniform(-2, 0)
        swing = np.sin(generator.uniform(0, 6, size) + frequency * np.arange(self._count)[:, None])
        smooth = np.where(self._rate, fastest * swing, (low + high) / 2 + (high - low) * 0.6 * swing)
        anywhere = generator.uniform(low - 0.2 * (high - low), high + 0.2 * (high - low), shape)
        corner = np.where(generator.random((self._count, 1)) < 0.5, low, high)
        edges = np.where(generator.random(shape) < 0.5, low, high)
        huge = generator.standard_normal(shape) * 10 ** generator.uniform(-30, 30, (self._count, 1))
        moods = np.array(self._moods)[:, None]
        asked = np.select(
            [moods == 0, moods == 1, moods == 2, moods == 3, moods == 5], [smooth, anywhere, corner, edges, huge]
        )
        with np.errstate(over="ignore"):
            return asked.astype(self._dtype)

    def request(self, index: int, last: Array, step: Sequence[float]) -> AnyArray | None:
        """A request, given the last output and step. Mostly shape (A,)."""
        mood, odd = self._moods[index], self._odd[index]
        if odd == 1:
            return None
        asked: AnyArray = self._asked[index]
        if mood == 4:
            asked = (last + step + self._signs[index] * self._jerk).astype(self._dtype)
        elif mood == 6:
            asked = last.astype(self._dtype)
        if odd == 2:
            asked = asked.copy()
            asked[self._spoilt[index]] = self._spoils[index]
        elif odd == 3:
            return np.zeros(len(asked) + 1)
        elif odd == 4:
            return asked[None, :]
        return asked


class Circumstances:
    """What is seen, when, and whether motion is allowed, drawn for a whole round.

    Attributes:
        ages: Of the streams at each tick [ns]; None where nothing is seen. Mostly fresh.
        dt_s: Time since the last tick, as a clock may have it [s].
        operator: Who lets go now and then.
    """

    def __init__(self, period_s: float, generator: np.random.Generator, count: int) -> None:
        self.ages = self._drawn_ages(generator, count)
        luck = generator.random(count)
        odd = generator.choice([0, -1, np.nan, np.inf, 1e9, 1e-9], count)
        late = period_s * generator.uniform(0.2, 3, count)
        self.dt_s: list[float] = np.select([luck < 0.01, luck < 0.06], [odd, late], period_s).tolist()
        deadman, enabled = generator.random(count) > 0.02, generator.random(count) > 0.01
        self.operator = [ALLOWED[each] for each in (2 * deadman + enabled).tolist()]

    @staticmethod
    def _drawn_ages(generator: np.random.Generator, count: int) -> list[dict[str, int] | None]:
        fresh = {"state": 0, "camera": 0}
        ages: list[dict[str, int] | None] = [fresh] * count
        stale = generator.random((count, 2)) < 0.02
        for tick in np.flatnonzero(stale.any(axis=1)).tolist():
            drawn = (10 ** generator.uniform(6, 8.75, 2)).astype(int) * stale[tick]
            ages[tick] = {"state": int(drawn[0]), "camera": int(drawn[1])}
        luck = generator.random(count)
        for tick in np.flatnonzero(luck < 0.016).tolist():
            if luck[tick] < 0.003:
                ages[tick] = {"state": -5, "camera": 0}
            else:
                ages[tick] = {"state": 0} if luck[tick] < 0.006 else None
        return ages


class Tool:
    """Where displacements have moved a tool, shown some ticks late.

    Args:
        limits: The robot's.

    Attributes:
        shown: What the stream `state` holds now. Shape (A,).
    """

    def __init__(self, limits: CommandLimits) -> None:
        self.shown = np.full(len(limits.low), -0.5)
        self._boxes = [(index, box.scale) for index, box in limits.measured.items() if box.low is not None]
        # Whole ticks, and no later than the limits say.
        late = int(max((box.lag_s for box in limits.measured.values()), default=0.0) * limits.spec.control_hz + 1e-6)
        self._limits = limits
        self._late: dict[int, collections.deque[float]] = {
            index: collections.deque([-0.5] * (late + 1), maxlen=late + 1) for index, _ in self._boxes
        }

    def move(self, applied: AnyArray) -> None:
        """Takes a command. Shape (A,)."""
        for index, scale in self._boxes:
            path = self._late[index]
            path.append(path[-1] + scale * float(applied[index]))
            self.shown[index] = path[0]

    def broken(self, applied: AnyArray) -> list[tuple[int, str]]:
        """Ticks at which a sequence of commands has moved the tool out of its box. Shape (T, A)."""
        found = []
        for index, scale in self._boxes:
            largest = abs(scale) * max(self._limits.high[index], -self._limits.low[index], 1.0)
            slack = WALL_ROUNDINGS * largest * float(np.finfo(applied.dtype).eps) + SUM_ROUNDING
            place = -0.5 + np.cumsum(scale * applied[:, index].astype(np.float64))
            outside = (place < -1.0 - slack) | (place > slack)
            found += [
                (t, f"tool box: dimension {index} is at {place[t]}, outside -1..0")
                for t in np.flatnonzero(outside).tolist()
            ]
        return found


def same_command(applied: AnyArray, requested: AnyArray | None) -> bool:
    """Whether an output is the request, in the output's dtype."""
    if requested is None or requested.shape != applied.shape or requested.dtype.kind not in "fiu":
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.array_equal(applied, requested.astype(applied.dtype)))


def unexplained(
    applied: AnyArray, requested: Sequence[AnyArray | None], reasons: npt.NDArray[np.int64]
) -> list[tuple[int, str]]:
    """Outputs that are the request though they have a reason, or are not though they have none. Shapes (T, A), (T,)."""
    usable = [each is not None and each.shape == applied.shape[1:] for each in requested]
    whole = np.array([each if ok else applied[0] for each, ok in zip(requested, usable, strict=True)])
    with np.errstate(over="ignore", invalid="ignore"):
        same = (whole.astype(applied.dtype) == applied).all(axis=1) & usable
    return [
        (t, f"reasons {reasons[t]:#x} for request {requested[t]} and output {applied[t]}")
        for t in np.flatnonzero(same != (reasons == 0)).tolist()
    ]


def first_broken(seed: int, limits: CommandLimits, broken: Sequence[tuple[int, str]]) -> list[str]:
    """Everything that was broken at the first tick at which something was; [] if nothing was."""
    if not broken:
        return []
    first = min(tick for tick, _ in broken)
    return [
        f"seed {seed}, tick {first}, {limits.spec.action_kinds}",
        *(words for tick, words in broken if tick == first),
    ]


def fuzz_round(seed: int, count: FuzzCount, command_filter: Filter = filter_command) -> list[str]:
    """One robot and 500 ticks. Returns what was broken first, in words; [] if nothing was."""
    generator = np.random.default_rng(seed)
    limits = random_limits(generator)
    spec = limits.spec
    script = Script(limits, generator, TICKS_PER_ROUND)
    given = Circumstances(1 / spec.control_hz, generator, TICKS_PER_ROUND)
    clears = (generator.random(TICKS_PER_ROUND) < 0.2).tolist()
    rate = np.array([kind is ActionKind.RATE for kind in spec.action_kinds])
    pose = np.where(rate, 0.0, generator.uniform(limits.low, limits.high))
    state, tool, last = FilterState.at(pose), Tool(limits), pose
    requests, outputs, reasons = list[AnyArray | None](), list[AnyArray](), list[int]()
    for tick in range(TICKS_PER_ROUND):
        requested = script.request(tick, last, state.step)
        if state.fault and clears[tick]:
            state = clear_fault(state)
        ages = given.ages[tick]
        observation = None if ages is None else Observation(tick, {"state": tool.shown}, ages)
        result = command_filter(requested, state, observation, given.operator[tick], given.dt_s[tick], limits, spec)
        state, last = result.state, result.applied
        tool.move(last)
        requests.append(requested)
        outputs.append(last)
        reasons.append(int(result.reasons))
    applied, flags = np.array(outputs), np.array(reasons)
    count.see(flags)
    broken = LimitCheck(limits, pose).all(applied) + unexplained(applied, requests, flags) + tool.broken(applied)
    return first_broken(seed, limits, broken)


def run_rounds(fuzz_round: Callable[[int, FuzzCount], list[str]], description: str | None) -> tuple[FuzzCount, str]:
    """Fuzzes as the command line says; ends the program with what was broken.

    Args:
        fuzz_round: From a seed and a count to what was broken, [] if nothing was.
        description: Of the program.

    Returns:
        What was seen, and how long that took in words.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each round takes the next")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends after so long, with fewer steps")
    arguments = parser.parse_args()
    count, begun = FuzzCount(), time.monotonic()
    for seen, broken in _parts(fuzz_round, arguments):
        count.add(seen)
        if broken:
            raise SystemExit("\n".join(broken))
    seconds = time.monotonic() - begun
    words = f"{seconds:.0f} s, {(count.ticks + count.rows) / seconds:,.0f} steps/s in {arguments.processes} processes"
    return count, words


def _parts(
    fuzz_round: Callable[[int, FuzzCount], list[str]], arguments: argparse.Namespace
) -> Iterator[tuple[FuzzCount, list[str]]]:
    """What parts of the rounds have seen, as they are done."""
    end = arguments.seed + -(-arguments.steps // TICKS_PER_ROUND)
    starts = range(arguments.seed, end, ROUNDS_AT_ONCE)
    parts = [range(start, min(start + ROUNDS_AT_ONCE, end)) for start in starts]
    until_s = time.monotonic() + arguments.seconds
    with concurrent.futures.ProcessPoolExecutor(arguments.processes) as pool:
        for first in range(0, len(parts), arguments.processes):
            if time.monotonic() > until_s:
                return
            yield from pool.map(functools.partial(_part, fuzz_round), parts[first : first + arguments.processes])


def _part(fuzz_round: Callable[[int, FuzzCount], list[str]], seeds: Sequence[int]) -> tuple[FuzzCount, list[str]]:
    count = FuzzCount()
    for seed in seeds:
        broken = fuzz_round(seed, count)
        if broken:
            return count, broken
    return count, []


def print_reasons(reasons: collections.Counter[str]) -> None:
    """How often each reason was given."""
    for name, times in reasons.most_common():
        print(f"  {name.lower():<14} {times:>11,}")


def main() -> None:
    """Runs the fuzz and prints what it saw."""
    count, words = run_rounds(fuzz_round, __doc__)
    print(f"{count.ticks:,} ticks, {count.changed:,} changed, no limit broken, {words}")
    print_reasons(count.reasons)


if __name__ == "__main__":
    main()
