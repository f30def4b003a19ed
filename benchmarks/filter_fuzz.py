"""Drives the command filter with everything that can go wrong, and checks every output against every limit.

    python benchmarks/filter_fuzz.py --steps 1000000

Each round draws a robot (1 to 7 dimensions of all kinds, 5 to 500 Hz), its limits, and 500 ticks of requests: smooth,
jumping, at the edges, one jerk too far, astronomically large, NaN, infinite, missing, of a wrong shape; with stale and
missing observations, an operator who lets go, and a clock that jitters, stops, jumps and goes back. The checks use the
definitions of velocity, acceleration and jerk as differences of successive outputs, and nothing of the filter's own.
"""

from __future__ import annotations

import argparse
import collections
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.limits import CommandLimits
from hardware.safety import (
    FilterReason,
    FilterResult,
    FilterState,
    OperatorState,
    clear_fault,
    filter_command,
)
from robot_rl.types import ActionKind, AnyArray, ArraySpec, Observation, RobotSpec

Array = npt.NDArray[np.float64]
Filter = Callable[..., FilterResult]

TICKS_PER_ROUND = 500
TOLERANCE = 1.1e-9
"""Relative: the filter's own `LIMIT_TOLERANCE` and float64 rounding."""
WALL_ROUNDINGS = 16
"""A rate is rounded to the action's dtype at every tick of a stop; the tool may pass its wall by so many of them."""


@dataclass
class FuzzCount:
    """What a fuzz run has seen."""

    ticks: int = 0
    changed: int = 0
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)


def random_limits(generator: np.random.Generator) -> CommandLimits:
    """A robot and its limits: spans from a centimetre to hundreds of units, stops from one tick to hundreds."""
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
        pose: Where the sequence starts, at rest. Shape (A,).
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
        self._limits = (
            ("step", np.minimum(limits.max_step, velocity), 2 * half_ulp),
            ("acceleration", np.array(limits.max_acceleration) / hz**2, 4 * half_ulp),
            ("jerk", np.array(limits.max_jerk) / hz**3, 8 * half_ulp),
        )
        self._last = np.array(pose, dtype=np.float64)
        self._step = np.zeros(len(kinds))
        self._change = np.zeros(len(kinds))

    def __call__(self, applied: AnyArray) -> list[str]:
        """Every limit that an output breaks, in words."""
        output = applied.astype(np.float64)
        if not np.isfinite(output).all():
            return [f"not finite: {output}"]
        broken = []
        if (output < self._low).any() or (output > self._high).any():
            broken.append(f"box: {output} is outside {self._low}..{self._high}")
        step = np.where(self._place, output - self._last, np.where(self._rate, output, 0.0))
        change = step - self._step
        for (name, limit, rounding), value in zip(self._limits, (step, change, change - self._change), strict=True):
            excess = np.where(self._place | self._rate, abs(value) - limit * (1 + TOLERANCE) - rounding, -1.0)
            if (excess > 0).any():
                broken.append(f"{name}: {value} exceeds {limit} by {excess}")
        self._last, self._step, self._change = output, step, change
        return broken


class Adversary:
    """Asks for whatever a filter may be asked for."""

    def __init__(self, limits: CommandLimits, generator: np.random.Generator) -> None:
        self._limits, self._generator = limits, generator
        self._low, self._high = np.array(limits.low), np.array(limits.high)
        kinds = limits.spec.action_kinds
        self._rate = np.array([kind is ActionKind.RATE for kind in kinds])
        self._fastest = np.minimum(limits.max_step, np.array(limits.max_velocity) / limits.spec.control_hz)
        self._jerk = np.array(limits.max_jerk) / limits.spec.control_hz**3
        self._phase = generator.uniform(0, 6, len(kinds))
        self._frequency = 10 ** generator.uniform(-2, 0)
        self._mood = 0

    def request(self, tick: int, last: Array, step: Array) -> AnyArray | None:
        """A request for a tick, given the last output and step. Mostly shape (A,)."""
        generator = self._generator
        if generator.random() < 0.03:
            self._mood = int(generator.integers(0, 7))
        asked = self._asked(tick, last, step)
        luck = generator.random()
        if luck < 0.01:
            return None
        if luck < 0.02:
            asked[generator.integers(len(asked))] = generator.choice([np.nan, np.inf, -np.inf])
        elif luck < 0.025:
            return np.zeros(len(asked) + 1)
        elif luck < 0.03:
            return asked[None, :]
        return asked

    def _asked(self, tick: int, last: Array, step: Array) -> AnyArray:
        generator, low, high = self._generator, self._low, self._high
        size = len(low)
        swing = np.sin(self._phase + self._frequency * tick)
        asked: Array
        match self._mood:
            case 0:
                asked = np.where(self._rate, self._fastest * swing, (low + high) / 2 + (high - low) * 0.6 * swing)
            case 1:
                asked = generator.uniform(low - 0.2 * (high - low), high + 0.2 * (high - low))
            case 2:
                asked = generator.choice([low, high])
            case 3:
                asked = np.where(generator.random(size) < 0.5, low, high)
            case 4:
                asked = last + step + generator.choice([-1, 0, 1], size) * self._jerk
            case 5:
                return generator.standard_normal(size) * 10 ** generator.uniform(-30, 30)
            case _:
                asked = last.copy()
        return asked.astype(self._limits.spec.action.dtype)

    def observation(self, tick: int, tool: Array) -> Observation | None:
        """What is seen: mostly fresh."""
        generator = self._generator
        ages = {"state": 0, "camera": 0}
        for name in ages:
            if generator.random() < 0.02:
                ages[name] = int(10 ** generator.uniform(6, 8.75))
        luck = generator.random()
        if luck < 0.003:
            ages["state"] = -5
        elif luck < 0.006:
            del ages["camera"]
        elif luck < 0.016:
            return None
        return Observation(tick, {"state": tool.copy()}, ages)

    def dt_s(self) -> float:
        """Time since the last tick, as a clock may have it."""
        generator, period_s = self._generator, 1 / self._limits.spec.control_hz
        luck = generator.random()
        if luck < 0.01:
            return float(generator.choice([0, -1, np.nan, np.inf, 1e9, 1e-9]))
        return period_s * float(generator.uniform(0.2, 3)) if luck < 0.06 else period_s

    def operator(self) -> OperatorState:
        """Who lets go now and then."""
        return OperatorState(self._generator.random() > 0.02, self._generator.random() > 0.01)


def same_command(applied: AnyArray, requested: AnyArray | None) -> bool:
    """Whether an output is the request, in the output's dtype."""
    if requested is None or requested.shape != applied.shape or requested.dtype.kind not in "fiu":
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.array_equal(applied, requested.astype(applied.dtype)))


def fuzz_round(seed: int, count: FuzzCount, command_filter: Filter = filter_command) -> list[str]:
    """One robot and 500 ticks. Returns what was broken first, in words; [] if nothing was."""
    generator = np.random.default_rng(seed)
    limits = random_limits(generator)
    adversary = Adversary(limits, generator)
    rate = np.array([kind is ActionKind.RATE for kind in limits.spec.action_kinds])
    pose = np.where(rate, 0.0, generator.uniform(limits.low, limits.high))
    check, state = LimitCheck(limits, pose), FilterState.at(pose)
    tool, last = np.full(len(pose), -0.5), pose
    for tick in range(TICKS_PER_ROUND):
        requested = adversary.request(tick, last, np.array(state.step))
        if state.fault and generator.random() < 0.2:
            state = clear_fault(state)
        observation = adversary.observation(tick, tool)
        result = command_filter(
            requested, state, observation, adversary.operator(), adversary.dt_s(), limits, limits.spec
        )
        state, last = result.state, result.applied.astype(np.float64)
        broken = check(result.applied)
        if same_command(result.applied, requested) != (result.reasons == 0):
            broken.append(f"reasons {result.reasons!r} for request {requested} and output {result.applied}")
        for index, box in limits.measured.items():
            tool[index] += box.scale * last[index]
            largest = abs(box.scale) * max(limits.high[index], -limits.low[index], 1.0)
            slack = WALL_ROUNDINGS * largest * float(np.finfo(result.applied.dtype).eps)
            if not -1.0 - slack <= tool[index] <= slack:
                broken.append(f"tool box: dimension {index} is at {tool[index]}, outside -1..0")
        count.ticks += 1
        count.changed += bool(result.reasons)
        count.reasons.update(reason.name or "" for reason in FilterReason if reason & result.reasons)
        if broken:
            return [f"seed {seed}, tick {tick}, {limits.spec.action_kinds}", *broken]
    return []


def run_rounds(fuzz_round: Callable[[int, Any], list[str]], count: Any, description: str | None) -> float:
    """Fuzzes as the command line says; ends the program with what was broken.

    Args:
        fuzz_round: From a seed and `count` to what was broken, [] if nothing was.
        count: What the rounds have seen.
        description: Of the program.

    Returns:
        Seconds that it took.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + -(-arguments.steps // TICKS_PER_ROUND)):
        broken = fuzz_round(seed, count)
        if broken:
            raise SystemExit("\n".join(broken))
    return time.monotonic() - begun


def print_reasons(reasons: collections.Counter[str]) -> None:
    """How often each reason was given."""
    for name, times in reasons.most_common():
        print(f"  {name.lower():<14} {times:>9,}")


def main() -> None:
    """Runs the fuzz and prints what it saw."""
    count = FuzzCount()
    seconds = run_rounds(fuzz_round, count, __doc__)
    print(f"{count.ticks:,} ticks, {count.changed:,} changed, no limit broken, {seconds:.0f} s")
    print_reasons(count.reasons)


if __name__ == "__main__":
    main()
