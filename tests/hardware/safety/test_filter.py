"""What the command filter lets pass, what it never does, and why it changes a command."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.runtime.filter_fuzz import fuzz_round
from benchmarks.runtime.fuzz_checks import same_command
from benchmarks.runtime.fuzz_run import FuzzCount
from hardware.safety.filter import (
    FilterReason,
    FilterResult,
    FilterState,
    OperatorState,
    clear_fault,
    filter_command,
    reason_names,
)
from robot_rl.core.episode import Observation
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import ActionKind
from tests.hardware.safety.filter_bench import HZ, READY, Session, arm, lax, seen

# What passes


def test_legal_smooth_motion_is_unchanged():
    session = Session(arm([ActionKind.POSITION] * 7))
    for tick in range(2000):
        phase = 2 * math.pi * 0.2 * tick / HZ
        result = session(0.1 * (phase - math.sin(phase)) / (1 + phase))
        assert result.reasons == 0


@pytest.mark.parametrize("kind", [ActionKind.POSITION, ActionKind.RATE, ActionKind.BINARY])
@settings(max_examples=50, deadline=None)
@given(
    requests=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20),
    dtype=st.sampled_from(["float32", "float64"]),
    hz=st.sampled_from([10.0, 49.0, 80.0]),
)
def test_limits_as_wide_as_the_action_space_change_nothing(kind, requests, dtype, hz):
    session = Session(lax([kind], hz))
    for request in requests:
        result = session(np.array([request], dtype=dtype))
        assert result.reasons == 0
        assert result.applied.tobytes() == np.array([request], dtype=np.float32).tobytes()


def test_a_request_exactly_at_every_edge_is_unchanged():
    rate = Session(lax([ActionKind.RATE]))
    for request in (1.0, -1.0, 1.0, 0.0, -1.0):
        assert rate(request).reasons == 0


# What never comes out


@pytest.mark.parametrize("start", range(0, 200, 25))
def test_no_output_breaks_a_limit_whatever_comes_in(start):
    count = FuzzCount()
    for seed in range(start, start + 25):
        assert fuzz_round(seed, count) == []
    assert set(count.reasons) >= {reason.name for reason in FilterReason if reason} - {"FAULT", "FOLLOWING"}


def test_the_fuzz_catches_a_filter_that_only_clips():
    def clip(requested, state, observation, operator, dt_s, limits, spec):
        wanted = np.zeros(len(limits.axes)) if requested is None else np.resize(requested, len(limits.axes))
        fastest = np.minimum(limits.max_step, np.array(limits.max_velocity) / spec.control_hz)
        rate = spec.kind_mask(ActionKind.RATE)
        last = np.where(rate, 0.0, state.position)
        moved = last + np.clip(np.nan_to_num(wanted) - last, -fastest, fastest)
        applied = np.clip(moved, limits.low, limits.high).astype(spec.action.dtype)
        after = dataclasses.replace(state, position=tuple(applied.astype(float)))
        reasons = FilterReason.NONE if same_command(applied, requested) else FilterReason.STEP
        return FilterResult(applied, reasons, after)

    caught = [broken for seed in range(10) if (broken := fuzz_round(seed, FuzzCount(), clip))]
    assert len(caught) >= 8
    assert any("jerk" in line for broken in caught for line in broken)


REQUESTS = st.one_of(
    st.none(),
    st.floats(-3, 3),
    st.sampled_from([0.0, 1.0, -1.0, 1.0 + 1e-7, 1e30, math.nan, math.inf, -math.inf]),
    st.sampled_from([np.zeros(3), np.zeros((2, 1)), np.array(0.0), np.array(["a", "b"]), np.zeros(2, complex)]),
)

TICKS = st.tuples(
    REQUESTS,
    st.sampled_from([0.0, 0.0, 0.0, 40.0, 60.0, 120.0, 600.0, -1.0, None]),
    st.tuples(st.booleans(), st.booleans()).map(lambda each: OperatorState(*each)),
    st.sampled_from([0.01, 0.01, 0.01, 0.0, -1.0, 0.001, 0.03, 0.3, 1e9, math.nan, math.inf]),
    st.integers(1, 30),
)


@settings(max_examples=40, deadline=None)
@given(ticks=st.lists(TICKS, min_size=1, max_size=15))
def test_no_sequence_of_faults_breaks_a_limit(ticks):
    session = Session(arm([ActionKind.POSITION, ActionKind.RATE], low=[-0.05, -1.0], high=[0.0, 1.0]))
    for request, age_ms, operator, dt_s, repeats in ticks:
        observation = None if age_ms is None else seen(session.limits, state_ms=age_ms)
        for _ in range(repeats):
            session(request, observation, operator, dt_s)


def test_a_first_command_far_away_is_approached_and_not_jumped_to():
    session = Session(arm(), pose=-0.5)
    first = session(0.5)
    assert abs(first.applied[0] + 0.5) < 1e-4
    assert FilterReason.STEP in first.reasons
    for _ in range(700):
        last = session(0.5)
    assert last.applied[0] == np.float32(0.5)
    assert last.reasons == 0


def test_a_target_is_reached_without_swinging_about_it():
    session = Session(arm())
    for _ in range(400):
        session(0.3)
    assert max(session.applied)[0] <= np.float32(0.3)
    assert session.state.at_rest


def test_a_filter_that_fell_behind_catches_up_with_a_moving_target():
    session = Session(arm())
    for tick in range(800):
        result = session(0.2 + 0.1 * math.sin(2 * math.pi * 0.2 * tick / HZ))
    assert result.reasons == 0


def test_a_table_guard_at_zero_is_a_guard():
    limits = arm([ActionKind.RATE], measured={0: {"stream": "state", "index": 0, "low": 0.0, "high": 0.5}})
    session, height = Session(limits), 0.1
    for _ in range(400):
        result = session(-0.0025, seen(limits, place=height))
        height += float(result.applied[0])
    assert height == pytest.approx(0.0, abs=1e-6)
    assert FilterReason.WORKSPACE in result.reasons


def test_a_lagging_robot_is_stopped_before_the_wall_that_it_has_not_seen_yet():
    box = {"stream": "state", "index": 0, "low": -1.0, "high": 0.2, "lag_s": 0.1}
    limits = arm([ActionKind.RATE], measured={0: box})
    session, places = Session(limits), [0.0]
    for _ in range(400):
        lagging = places[max(0, len(places) - 11)]
        places.append(places[-1] + float(session(0.0025, seen(limits, place=lagging)).applied[0]))
    assert max(places) <= 0.2 + 1e-6
    assert places[-1] > 0.19


def test_an_unreadable_tool_position_stops_the_robot():
    limits = arm([ActionKind.RATE], measured={0: {"stream": "state", "index": 0, "low": -1.0, "high": 1.0}})
    session = Session(limits)
    for place in (math.nan, math.inf):
        assert session(0.001, seen(limits, place=place)).reasons == FilterReason.STALE_STATE


def test_a_robot_found_outside_its_box_stays_there_or_comes_nearer():
    session = Session(arm(), pose=1.2)
    assert session(None, check=False).applied[0] == np.float32(1.2)
    places = [session(request, check=False).applied[0] for request in [1.5] * 100 + [0.9] * 300]
    assert all(after <= before for before, after in itertools.pairwise(places))
    assert places[-1] == np.float32(0.9)


def test_a_binary_channel_is_never_smoothed_and_is_kept_while_stopping():
    infinite = {name: [math.inf] for name in ("max_step", "max_velocity", "max_acceleration", "max_jerk")}
    session = Session(arm([ActionKind.BINARY], low=[0.0], **infinite))
    assert [session(value).applied[0] for value in (1.0, 0.0, 1.0)] == [1.0, 0.0, 1.0]
    assert session(None).applied[0] == 1.0
    too_high = session(7.0)
    assert (too_high.applied[0], too_high.reasons) == (1.0, FilterReason.WORKSPACE)


# Why it changes a command


@pytest.mark.parametrize(
    ("requested", "operator", "reason"),
    [
        (np.array([math.nan, 0.0]), READY, FilterReason.NOT_FINITE),
        (np.array([0.0, -math.inf]), READY, FilterReason.NOT_FINITE),
        (np.zeros(3), READY, FilterReason.SHAPE),
        (np.zeros((1, 2)), READY, FilterReason.SHAPE),
        (np.array(["a", "b"]), READY, FilterReason.SHAPE),
        (np.full(3, math.nan), READY, FilterReason.SHAPE | FilterReason.NOT_FINITE),
        (None, READY, FilterReason.MISSING),
        (np.ones(2), OperatorState(deadman=False), FilterReason.DEADMAN),
        (np.ones(2), OperatorState(enabled=False), FilterReason.DISABLED),
        (np.ones(2), OperatorState(False, False), FilterReason.DEADMAN | FilterReason.DISABLED),
    ],
)
def test_what_may_not_be_executed_brakes_and_says_why(requested, operator, reason):
    session = Session(arm([ActionKind.POSITION] * 2)).cruise()
    speed = session.state.step[0]
    first = session(requested, operator=operator)
    assert first.reasons == reason
    assert session.state.step[0] < speed
    for _ in range(60):
        session(requested, operator=operator)
    assert session.state.at_rest


@pytest.mark.parametrize(
    ("requested", "reason"),
    [(1.5, FilterReason.WORKSPACE), (0.02, FilterReason.STEP), (0.003, FilterReason.VELOCITY)],
)
def test_every_limit_that_a_request_breaks_is_named(requested, reason):
    result = Session(arm())(requested)
    assert reason in result.reasons
    assert FilterReason.JERK in result.reasons
    assert {"jerk", reason.name.lower()} <= set(reason_names(result.reasons))


def test_stopping_early_for_a_wall_is_a_reason_of_its_own():
    session = Session(arm(high=[0.2]))
    reasons = FilterReason.NONE
    for tick in range(700):
        reasons |= session(min(0.24, 0.0005 * (tick / 20) ** 2)).reasons
    assert FilterReason.WORKSPACE in reasons
    assert session.applied[-1][0] == np.float32(session.limits.axes[0].high)


# Observations that grow old


def test_a_state_older_than_its_limit_is_not_acted_on():
    session = Session(arm()).cruise()
    assert FilterReason.STALE_STATE not in session(0.9, seen(session.limits, state_ms=50)).reasons
    speed = session.state.step[0]
    assert session(0.9, seen(session.limits, state_ms=51)).reasons == FilterReason.STALE_STATE
    assert session.state.step[0] < speed


def test_a_frozen_camera_stops_the_robot_for_good_after_half_a_second():
    session = Session(arm()).cruise()
    assert FilterReason.STALE_CAMERA not in session(0.9, seen(session.limits, camera_ms=100)).reasons
    for age_ms in range(110, 500, 10):
        result = session(0.9, seen(session.limits, camera_ms=age_ms))
        assert result.reasons == FilterReason.STALE_CAMERA | FilterReason.RAMPED_STOP
    assert not result.state.fault
    session(0.9, seen(session.limits, camera_ms=500))
    assert session.state.fault == FilterReason.STALE_CAMERA
    for _ in range(100):
        assert session(0.9).reasons == FilterReason.FAULT
    session.state = clear_fault(session.state)
    assert FilterReason.FAULT not in session(0.9).reasons
    assert not session.state.at_rest


def test_after_a_short_gap_motion_goes_on_and_after_a_ramped_stop_it_first_comes_to_rest():
    short = Session(arm()).cruise()
    short(0.9, seen(short.limits, state_ms=60))
    assert FilterReason.RAMPED_STOP not in short(0.9).reasons
    long = Session(arm()).cruise()
    long(0.9, seen(long.limits, state_ms=110))
    reasons = [long(0.9).reasons for _ in range(60)]
    moving = [FilterReason.RAMPED_STOP in each for each in reasons]
    assert moving[0]
    assert not moving[-1]
    assert moving == sorted(moving, reverse=True)
    assert not long.state.at_rest


@pytest.mark.parametrize("blind", ["no observation", "no such stream", "from the future"])
def test_an_observation_of_unknown_age_grows_old_from_when_it_was_last_known(blind):
    session = Session(arm()).cruise()
    observation = None
    if blind == "no such stream":
        observation = Observation(1, {}, {"camera": 0})
    if blind == "from the future":
        observation = seen(session.limits, state_ms=-1)
    results = [session(0.9, observation) for _ in range(51)]
    assert all(FilterReason.STALE_STATE in each.reasons for each in results)
    assert [FilterReason.RAMPED_STOP in each.reasons for each in results].index(True) in (9, 10)
    assert [bool(each.state.fault) for each in results].index(True) in (49, 50)


def test_having_nothing_to_execute_is_a_ramped_stop_but_never_a_fault():
    session = Session(arm()).cruise()
    results = [session(None) for _ in range(200)]
    assert [FilterReason.RAMPED_STOP in each.reasons for each in results].index(True) in (9, 10)
    assert session.state.at_rest
    assert not session.state.fault
    assert session(0.9).applied[0] > session.applied[-2][0]


# The clock


@pytest.mark.parametrize("dt_s", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_clock_that_makes_no_sense_brakes(dt_s):
    session = Session(arm()).cruise()
    assert session(0.9, dt_s=dt_s).reasons == FilterReason.CLOCK


def test_the_time_before_the_first_command_does_not_matter():
    for dt_s in (0.0, -1.0, 1e9, math.nan):
        assert Session(arm())(0.0, dt_s=dt_s).reasons == 0


def test_a_late_tick_earns_no_larger_step():
    session = Session(arm()).cruise()
    step = session.state.step[0]
    session(0.9, dt_s=0.09)
    assert session.state.step[0] <= step * (1 + 1e-9)


def test_after_a_gap_the_robot_stops_before_it_goes_on():
    session = Session(arm()).cruise()
    assert session(0.9, dt_s=0.2).reasons == FilterReason.CLOCK | FilterReason.RAMPED_STOP
    for _ in range(60):
        session(0.9)
    assert session.applied[-1][0] > session.applied[-2][0]
    assert not session.state.fault


def test_a_loop_that_runs_ahead_of_the_nominal_rate_is_stopped():
    session = Session(arm()).cruise()
    reasons = [session(0.9, dt_s=0.001).reasons for _ in range(100)]
    assert FilterReason.CLOCK in reasons[1]
    assert session.state.at_rest


@settings(max_examples=50, deadline=None)
@given(lateness=st.lists(st.floats(0, 0.009), min_size=2, max_size=200))
def test_a_loop_with_absolute_deadlines_is_never_taken_for_running_ahead(lateness):
    session = Session(arm())
    for before, after in itertools.pairwise(lateness):
        assert FilterReason.CLOCK not in session(0.0, dt_s=0.01 + after - before).reasons


# The function itself


def test_it_is_pure():
    limits = arm([ActionKind.POSITION, ActionKind.RATE, ActionKind.BINARY])
    state = Session(limits).cruise().state
    requested = np.array([0.5, 0.3, 2.0], dtype=np.float32)
    observation = seen(limits)
    before = copy.deepcopy((requested, state, observation.values["state"], limits.spec))
    results = [filter_command(requested, state, observation, READY, 0.01, limits, limits.spec) for _ in range(2)]
    assert results[0].applied.tobytes() == results[1].applied.tobytes()
    assert results[0][1:] == results[1][1:]
    assert requested.tobytes() == before[0].tobytes()
    assert state == before[1]
    assert observation.values["state"].tobytes() == before[2].tobytes()
    assert not np.shares_memory(results[0].applied, requested)


def test_the_output_has_the_action_dtype():
    for dtype in ("float32", "float64"):
        assert Session(arm(dtype=dtype))(np.array([1], dtype=np.int64)).applied.dtype == dtype


def test_a_pose_that_is_not_finite_is_no_place_to_start():
    with pytest.raises(ValueError, match="wanted finite numbers"):
        FilterState.at(np.array([math.nan]))


def test_another_robots_limits_are_refused():
    limits, other = arm(), arm(hz=50.0)
    with pytest.raises(SpecMismatch, match="limits are for the actions of"):
        filter_command(np.zeros(1), FilterState.at(np.zeros(1)), seen(limits), READY, 0.01, limits, other.spec)
