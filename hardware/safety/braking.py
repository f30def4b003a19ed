"""Stopping one axis within its velocity, acceleration and jerk limits, in discrete time and in closed form.

A command filter that merely clips is not safe: a legal velocity one millimetre from a wall cannot be stopped
legally. So a step is admitted only if the stop that could follow it is legal all the way to rest. That stop is the
one deterministic law `brake`; whatever it does next from an admitted state was checked before, so it stays legal by
induction, and it is what the filter does when it has nothing better.

Legend, all per control tick and in action units, so that no tick period appears:
    step    displacement made in a tick (velocity times the period).
    change  step minus the step before (acceleration times the period squared).
    jerk    largest difference between two successive changes (jerk limit times the period cubed).
    coast   distance in step that is still travelled while a change is brought to zero: c-J, c-2J, ... down to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_STOP_TICKS = 1_000_000
"""Limits under which an axis needs longer than this to stop are a slip of the pen, and `Axis.reach` is infinite."""

SEARCH_STEPS = 12
SEARCH_TOLERANCE = 1e-3
"""A search for the nearest allowed step ends within this fraction of `max_jerk`, or after so many evaluations."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Limits of one action dimension per tick.

    Attributes:
        low_step: Most negative legal step, <= 0.
        high_step: Most positive legal step, >= 0.
        max_change: Largest legal absolute change.
        max_jerk: Largest legal absolute difference between two changes.
        locked: Some limit is zero, so the axis never moves.
        reach: No legal motion needs more room than this to stop; infinite if it takes too long to be of use.
    """

    low_step: float
    high_step: float
    max_change: float
    max_jerk: float
    locked: bool
    reach: float

    @classmethod
    def of(cls, low_step: float, high_step: float, max_change: float, max_jerk: float) -> Axis:
        """The axis with these limits; `reach` is bounded from above by fastest speed times longest stop."""
        fastest = max(-low_step, high_step)
        if min(fastest, max_change, max_jerk) <= 0.0:
            return cls(0.0, 0.0, 0.0, 0.0, True, 0.0)
        if fastest / max_jerk > LONGEST_STOP_TICKS**2 or fastest / max_change > LONGEST_STOP_TICKS:
            return cls(low_step, high_step, max_change, max_jerk, False, math.inf)
        steepest = min(max_change, steepest_change(2 * fastest, max_jerk))
        ticks = 3 * (steepest / max_jerk + 1) + fastest / steepest + 1
        return cls(low_step, high_step, max_change, max_jerk, False, fastest * (ticks + 1))


def coast(change: float, jerk: float) -> float:
    """Step still gained while a change >= 0 is brought to zero, not counting the change itself."""
    whole = math.floor(change / jerk)
    return whole * change - jerk * whole * (whole + 1) / 2


def steepest_change(gap: float, jerk: float) -> float:
    """Largest change that closes a gap in step without overshoot: the inverse of `change + coast(change)`."""
    if gap <= 0.0:
        return 0.0
    whole = math.floor((math.sqrt(1 + 8 * gap / jerk) - 1) / 2)
    return (gap + jerk * whole * (whole + 1) / 2) / (whole + 1)


def brake(step: float, change: float, axis: Axis) -> float:
    """The next step on the way to rest: as fast as the limits allow, landing on exactly zero without overshoot."""
    if axis.locked:
        return 0.0
    wanted = -math.copysign(min(axis.max_change, steepest_change(abs(step), axis.max_jerk)), step)
    return step + min(max(wanted, change - axis.max_jerk), change + axis.max_jerk)


def stopping_room(step: float, change: float, axis: Axis) -> tuple[float, float]:
    """Room that `brake` still needs from here to rest.

    Args:
        step: The step just made.
        change: The change just made.
        axis: Limits.

    Returns:
        Farthest excursion in the positive and in the negative direction, both >= 0, from the present position.
    """
    if axis.locked:
        return 0.0, 0.0
    left_over = step + math.copysign(coast(abs(change), axis.max_jerk), change)
    if left_over >= 0.0:
        return _room_from_above(step, change, axis)
    below, above = _room_from_above(-step, -change, axis)
    return above, below


def _room_from_above(step: float, change: float, axis: Axis) -> tuple[float, float]:
    """`stopping_room` for a stop whose final approach is from a positive step.

    The law then makes `falling` ticks of full negative jerk, `steady` ticks at the acceleration limit, and one
    arithmetic approach of changes x, x-J, x-2J, ... A first part with a negative step (a reversal under way) is the
    excursion to the other side.
    """
    jerk, limit = axis.max_jerk, axis.max_change
    part = (-change) % jerk
    apex = step + change * change / (2 * jerk) - change / 2 - part * (jerk - part) / (2 * jerk)
    turn = min(limit, math.sqrt(jerk * apex)) if apex > 0.0 else 0.0
    falling = max(0, math.floor((turn + change) / jerk))
    moved = _fallen(step, change, jerk, falling)
    step_after = step + falling * change - jerk * falling * (falling + 1) / 2
    steady = max(0, math.floor((step_after - coast(limit, jerk)) / limit))
    moved += steady * step_after - limit * steady * (steady + 1) / 2
    last = steepest_change(step_after - steady * limit, jerk)
    whole = math.floor(last / jerk)
    rest = last - whole * jerk
    moved += jerk * (whole + 1) * whole * (whole - 1) / 6 + rest * whole * (whole + 1) / 2
    if step >= 0.0:
        return moved, 0.0
    return max(0.0, moved), -_lowest_of_reversal(step, change, jerk, falling)


def _fallen(step: float, change: float, jerk: float, ticks: int) -> float:
    """Distance made in `ticks` ticks of full negative jerk."""
    return ticks * step + change * ticks * (ticks + 1) / 2 - jerk * ticks * (ticks + 1) * (ticks + 2) / 6


def _lowest_of_reversal(step: float, change: float, jerk: float, falling: int) -> float:
    """Lowest point, <= 0, of `falling` ticks of full negative jerk from a negative step and a positive change.

    The step after n ticks is `step + n change - jerk n (n + 1) / 2`; the lowest point is where it stops being negative.
    """
    slope = change - jerk / 2
    root = (slope - math.sqrt(max(0.0, slope * slope + 2 * jerk * step))) / jerk
    ticks = max(0, math.floor(root))
    near = range(max(0, ticks - 1), min(ticks + 1, falling) + 1)
    return min(0.0, *(_fallen(step, change, jerk, n) for n in near))


def legal_steps(step: float, change: float, axis: Axis) -> tuple[float, float]:
    """Lowest and highest next step under the velocity, acceleration and jerk limits, now and on the way to zero change.

    `step + steepest_change(room)` leaves room to bring the change back to zero before the velocity limit.
    """
    jerk, limit = axis.max_jerk, axis.max_change
    up = min(limit, change + jerk, steepest_change(axis.high_step - step, jerk))
    down = min(limit, jerk - change, steepest_change(step - axis.low_step, jerk))
    return step - down, max(step + up, step - down)


def pursue_rate(wanted: float, step: float, change: float, axis: Axis) -> float:
    """The next step on the fastest way to a wanted step that does not overshoot it."""
    return wanted + brake(step - wanted, change, axis)


def pursue_place(gap: float, target_step: float, step: float, change: float, axis: Axis) -> float:
    """The next step on the fastest way to a moving target that ends at its place and with its speed, not beyond it.

    Taking the largest legal step towards a target instead would arrive at full speed, and swing about it for ever.

    Args:
        gap: From the present position to where the target is at this tick.
        target_step: The target's own step.
        step: The last step made.
        change: The last change made.
        axis: Limits.
    """
    above = gap < target_step

    def overshoot(new_step: float) -> float:
        up, down = stopping_room(new_step - target_step, new_step - step, axis)
        return gap - new_step + down if above else new_step + up - gap

    lowest, highest = legal_steps(step, change, axis)
    candidate = min(max(gap, lowest), highest)
    return _nearest_allowed(candidate, pursue_rate(target_step, step, change, axis), overshoot, axis)


def stay_inside(
    wanted: float, step: float, change: float, axis: Axis, room_up: float, room_down: float
) -> tuple[float, bool]:
    """The step nearest to the wanted one from which the axis can still be stopped within every limit.

    Args:
        wanted: Step asked for.
        step: The last step made.
        change: The last change made.
        axis: Limits.
        room_up: Distance to the wall in the positive direction, >= 0.
        room_down: Distance to the wall in the negative direction, >= 0.

    Returns:
        The step, and whether a wall (rather than the velocity, acceleration or jerk limit) shortened it.
    """
    lowest, highest = legal_steps(step, change, axis)
    candidate = min(max(wanted, lowest), highest)
    if room_up > axis.reach and room_down > axis.reach:
        return candidate, False

    def excess(new_step: float) -> float:
        up, down = stopping_room(new_step, new_step - step, axis)
        return max(new_step + up - room_up, down - new_step - room_down)

    inside = _nearest_allowed(candidate, brake(step, change, axis), excess, axis)
    return inside, inside != candidate


def _nearest_allowed(wanted: float, safe: float, excess: Callable[[float], float], axis: Axis) -> float:
    """The step nearest to `wanted`, on the way from `safe`, with `excess` <= 0; `safe` if there is none.

    False position with the Illinois correction: the excess is continuous and piecewise smooth in the step. Only
    steps that were evaluated are returned, so that an imperfect search costs a little speed and never a limit.
    """
    over = excess(wanted)
    if over <= 0.0:
        return wanted
    under = excess(safe)
    if under > 0.0:
        return safe
    refused, weight_over, weight_under = wanted, over, under
    for _ in range(SEARCH_STEPS):
        if under >= -SEARCH_TOLERANCE * axis.max_jerk:
            break
        middle = safe + (refused - safe) * weight_under / (weight_under - weight_over)
        found = excess(middle)
        if found > 0.0:
            refused, weight_over, weight_under = middle, found, weight_under / 2
        else:
            safe, under, weight_under, weight_over = middle, found, found, weight_over / 2
    return safe
