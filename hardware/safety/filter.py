"""The command filter: one pure function between whoever asks for motion and the robot.

Order: finite -> shape -> deadman and lifecycle -> observation age -> workspace box -> step size -> velocity,
acceleration and jerk limits. Every change carries a reason; the caller counts them.

Whatever is asked, no output breaks a limit, not even while stopping: the state carries the velocity and acceleration of
the command, and a step is made only if the axis can still be stopped within all limits after it
(`hardware/safety/braking.py`). To hold a moving robot is therefore to brake it. This is software, not a safety-rated
function.

Limits are per tick of the nominal period. A late tick earns no larger step. Calls that run ahead of the nominal rate by
more than a tick are refused, so that a loop that catches up cannot make the robot faster than its limits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hardware.safety.braking import brake, legal_steps, pursue_place, pursue_rate, stay_inside
from hardware.safety.limits import CommandLimits, CompiledAxis
from hardware.safety.state import (
    FilterReason,
    FilterResult,
    FilterState,
    OperatorState,
    clear_fault,
    reason_names,
)
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray, FloatArray, RobotSpec

__all__ = [
    "FilterReason",
    "FilterResult",
    "FilterState",
    "OperatorState",
    "clear_fault",
    "filter_command",
    "reason_names",
]

RATE_TOLERANCE = 0.05
"""A loop up to this much faster than the nominal rate is taken for a clock's error, not for running ahead."""

LATE_TICKS = 2
"""A tick later than this many periods (and than `ramp_after_s`) is a gap: the robot stops before it goes on."""


HIDDEN_TICKS = 200
"""Ticks of lag that are reckoned one by one; beyond them at full speed."""


def filter_command(
    requested: AnyArray | None,
    state: FilterState,
    observation: Observation | None,
    operator: OperatorState,
    dt_s: float,
    limits: CommandLimits,
    spec: RobotSpec,
) -> FilterResult:
    """The command nearest to the requested one that breaks no limit.

    Args:
        requested: What policy or operator asks for, shape (A,); None if there is nothing to execute: hold, then stop.
        state: From the last call, or `FilterState.at` where the robot is.
        observation: What the robot sees at this tick; None if a stream failed.
        operator: Whether motion is allowed.
        dt_s: Monotonic time since the last call [s]; not used on the first.
        limits: The robot's.
        spec: The robot's.

    Raises:
        SpecMismatch: The limits are another robot's.
    """
    limits.require(spec)
    request, reasons = _readable(requested, len(limits.axes))
    gate = _gate(state, observation, operator, dt_s, reasons, limits)
    before = map(_Motion, state.position, state.step, state.change, state.target)
    if gate.reasons or request is None or observation is None:
        moves = [_braked(axis, motion) for axis, motion in zip(limits.axes, before, strict=True)]
    else:
        moves = [
            _limited(axis, motion, wanted, observation, limits)
            for axis, motion, wanted in zip(limits.axes, before, request, strict=True)
        ]
    reasons = gate.reasons
    for move in moves:
        if move.reasons:
            reasons |= move.reasons
    applied = np.array([move.command for move in moves], dtype=spec.action.dtype)
    if reasons and request is not None and _same(applied, request):
        reasons = FilterReason.NONE
    after = FilterState(
        position=tuple([move.position for move in moves]),
        step=tuple([move.step for move in moves]),
        change=tuple([move.step - step for move, step in zip(moves, state.step, strict=True)]),
        target=tuple([move.target for move in moves]),
        starved_s=gate.starved_s,
        blind_s=gate.blind_s,
        ahead_s=gate.ahead_s,
        started=True,
        stopping=gate.stopping,
        fault=gate.fault,
    )
    return FilterResult(applied, reasons, after)


class _Gate(NamedTuple):
    """Whether anything may be executed at this tick (`reasons` is 0), and the timers after it."""

    reasons: FilterReason
    starved_s: float
    blind_s: float
    ahead_s: float
    stopping: bool
    fault: FilterReason


class _Motion(NamedTuple):
    """One dimension of a `FilterState`."""

    position: float
    step: float
    change: float
    target: float


class _Move(NamedTuple):
    """What one dimension does at this tick; `command` is what is sent."""

    command: float
    position: float
    step: float
    target: float = math.nan
    reasons: FilterReason = FilterReason.NONE


def _same(applied: FloatArray, request: list[float]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.array_equal(applied, np.array(request, dtype=applied.dtype)))


def _readable(requested: AnyArray | None, count: int) -> tuple[list[float] | None, FilterReason]:
    """The request as A numbers, whether finite or not, and what is wrong with it."""
    if requested is None:
        return None, FilterReason.MISSING
    array = np.asarray(requested)
    if array.dtype.kind not in "fiu":
        return None, FilterReason.SHAPE
    reasons = FilterReason.NONE if np.isfinite(array).all() else FilterReason.NOT_FINITE
    if array.shape != (count,):
        return None, reasons | FilterReason.SHAPE
    return array.astype(np.float64).tolist(), reasons


def _gate(
    state: FilterState,
    observation: Observation | None,
    operator: OperatorState,
    dt_s: float,
    unreadable: FilterReason,
    limits: CommandLimits,
) -> _Gate:
    """Everything that forbids motion altogether, in order, and the clocks behind it."""
    period_s = 1.0 / limits.spec.control_hz
    sound = not state.started or 0.0 < dt_s < math.inf
    elapsed_s = dt_s if state.started and sound else period_s
    late = elapsed_s > max(limits.ramp_after_s, LATE_TICKS * period_s)
    # What a burst runs ahead is forgotten beyond two ticks, so that motion comes back soon after it.
    ahead_s = min(max(0.0, state.ahead_s + (1.0 - RATE_TOLERANCE) * period_s - elapsed_s), 2 * period_s)
    reasons = unreadable
    if not operator.deadman:
        reasons |= FilterReason.DEADMAN
    if not operator.enabled:
        reasons |= FilterReason.DISABLED
    stale, oldest_s, blind_s = _ages(observation, state.blind_s + elapsed_s, limits)
    reasons |= stale
    if not sound or late or ahead_s > period_s:
        reasons |= FilterReason.CLOCK
    starved_s = state.starved_s + elapsed_s if unreadable else 0.0
    stopping = (state.stopping and not state.at_rest) or late
    if (unreadable and starved_s >= limits.ramp_after_s) or (stale and oldest_s >= limits.ramp_after_s):
        stopping = True
    fault = state.fault
    if stale and oldest_s >= limits.fault_after_s:
        fault |= stale
    if stopping:
        reasons |= FilterReason.RAMPED_STOP
    if fault:
        reasons |= FilterReason.FAULT
    return _Gate(reasons, starved_s, blind_s, ahead_s, stopping, fault)


def _ages(observation: Observation | None, blind_s: float, limits: CommandLimits) -> tuple[FilterReason, float, float]:
    """Judges the age of every stream.

    Args:
        observation: What is seen.
        blind_s: For how long some age will have been unknown, if one is unknown now.
        limits: The robot's.

    Returns:
        Reasons, age of the oldest stale stream [s], for how long some age has been unknown [s].
    """
    unknown = observation is None
    reasons, oldest_s = FilterReason.STALE_STATE if unknown else FilterReason.NONE, 0.0
    for stream, max_age_ns, camera in limits.ages_ns:
        stale = FilterReason.STALE_CAMERA if camera else FilterReason.STALE_STATE
        age_ns = None if observation is None else observation.age_ns.get(stream)
        # A sample from the future says nothing about its age: the clock has jumped.
        if age_ns is None or age_ns < 0:
            reasons, unknown = reasons | stale, True
        elif age_ns > max_age_ns:
            reasons, oldest_s = reasons | stale, max(oldest_s, age_ns / NS_PER_S)
    if observation is not None and any(box.read(observation) is None for box in limits.boxes):
        reasons, unknown = reasons | FilterReason.STALE_STATE, True
    return reasons, max(oldest_s, blind_s) if unknown else oldest_s, blind_s if unknown else 0.0


def _braked(axis: CompiledAxis, motion: _Motion) -> _Move:
    """The next tick on the way to rest."""
    if axis.kind is ActionKind.BINARY:
        kept = min(max(motion.position, axis.low), axis.high)
        return _Move(kept, kept, 0.0)
    return _moved(axis, motion.position, brake(motion.step, motion.change, axis.motion))


def _moved(
    axis: CompiledAxis,
    position: float,
    step: float,
    target: float = math.nan,
    reasons: FilterReason = FilterReason.NONE,
) -> _Move:
    # A checked step may leave the box by a rounding; a start outside the box may only come nearer.
    if axis.kind is ActionKind.RATE:
        inside = min(max(step, axis.low), axis.high)
        return _Move(inside, position, inside, target, reasons)
    place = min(max(position + step, min(axis.low, position)), max(axis.high, position))
    return _Move(place, place, step, target, reasons)


def _limited(
    axis: CompiledAxis, motion: _Motion, request: float, observation: Observation, limits: CommandLimits
) -> _Move:
    """The nearest legal command of one dimension."""
    target, reasons = request, FilterReason.NONE
    if not axis.low <= request <= axis.high:
        target, reasons = min(max(request, axis.low), axis.high), FilterReason.WORKSPACE
    if axis.kind is ActionKind.BINARY:
        return _Move(target, target, 0.0, target, reasons)
    if axis.kind is ActionKind.POSITION:
        wanted, up, down = target - motion.position, axis.high - motion.position, motion.position - axis.low
    else:
        wanted, (up, down) = target, _tool_room(axis, motion.step, observation, limits)
    aim, walled = _aim(axis, motion, target, wanted), False
    if not axis.motion.locked:
        aim, walled = stay_inside(aim, motion.step, motion.change, axis.motion, max(0.0, up), max(0.0, down))
    if aim == wanted:
        # Exactly as asked: position plus difference would round.
        return _Move(target, target, wanted, target, reasons)
    return _moved(axis, motion.position, aim, target, reasons | _why(wanted, motion, axis, walled))


def _aim(axis: CompiledAxis, motion: _Motion, target: float, wanted: float) -> float:
    """The step to aim for, walls aside: the wanted one if it is legal, else the next on a way that catches up."""
    if axis.motion.locked:
        return 0.0
    place = axis.kind is ActionKind.POSITION
    following = motion.target == (motion.position if place else motion.step)
    if following:
        lowest, highest = legal_steps(motion.step, motion.change, axis.motion)
        if lowest <= wanted <= highest:
            return wanted
    if not place:
        return pursue_rate(wanted, motion.step, motion.change, axis.motion)
    own_step = target - motion.target
    # A target that jumps is one to stop at, not one that moves at that speed.
    if not axis.motion.low_step <= own_step <= axis.motion.high_step:
        own_step = 0.0
    return pursue_place(wanted, own_step, motion.step, motion.change, axis.motion)


def _tool_room(axis: CompiledAxis, step: float, observation: Observation, limits: CommandLimits) -> tuple[float, float]:
    """Distance of the measured tool position from the walls of its box, in action units, up and down."""
    box = axis.box
    position = box.read(observation) if box is not None else None
    if box is None or position is None or box.low is None or box.high is None:
        return math.inf, math.inf
    one, other = (box.high - position) / box.scale, (box.low - position) / box.scale
    hidden = (box.lag_s + observation.age_ns.get(box.stream, 0) / NS_PER_S) * limits.spec.control_hz
    up, down = max(one, other), -min(one, other)
    if hidden <= 0.0:
        return up, down
    return up - _hidden_motion(step, hidden, axis), down - _hidden_motion(-step, hidden, axis)


def _hidden_motion(step: float, ticks: float, axis: CompiledAxis) -> float:
    """Most that the last commands can have moved in the positive direction while the stream did not show them yet.

    The present step is known; each one before it was faster by at most the acceleration limit.
    """
    fastest = max(axis.motion.high_step, -axis.motion.low_step)
    moved = 0.0
    for back in range(min(math.ceil(ticks), HIDDEN_TICKS)):
        moved += min(ticks - back, 1.0) * min(max(step + back * axis.motion.max_change, 0.0), fastest)
    return moved + max(0.0, ticks - HIDDEN_TICKS) * fastest


def _why(wanted: float, motion: _Motion, axis: CompiledAxis, walled: bool) -> FilterReason:
    """Every limit that a wanted step breaks at once; the jerk limit if it only could not be ended in time."""
    reasons = FilterReason.WORKSPACE if walled else FilterReason.NONE
    if abs(wanted) > axis.max_step:
        reasons |= FilterReason.STEP
    if abs(wanted) > axis.max_velocity_step:
        reasons |= FilterReason.VELOCITY
    if abs(wanted - motion.step) > axis.motion.max_change:
        reasons |= FilterReason.ACCELERATION
    if abs(wanted - motion.step - motion.change) > axis.motion.max_jerk:
        reasons |= FilterReason.JERK
    return reasons or FilterReason.JERK
