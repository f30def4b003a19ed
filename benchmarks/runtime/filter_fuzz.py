"""Drives the command filter with everything that can go wrong, and checks every output against every limit.

    python -m benchmarks.runtime.filter_fuzz --steps 1000000 [--seed 0] [--processes 2] [--seconds 240]

Each round draws a robot (1 to 7 dimensions of all kinds, 5 to 500 Hz), its limits, and 500 ticks of requests: smooth,
jumping, at the edges, one jerk too far, astronomically large, NaN, infinite, missing, of a wrong shape; with stale and
missing observations, an operator who lets go, and a clock that jitters, stops, jumps and goes back. A displacement
moves a tool that shows where it is some ticks late, as `limits.measured` says (`fuzz_draws.py`).

The outputs of a round are judged at once, by the definitions of velocity, acceleration and jerk as differences of
successive outputs, and with nothing of the filter's own (`fuzz_checks.py`). A step is one call of the filter; two
thirds of the time and more are spent in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.runtime.fuzz_checks import LimitCheck, first_broken, unexplained
from benchmarks.runtime.fuzz_draws import Circumstances, Script, Tool, random_limits
from benchmarks.runtime.fuzz_run import TICKS_PER_ROUND, FuzzCount, run_rounds
from hardware.safety.filter import FilterResult, FilterState, clear_fault, filter_command
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, AnyArray

Filter = Callable[..., FilterResult]


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


def totals(count: FuzzCount) -> str:
    """What the fuzz has seen."""
    return f"{count.ticks:,} ticks, {count.changed:,} changed, no limit broken"


if __name__ == "__main__":
    run_rounds(fuzz_round, totals, __doc__)
