"""Whatever breaks, the robot comes to rest, the episode says why, and what was recorded is handed over."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.clock import HostClock, SimulatedClock
from robot_rl.core.episode import ActionChunk, Outcome
from robot_rl.core.protocols import Judgement, OperatorCommand
from robot_rl.runtime.ending import Ending, ending_of
from robot_rl.sessions.setup import build_filter
from tests.robot_rl.rollout_fakes import (
    MS,
    BrakingFilter,
    ListSink,
    SeekingPolicy,
    Slider,
    TimelineOperator,
    run,
    spec_at,
)

DRIVING = OperatorCommand(np.array([0.0, 0.4, 1.0], np.float32))


def nan_row(chunk: ActionChunk) -> ActionChunk:
    chunk.values[3, 1] = np.nan
    return chunk


def explode(chunk: ActionChunk) -> ActionChunk:
    raise RuntimeError("out of memory")


SPOILERS = {
    "holds nan in row 3, action 1": nan_row,
    "shape (8, 2), wanted (H, 3)": lambda chunk: ActionChunk(chunk.values[:, :2], chunk.start_ns),
    "raised RuntimeError: out of memory": explode,
    "answered with ndarray, wanted an ActionChunk": lambda chunk: chunk.values,
}


def unjudged(**given) -> Slider:
    robot = Slider(**given)
    robot.judge = lambda: Judgement(0.0, False, False)
    return robot


def assert_ramped_to_rest(robot: Slider, last_driven: int) -> None:
    rates = [abs(float(action[1])) for action in robot.executed[last_driven:]]
    assert rates[0] > 0.0, "it was moving when the fault came"
    assert rates[-1] == 0.0
    assert all(after < before or before == 0.0 for before, after in itertools.pairwise(rates)), "no sudden halt"
    assert len(rates) > 2
    assert robot.stops == 1


@pytest.mark.parametrize("clock", [SimulatedClock, HostClock])
@pytest.mark.parametrize("words", SPOILERS)
def test_a_policy_that_answers_nonsense_ends_the_episode_with_a_ramped_stop(words, clock):
    def spoil(n: int, chunk: ActionChunk) -> ActionChunk:
        chunk.values[:, 1] = 0.3
        return chunk if n == 0 else SPOILERS[words](chunk)

    spec = spec_at(100.0)
    robot = unjudged(spec=spec)
    policy = SeekingPolicy(spec, spoil=spoil)
    result, sink, _ = run(policy, robot=robot, clock=clock(), execute_horizon=4, max_ticks=None)
    assert ending_of(result) is Ending.POLICY
    assert words in result.reason
    assert (result.outcome, result.terminated, result.truncated) == (Outcome.ABORTED, False, True)
    driven = sum(step.filter_reasons == 0 for step in sink.steps)
    assert_ramped_to_rest(robot, driven - 1)
    assert sink.result == result
    assert result.ticks == len(sink.steps)
    assert all(np.isfinite(step.requested).all() for step in sink.steps)


def test_a_policy_that_stops_answering_ends_the_episode_although_its_thread_is_stuck():
    release = threading.Event()

    def stick(n: int, chunk: ActionChunk) -> ActionChunk:
        if n == 1:
            release.wait(60)
        return chunk

    spec = spec_at(100.0)
    policy, robot = SeekingPolicy(spec, spoil=stick), unjudged(spec=spec)
    result, sink, _ = run(policy, robot=robot, clock=HostClock(), policy_timeout_s=0.5, max_ticks=None)
    assert result.reason == "policy fault: the policy has not answered for 0.5 s; restart to use it again"
    assert result.outcome is Outcome.ABORTED
    assert float(robot.executed[-1][1]) == 0.0
    assert robot.stops == 1
    assert sink.result == result
    release.set()


def test_a_starved_robot_holds_and_goes_on_when_the_policy_does():
    def slowly(n: int, chunk: ActionChunk) -> ActionChunk:
        threading.Event().wait(0.1 if n == 1 else 0.0)
        return chunk

    spec = spec_at(100.0)
    policy, robot = SeekingPolicy(spec, horizon=8, spoil=slowly), unjudged(spec=spec)
    result, sink, _ = run(policy, robot=robot, clock=HostClock(), max_ticks=60, blend_s=0.0)
    assert ending_of(result) is Ending.TIME_LIMIT
    held = [step.filter_reasons == 1 for step in sink.steps]
    assert sum(held) == result.cadence["starved_ticks"] > 0
    assert not all(held[held.index(True) :])


def test_a_frozen_camera_stops_the_robot_and_ends_the_episode():
    robot = unjudged(camera_freezes=6)
    result, sink, _ = run(SeekingPolicy(), robot=robot)
    assert ending_of(result) is Ending.FILTER
    assert "a stream is 600 ms old" in result.reason
    assert result.outcome is Outcome.ABORTED
    stale = [step.filter_reasons & 4 > 0 for step in sink.steps]
    assert not any(stale[:9])
    assert all(stale[9:])
    assert float(robot.executed[-1][1]) == 0.0
    assert robot.stops == 1


def test_a_sensor_that_stays_stale_stops_the_robot_and_ends_the_episode():
    robot = unjudged(blind=range(6, 1000))
    result, sink, _ = run(SeekingPolicy(), robot=robot)
    assert ending_of(result) is Ending.SENSOR
    assert "400 ms old, limit is 50 ms" in result.reason
    assert_ramped_to_rest(robot, 5)
    assert result.ticks == len(sink.steps) == 6, "a step without an observation is never made up"
    assert result.cadence["unobserved_ticks"] >= 5


def test_a_fault_that_the_filter_latches_while_nothing_is_seen_names_the_sensor():
    class Impatient(BrakingFilter):
        def __call__(self, requested, observation, dt_s, operator_alive):
            if observation is None:
                self.fault = "stale_state"
            return super().__call__(requested, observation, dt_s, operator_alive)

    robot = unjudged(blind=range(6, 1000))
    result, _, _ = run(SeekingPolicy(), robot=robot, command_filter=Impatient())
    assert ending_of(result) is Ending.FILTER
    assert "stale_state: " in result.reason
    assert "400 ms old, limit is 50 ms" in result.reason


def test_a_sensor_that_comes_back_in_time_costs_only_its_ticks():
    robot = unjudged(blind=(6, 7))
    result, sink, _ = run(SeekingPolicy(), robot=robot, max_ticks=20)
    assert ending_of(result) is Ending.TIME_LIMIT
    assert result.cadence["unobserved_ticks"] == 2
    assert [step.observation.stamp_ns // (100 * MS) for step in sink.steps] == [*range(6), *range(8, 22)]


def test_a_robot_that_shows_nothing_from_the_start_is_never_moved():
    robot = unjudged(blind=range(1000))
    result, sink, _ = run(SeekingPolicy(), robot=robot)
    assert ending_of(result) is Ending.SENSOR
    assert robot.executed == []
    assert sink.result.ticks == 0


def test_an_operator_who_falls_silent_while_driving_alone_ends_the_episode():
    robot = unjudged()
    result, _, _ = run(robot=robot, operator=TimelineOperator(dict.fromkeys(range(6), DRIVING)), operator_timeout_s=0.3)
    assert result.reason == "operator silent: no action for 0.3 s while in control"
    assert result.outcome is Outcome.ABORTED
    assert_ramped_to_rest(robot, 5)


def test_an_operator_who_lets_the_policy_drive_may_be_silent():
    result, _, _ = run(SeekingPolicy(), operator_timeout_s=0.1)
    assert ending_of(result) is Ending.TASK


@pytest.mark.parametrize("nonsense", [[np.nan, 0.0, 0.0], [0.0, 0.0]])
def test_an_operators_nonsense_is_held_back_by_the_filter_and_recorded_as_holding_still(nonsense):
    operator = TimelineOperator({3: OperatorCommand(np.array(nonsense, np.float32))}, DRIVING)
    result, sink, _ = run(robot=unjudged(), operator=operator, max_ticks=8)
    assert ending_of(result) is Ending.TIME_LIMIT
    assert [step.filter_reasons for step in sink.steps] == [0, 0, 0, 2, 0, 0, 0, 0]
    np.testing.assert_array_equal(sink.steps[3].requested, [0.0, 0.0, 1.0])


def test_a_sink_that_fails_stops_the_robot_and_the_error_reaches_the_caller():
    robot, sink = unjudged(), ListSink(full_at=4)
    with pytest.raises(OSError, match="no space left"):
        run(SeekingPolicy(), robot=robot, sink=sink)
    assert robot.stops == 1
    assert len(sink.steps) == 4
    assert sink.result.reason == "error: OSError: no space left on device"
    assert sink.result.outcome is Outcome.ABORTED


def test_a_robot_that_fails_keeps_what_was_recorded_and_is_stopped():
    robot, sink = unjudged(fails=5), ListSink()
    with pytest.raises(ConnectionError):
        run(SeekingPolicy(), robot=robot, sink=sink)
    assert robot.stops == 1
    assert (len(sink.steps), sink.result.ticks, sink.result.outcome) == (5, 5, Outcome.ABORTED)


def test_a_second_failure_while_stopping_does_not_hide_the_first_nor_lose_the_episode():
    class Stuck(Slider):
        def stop(self) -> None:
            raise TimeoutError("the brake does not answer")

    sink = ListSink()
    with pytest.raises(ConnectionError) as caught:
        run(SeekingPolicy(), robot=Stuck(fails=5), sink=sink)
    assert "then also TimeoutError: the brake does not answer" in caught.value.__notes__
    assert sink.result.ticks == 5


def test_ctrl_c_stops_the_robot_keeps_the_episode_as_aborted_and_goes_on_to_the_caller():
    class Interrupted(TimelineOperator):
        def poll(self, observation):
            if self.polls == 7:
                raise KeyboardInterrupt
            return super().poll(observation)

    for clock in (SimulatedClock(), HostClock()):
        robot, sink = unjudged(spec=spec_at(100.0)), ListSink()
        with pytest.raises(KeyboardInterrupt):
            run(SeekingPolicy(robot.spec), robot=robot, sink=sink, operator=Interrupted(), clock=clock)
        assert robot.stops == 1
        assert (sink.result.reason, sink.result.outcome) == ("interrupted", Outcome.ABORTED)
        assert sink.result.ticks == len(sink.steps)


def test_a_robot_that_cannot_be_reset_is_stopped_and_no_episode_begins():
    class Jammed(Slider):
        def reset(self, seed: int) -> None:
            raise ConnectionError("protective stop")

    robot, sink = Jammed(), ListSink()
    with pytest.raises(ConnectionError):
        run(SeekingPolicy(), robot=robot, sink=sink)
    assert robot.stops == 1
    assert sink.result is None


def test_a_filter_that_never_comes_to_rest_holds_nobody_up_for_long():
    class Restless(BrakingFilter):
        at_rest = False

    robot = unjudged(blind=range(6, 1000))
    result, _, _ = run(SeekingPolicy(), robot=robot, command_filter=Restless(), stop_timeout_s=1.0)
    assert ending_of(result) is Ending.SENSOR
    assert result.cadence["unobserved_ticks"] <= 6 + 11
    assert robot.stops == 1


LIMITS = {
    "low": [-1.0, -1.0, -1.0],
    "high": [1.0, 1.0, 1.0],
    "max_step": [0.2, 0.2, 2.0],
    "max_velocity": [1.5, 1.5, float("inf")],
    "max_acceleration": [8.0, 8.0, float("inf")],
    "max_jerk": [80.0, 80.0, float("inf")],
    "measured": {0: {"stream": "state", "index": 0}, 2: {"stream": "state", "index": 2}},
    "max_age_s": {"state": 0.25, "image": 0.25},
    "ramp_after_s": 0.2,
    "fault_after_s": 1.0,
}


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=40),
    blind=st.sets(st.integers(0, 40), max_size=8),
    takeovers=st.sets(st.integers(0, 40), max_size=12),
    horizon=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_whatever_policy_operator_and_sensors_do_no_applied_command_breaks_a_limit(
    values, blind, takeovers, horizon, seed
):
    """Everything together, with the real command filter: the robot's side of the contract."""

    def wild(n: int, chunk: ActionChunk) -> ActionChunk:
        chunk.values[:, :2] = np.resize(values[n:] or values, (horizon, 2))
        return chunk

    jump = OperatorCommand(np.array([values[0], values[-1], 1.0], np.float32))
    robot = unjudged(blind=blind)
    robot.reset(seed)
    start = float(robot.position[0])
    operator = TimelineOperator(dict.fromkeys(takeovers, jump))
    command_filter = build_filter(robot.spec, LIMITS)
    run(
        SeekingPolicy(horizon=horizon, spoil=wild), robot=robot, operator=operator, command_filter=command_filter,
        seed=seed, handover_s=0.2, blend_s=0.2,
    )  # fmt: skip
    commands = np.array(robot.executed, np.float64).reshape(-1, 3)
    assert np.isfinite(commands).all()
    assert (np.abs(commands) <= 1.0).all()
    steps = np.stack([np.diff(commands[:, 0], prepend=start), commands[:, 1]], axis=1)
    rounding = 1e-6
    assert (np.abs(steps) <= 0.15 + rounding).all()
    changes = np.diff(steps, axis=0, prepend=0.0)
    assert (np.abs(changes) <= 0.08 + rounding).all()
    assert (np.abs(np.diff(changes, axis=0, prepend=0.0)) <= 0.08 + 4 * rounding).all()
    assert set(commands[:, 2]) <= {0.0, 1.0}
