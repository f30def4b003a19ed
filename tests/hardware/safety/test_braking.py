import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hardware.safety.braking import (
    Axis,
    brake,
    coast,
    legal_steps,
    pursue_place,
    stay_inside,
    steepest_change,
    stopping_room,
)

SLACK = 1 + 1e-9


def random_axis(generator: random.Random) -> Axis:
    fastest = 10 ** generator.uniform(-3, 1)
    return Axis.of(
        -fastest * generator.choice([1, 1, 1, 0, 0.3]),
        fastest,
        fastest * 10 ** generator.uniform(-2, 0.5),
        fastest * 10 ** generator.uniform(-3, 0.7),
    )


def legal_walk(axis: Axis, generator: random.Random) -> tuple[float, float]:
    """Step and change after some legal ticks, most of them at the edge of what is legal."""
    step = change = 0.0
    for _ in range(generator.randrange(60)):
        lowest, highest = legal_steps(step, change, axis)
        choices = [lowest, highest, generator.uniform(lowest, highest), min(max(0.0, lowest), highest)]
        next_step = generator.choice(choices)
        step, change = next_step, next_step - step
    return step, change


def simulated_stop(step: float, change: float, axis: Axis) -> tuple[float, float]:
    """Excursions of a stop tick by tick, checking every limit on the way."""
    place = above = below = 0.0
    tiny = 1e-12 * axis.high_step
    while (step, change) != (0.0, 0.0):
        next_step = brake(step, change, axis)
        next_change = next_step - step
        assert abs(next_change) <= axis.max_change * SLACK + tiny
        assert abs(next_change - change) <= axis.max_jerk * SLACK + tiny
        assert axis.low_step * SLACK - tiny <= next_step <= axis.high_step * SLACK + tiny
        step, change = next_step, next_change
        place += step
        above, below = max(above, place), max(below, -place)
    return above, below


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_form_of_a_stop_equals_the_stop_tick_by_tick(seed):
    generator = random.Random(seed)
    for _ in range(300):
        axis = random_axis(generator)
        step, change = legal_walk(axis, generator)
        above, below = stopping_room(step, change, axis)
        assert (above, below) == pytest.approx(simulated_stop(step, change, axis), abs=1e-9 * axis.reach)
        assert max(above, below) <= axis.reach


@given(change=st.floats(1e-6, 1e3), jerk=st.floats(1e-3, 1e3))
def test_the_steepest_change_that_closes_a_gap_is_the_inverse_of_change_and_coast(change, jerk):
    assume(change / jerk < 1e5)
    assert steepest_change(change + coast(change, jerk), jerk) == pytest.approx(change, rel=1e-7)


def test_a_stop_by_hand():
    # Changes -1, -2, -2, -1: each differs from the last by at most 1, none exceeds 2, and they add up to -6.
    axis = Axis.of(-10.0, 10.0, 2.0, 1.0)
    steps = [6.0]
    change = 0.0
    while steps[-1] or change:
        next_step = brake(steps[-1], change, axis)
        change = next_step - steps[-1]
        steps.append(next_step)
    assert steps == [6.0, 5.0, 3.0, 1.0, 0.0, 0.0]
    assert stopping_room(6.0, 0.0, axis) == (9.0, 0.0)


@pytest.mark.parametrize(("step", "change", "jerk"), [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)])
def test_an_axis_with_a_limit_of_zero_never_moves(step, change, jerk):
    assert Axis.of(-step, step, change, jerk).locked


@pytest.mark.parametrize("seed", range(30))
def test_an_axis_driven_at_a_wall_stops_before_it_and_gets_there(seed):
    generator = random.Random(seed)
    axis = random_axis(generator)
    place = step = change = 0.0
    wall = axis.reach * generator.uniform(0.001, 0.5)
    for _ in range(20_000):
        next_step, _ = stay_inside(math.inf, step, change, axis, wall - place, math.inf)
        place, step, change = place + next_step, next_step, next_step - step
        assert place <= wall * SLACK
        if step == 0.0 and change == 0.0 and place > 0.0:
            break
    assert place == pytest.approx(wall, abs=0.01 * axis.max_jerk + 1e-3 * wall)


@pytest.mark.parametrize("seed", range(30))
def test_a_target_at_rest_is_reached_without_overshoot(seed):
    generator = random.Random(seed)
    axis = random_axis(generator)
    place = step = change = 0.0
    target = axis.reach * generator.uniform(0.01, 2)
    for _ in range(20_000):
        next_step = pursue_place(target - place, 0.0, step, change, axis)
        place, step, change = place + next_step, next_step, next_step - step
        assert place <= target * SLACK
        if place == pytest.approx(target, rel=1e-6) and step == pytest.approx(0.0, abs=1e-6 * axis.high_step):
            return
    pytest.fail(f"still {target - place} away")
