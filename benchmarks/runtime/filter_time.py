"""Time of the command filter per call, seven dimensions: following, catching up, at a wall, braking, passing through.

    python -m benchmarks.runtime.filter_time

CPU time of the thread, so that a busy machine does not show; milliseconds of other processes are not the filter's.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from hardware.safety.filter import FilterState, OperatorState, filter_command
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

DIMENSIONS = 7
CALLS = 5000


def arm(hz: float, motion: tuple[float, float, float, float]) -> CommandLimits:
    """A box of +-0.5 m with the same step, velocity, acceleration and jerk limit in every dimension."""
    streams = {"state": ArraySpec((DIMENSIONS,), "float32", "m"), "camera": ArraySpec((4, 4, 3), "uint8", "rgb")}
    kinds = (ActionKind.POSITION,) * DIMENSIONS
    spec = RobotSpec("arm", streams, ArraySpec((DIMENSIONS,), "float64", "m"), kinds, hz)
    names = ("max_step", "max_velocity", "max_acceleration", "max_jerk")
    return CommandLimits.for_spec(
        spec,
        {
            "low": [-0.5] * DIMENSIONS,
            "high": [0.5] * DIMENSIONS,
            **{name: [value] * DIMENSIONS for name, value in zip(names, motion, strict=True)},
            "max_age_s": {"state": 0.05, "camera": 0.1},
            "ramp_after_s": 0.1,
            "fault_after_s": 0.5,
        },
    )


def timed(limits: CommandLimits, start: float, request: Callable[[float], float | None]) -> tuple[float, float, float]:
    """Median and 99th percentile [us], and the share of calls that changed something."""
    hz = limits.spec.control_hz
    state, spent, changed = FilterState.at(np.full(DIMENSIONS, start)), [], 0
    for tick in range(CALLS):
        value = request(tick / hz)
        requested = None if value is None else np.full(DIMENSIONS, value)
        observation = Observation(tick, {}, {"state": 0, "camera": 1000})
        begun_ns = time.thread_time_ns()
        result = filter_command(requested, state, observation, OperatorState(), 1 / hz, limits, limits.spec)
        spent.append((time.thread_time_ns() - begun_ns) / 1000)
        state, changed = result.state, changed + bool(result.reasons)
    return float(np.percentile(spent, 50)), float(np.percentile(spent, 99)), changed / CALLS


def main() -> None:
    """Prints a table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'case':<44} {'Hz':>5} {'p50 us':>7} {'p99 us':>7} {'changed':>8}")
    for hz in (100.0, 500.0):
        arm_limits = arm(hz, (0.01, 0.25, 1.0, 10.0))
        wide = arm(hz, (1.0, 2 * hz, 4 * hz**2, 8 * hz**3))
        cases: tuple[tuple[str, CommandLimits, float, Callable[[float], float | None]], ...] = (
            ("smooth and legal, far from the box", arm_limits, 0.0, lambda t: 0.008 * (t - math.sin(t))),
            ("too fast for ever: catching up in all 7", arm_limits, 0.0, lambda t: 0.3 * math.sin(5 * t)),
            ("pushed at a wall in all 7", arm_limits, 0.4, lambda t: 0.6),
            ("steps of 5 cm at 10 Hz", arm_limits, 0.0, lambda t: 0.05 * (int(10 * t) % 2)),
            ("nothing to execute", arm_limits, 0.0, lambda t: None),
            ("limits as wide as the action space", wide, 0.0, lambda t: 0.5 * math.sin(5 * t)),
        )
        for name, limits, start, request in cases:
            median, tail, changed = timed(limits, start, request)
            print(f"{name:<44} {hz:5.0f} {median:7.1f} {tail:7.1f} {changed:8.0%}")


if __name__ == "__main__":
    main()
