"""What is checked of a round of commands: every limit by its definition, and that a reason is given if it must be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.runtime.fuzz_draws import Array
from hardware.safety.limits import CommandLimits
from robot_rl.core.specs import ActionKind, AnyArray

Flags = npt.NDArray[np.bool_]

TOLERANCE = 1.1e-9
"""Relative: the filter's own `LIMIT_TOLERANCE` and float64 rounding."""


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
