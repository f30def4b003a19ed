from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.clock import HostClock
from robot_rl.core.episode import ActionChunk, Outcome, Source
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.core.protocols import Judgement, OperatorCommand, OperatorEvent
from robot_rl.runtime.chunk_schedule import smooth_weight
from robot_rl.runtime.ending import End, Ending, Verdict, ending_of
from robot_rl.runtime.meeting import RolloutSettings
from robot_rl.runtime.rollout import blend_duration_s
from tests.robot_rl.rollout_fakes import (
    SPEC,
    TICK_NS,
    BrakingFilter,
    ListSink,
    SeekingPolicy,
    Slider,
    TimelineOperator,
    run,
    spec_at,
)

REACH = OperatorCommand(np.array([0.5, 0.1, 1.0], np.float32))
STILL = OperatorCommand(np.zeros(3, np.float32))


def at(poll: int, event: OperatorEvent, outcome: Outcome | None = None, idle: OperatorCommand = STILL):
    return TimelineOperator({poll: OperatorCommand(event=event, outcome=outcome)}, idle)


def steps_of(sink: ListSink) -> list[tuple]:
    return [
        (s.observation.stamp_ns, *s.requested.tolist(), *s.applied.tolist(), s.source, s.reward, s.filter_reasons)
        for s in sink.steps
    ]


# The same seed gives the same episode.


def test_the_same_seed_gives_the_same_episode_however_slow_the_policy_is():
    fast, slow = SeekingPolicy(), SeekingPolicy(spoil=lambda n, chunk: (threading.Event().wait(0.01), chunk)[1])
    first, second, other = run(fast, seed=3)[1], run(slow, seed=3)[1], run(fast, seed=4)[1]
    assert steps_of(first) == steps_of(second)
    assert steps_of(first) != steps_of(other)


def test_the_timer_of_the_report_decides_nothing_in_simulated_time():
    ticking = iter(range(0, 10**15, 10**9))
    slow = run(SeekingPolicy(), timer=lambda: next(ticking))
    assert slow[0].cadence["over_budget_ticks"] == slow[0].ticks
    assert steps_of(slow[1]) == steps_of(run(SeekingPolicy())[1])


def test_ticks_are_one_tick_apart_and_each_step_carries_what_was_seen_asked_and_done():
    result, sink, robot = run(SeekingPolicy(), seed=1)
    stamps = [step.observation.stamp_ns for step in sink.steps]
    assert stamps == list(range(0, len(stamps) * TICK_NS, TICK_NS))
    assert result.ticks == len(sink.steps) == len(robot.executed)
    for step, executed in zip(sink.steps, robot.executed, strict=True):
        np.testing.assert_array_equal(step.applied, executed)
        assert step.requested.dtype == step.applied.dtype == np.float32
        assert step.source is Source.POLICY


def test_what_the_robot_executed_is_recorded_beside_what_was_asked():
    wild = OperatorCommand(np.array([7.0, 0.0, 0.0], np.float32))
    _, sink, _ = run(operator=TimelineOperator(idle=wild), max_ticks=3)
    assert [float(step.requested[0]) for step in sink.steps] == [7.0] * 3
    assert [float(step.applied[0]) for step in sink.steps] == [1.0] * 3


# How it ends.


def test_the_judge_ends_the_episode_as_a_success():
    result, sink, robot = run(SeekingPolicy())
    assert (result.outcome, result.terminated, result.truncated) == (Outcome.SUCCESS, True, False)
    assert ending_of(result) is Ending.TASK
    assert result.reward_max == max(step.reward for step in sink.steps)
    assert result.reward_sum == pytest.approx(sum(step.reward for step in sink.steps))
    assert sink.result == result
    assert robot.stops == 1


def test_an_episode_goes_on_for_some_ticks_after_success_when_asked_to():
    plain, longer = run(SeekingPolicy())[0], run(SeekingPolicy(), after_success_ticks=5)[0]
    assert longer.ticks == plain.ticks + 5
    assert (longer.outcome, longer.terminated) == (Outcome.SUCCESS, True)


def test_a_time_limit_truncates_and_with_a_judge_is_a_failure():
    result, sink, _ = run(SeekingPolicy(), max_ticks=3)
    assert (result.outcome, result.terminated, result.truncated) == (Outcome.FAILURE, False, True)
    assert result.ticks == len(sink.steps) == 3
    assert result.reason == "time limit: 3 ticks"


def test_without_a_judge_and_without_a_label_nobody_guesses_an_outcome():
    result, _, _ = run(SeekingPolicy(), judge=None, max_ticks=3)
    assert (result.outcome, result.truncated) == (Outcome.ABORTED, True)
    result, _, _ = run(judge=None, operator=at(4, OperatorEvent.END))
    assert (result.outcome, result.truncated) == (Outcome.ABORTED, True)


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILURE])
def test_an_operator_who_ends_with_a_label_decides(outcome):
    result, _, _ = run(SeekingPolicy(), operator=at(2, OperatorEvent.END, outcome, OperatorCommand()))
    assert (result.outcome, result.terminated, result.ticks) == (outcome, True, 2)
    assert result.reason == f"operator: {outcome}"


def test_a_label_given_earlier_overrides_the_judge():
    operator = at(1, OperatorEvent.NONE, Outcome.FAILURE, OperatorCommand())
    result, _, _ = run(SeekingPolicy(), operator=operator)
    assert (ending_of(result), result.outcome, result.terminated) == (Ending.TASK, Outcome.FAILURE, True)


def test_redo_throws_the_episode_away_and_says_so():
    result, sink, robot = run(operator=at(3, OperatorEvent.REDO))
    assert sink.discarded
    assert sink.result is None
    assert (ending_of(result), result.outcome, robot.stops) == (Ending.REDO, Outcome.ABORTED, 1)


def test_stop_keeps_the_episode_as_aborted():
    result, sink, robot = run(operator=at(3, OperatorEvent.STOP))
    assert (ending_of(result), sink.result.outcome, robot.stops) == (Ending.STOP, Outcome.ABORTED, 1)
    assert len(sink.steps) == 3


def test_the_first_judgement_that_is_done_decides():
    verdict = Verdict(has_judge=True, after_success_ticks=2)
    said = [verdict.judged(Judgement(0.0, success, True)) for success in (True, False, False)]
    assert said == [None, None, End(Ending.TASK, "success")]


def test_a_failure_seen_by_the_judge_ends_the_episode_at_once():
    verdict = Verdict(has_judge=True, after_success_ticks=2)
    end = verdict.judged(Judgement(0.0, False, True))
    result = verdict.result(end, {})
    assert (result.outcome, result.terminated) == (Outcome.FAILURE, True)


# Who drives.


def test_an_operator_alone_is_executed_as_is_from_the_first_tick():
    _, sink, _ = run(operator=TimelineOperator(idle=REACH), max_ticks=5)
    assert all(step.source is Source.OPERATOR for step in sink.steps)
    assert all((step.requested == REACH.action).all() for step in sink.steps)


def correction(handover_s: float, polls: range, action: np.ndarray):
    """The steps of an episode whose operator takes over for some ticks."""
    far = Slider()
    far.judge = lambda: Judgement(0.0, False, False)
    timeline = dict.fromkeys(polls, OperatorCommand(action.astype(np.float32)))
    policy = SeekingPolicy()
    _, sink, _ = run(policy, robot=far, operator=TimelineOperator(timeline), handover_s=handover_s, max_ticks=30)
    return sink.steps, policy


def test_an_operator_takes_over_and_gives_back_tick_by_tick():
    steps, _ = correction(0.0, range(5, 12), np.array([-0.9, 0.0, -1.0]))
    assert [step.source is Source.OPERATOR for step in steps] == [5 <= tick < 12 for tick in range(30)]
    assert all(step.requested[0] == np.float32(-0.9) for step in steps[5:12]), "without a ramp control passes at once"


def test_taking_over_ramps_from_the_commanded_action_and_the_gripper_does_not():
    target = np.array([-0.9, 0.05, -1.0])
    steps, _ = correction(0.3, range(5, 12), target)
    anchor = steps[4].applied
    for tick, step in enumerate(steps[5:12]):
        weight = smooth_weight((tick + 1) / 4)
        np.testing.assert_allclose(step.requested[:2], ((1 - weight) * anchor + weight * target)[:2], atol=1e-6)
        assert step.requested[2] == -1.0


def test_an_operator_who_wants_to_know_is_told_every_command_before_the_next_poll():
    class Watching(TimelineOperator):
        def reset(self, seed):
            super().reset(seed)
            self.told, self.known_at_poll = [], []

        def see_applied(self, applied):
            self.told.append(applied)

        def poll(self, observation):
            self.known_at_poll.append(len(self.told))
            return super().poll(observation)

    operator = Watching()
    _, sink, _ = run(SeekingPolicy(), operator=operator, max_ticks=6)
    assert [told.tolist() for told in operator.told[:6]] == [step.applied.tolist() for step in sink.steps]
    assert operator.known_at_poll[:6] == [0, 1, 2, 3, 4, 5]


def test_giving_back_ramps_from_the_operators_last_command_into_a_fresh_chunk():
    steps, policy = correction(0.3, range(5, 12), np.array([-0.9, 0.0, -1.0]))
    asked = [history[-1].stamp_ns // TICK_NS for history in policy.histories]
    assert asked == [0, 12, 20, 28], "nothing is asked while the operator drives"
    weight = smooth_weight(1 / 4)
    ramped = steps[12].requested[0]
    fresh = (ramped - (1 - weight) * steps[11].applied[0]) / weight
    assert fresh == pytest.approx(-0.9 + 0.2 * 1.4, abs=0.02), "the policy's own first row from where the arm is"
    assert steps[12].requested[2] == 1.0


@settings(max_examples=25, deadline=None)
@given(
    control=st.lists(st.booleans(), min_size=5, max_size=30),
    handover_ticks=st.integers(1, 5),
    position=st.floats(-1, 1),
)
def test_however_control_passes_commands_stay_in_range_and_grippers_stay_binary(control, handover_ticks, position):
    action = OperatorCommand(np.array([position, 0.0, -1.0], np.float32))
    timeline = {poll: action for poll, drives in enumerate(control) if drives}
    operator = TimelineOperator(timeline)
    _, sink, _ = run(SeekingPolicy(), operator=operator, handover_s=handover_ticks / 10, max_ticks=len(control))
    for step in sink.steps:
        assert -1.0 - 1e-6 <= step.requested[0] <= 1.0 + 1e-6
        assert step.requested[2] in (-1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "simulated", "expected_s"),
    [
        (RolloutSettings(), True, 0.0),
        (RolloutSettings(), False, 0.15),
        (RolloutSettings(execute_horizon=100), False, 0.15),
        (RolloutSettings(execute_horizon=4), False, 0.025),
        (RolloutSettings(execute_horizon=4, blend_s=0.5), False, 0.5),
    ],
)
def test_the_default_cross_fade_leaves_half_of_a_chunk_as_the_policy_meant_it(options, simulated, expected_s):
    assert blend_duration_s(options, spec_at(80.0), simulated) == pytest.approx(expected_s)


def test_a_chunk_is_blended_with_the_one_before_only_when_asked_to():
    def split(n, chunk):
        chunk.values[:, 0] = 0.1 * n
        return chunk

    plain = run(SeekingPolicy(spoil=split), judge=None, execute_horizon=4, max_ticks=12)[1].steps
    assert [round(float(s.requested[0]), 6) for s in plain] == [0.0] * 4 + [0.1] * 4 + [0.2] * 4
    blended = run(SeekingPolicy(spoil=split), judge=None, execute_horizon=4, max_ticks=12, blend_s=0.2)[1].steps
    values = [float(s.requested[0]) for s in blended]
    assert 0.0 < values[4] < values[5] < values[6] == pytest.approx(0.1)


# Pausing.


def test_a_pause_brakes_then_stands_still_and_its_ticks_do_not_count():
    pause = OperatorCommand(event=OperatorEvent.PAUSE)
    operator = TimelineOperator({5: pause, 25: pause})
    still = Slider()
    still.judge = lambda: Judgement(0.0, False, False)
    result, sink, robot = run(SeekingPolicy(), robot=still, operator=operator, max_ticks=20)
    stamps = [step.observation.stamp_ns // TICK_NS for step in sink.steps]
    assert result.ticks == 20
    assert result.cadence["paused_ticks"] == 20
    gap = max(range(len(stamps) - 1), key=lambda n: stamps[n + 1] - stamps[n])
    assert stamps[gap + 1] == 25, "driving goes on at the tick that ends the pause"
    assert stamps[gap] > 5, "braking is recorded"
    assert abs(sink.steps[gap].applied[1]) < 1e-2, "the rate has been ramped down"
    assert robot.stops == 2
    assert all(step.source is Source.OPERATOR for step in sink.steps if 5 <= step.observation.stamp_ns // TICK_NS < 25)


def test_an_operator_may_end_an_episode_that_is_paused():
    timeline = {
        2: OperatorCommand(event=OperatorEvent.PAUSE),
        60: OperatorCommand(event=OperatorEvent.END, outcome=Outcome.SUCCESS),
    }
    result, _, _ = run(operator=TimelineOperator(timeline, STILL))
    assert (result.outcome, result.ticks) == (Outcome.SUCCESS, 2)


def test_a_person_may_pause_before_beginning_and_take_their_time():
    spec = spec_at(100.0)
    pause = OperatorCommand(event=OperatorEvent.PAUSE)
    end = OperatorCommand(event=OperatorEvent.END, outcome=Outcome.FAILURE)
    operator = TimelineOperator({2: pause, 4: pause, 30: REACH, 31: end})
    robot = Slider(spec)
    result, sink, _ = run(operator=operator, robot=robot, clock=HostClock(), judge=None, operator_timeout_s=0.1)
    assert (ending_of(result), result.ticks) == (Ending.OPERATOR, 1)
    assert sink.steps[0].observation.values["image"][0, 0, 0] == 30, "nothing was sent before the first action"


# Doors.


def test_a_policy_for_another_robot_is_refused_before_anything_moves():
    robot = Slider(spec_at(20.0))
    with pytest.raises(SpecMismatch, match=r"control_hz: wanted 10\.0, robot has 20\.0"):
        run(SeekingPolicy(), robot=robot)
    assert not robot.executed
    assert robot.observed == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"max_ticks": 0}, "max_ticks is 0"),
        ({"execute_horizon": 0}, "execute_horizon is 0"),
        ({"handover_s": -1.0}, "handover_s is -1"),
        ({"policy_timeout_s": float("inf")}, "policy_timeout_s is inf"),
        ({"blend_s": float("nan")}, "blend_s is nan"),
        ({"after_success_ticks": -1}, "after_success_ticks is -1"),
    ],
)
def test_impossible_options_are_refused(setting, words):
    with pytest.raises(RobotRLError, match=words):
        RolloutSettings(**setting)


# Real time.


def test_in_real_time_the_policy_thinks_in_its_own_thread_and_the_tick_goes_on():
    threads = set()

    def slowly(n: int, chunk: ActionChunk) -> ActionChunk:
        threads.add(threading.current_thread())
        threading.Event().wait(0.03)
        return chunk

    spec = spec_at(100.0)
    policy = SeekingPolicy(spec, horizon=32, spoil=slowly)
    result, sink, robot = run(
        policy, robot=Slider(spec), clock=HostClock(), judge=None, execute_horizon=8, max_ticks=60
    )
    assert ending_of(result) is Ending.TIME_LIMIT
    assert threading.current_thread() not in threads
    assert len(threads) == 1
    assert result.cadence["chunks"] >= 2
    assert result.cadence["late_rows_dropped"] > 0
    start_ns = sink.steps[0].observation.stamp_ns
    assert all((step.observation.stamp_ns - start_ns) % spec.tick_ns == 0 for step in sink.steps)
    assert not any(thread.is_alive() for thread in threads)
    assert robot.stops == 1


def test_in_real_time_an_ended_episode_is_ramped_to_rest_without_recording_it():
    spec = spec_at(100.0)
    running = OperatorCommand(np.array([0.0, 0.5, 0.0], np.float32))
    end = OperatorCommand(event=OperatorEvent.END, outcome=Outcome.SUCCESS)
    operator = TimelineOperator({5: end}, running)
    command_filter = BrakingFilter(spec)
    result, sink, robot = run(
        operator=operator, robot=Slider(spec), clock=HostClock(), judge=None, command_filter=command_filter
    )
    rates = [float(action[1]) for action in robot.executed]
    assert rates[-1] == 0.0
    assert len(rates) > len(sink.steps) == result.ticks == 5
    assert all(after < before for before, after in itertools.pairwise(rates[4:]))


def test_a_robot_that_takes_no_more_commands_after_its_last_tick_does_not_spoil_the_episode():
    class Limited(Slider):
        def apply(self, action: np.ndarray) -> np.ndarray:
            if len(self.executed) == 5:
                raise RobotRLError("episodes end after 5 ticks")
            return super().apply(action)

    robot = Limited(spec_at(100.0))
    running = TimelineOperator(idle=OperatorCommand(np.array([0.0, 0.5, 0.0], np.float32)))
    result, _, _ = run(operator=running, robot=robot, clock=HostClock(), judge=None, max_ticks=5)
    assert (ending_of(result), result.ticks, robot.stops) == (Ending.TIME_LIMIT, 5, 1)


def test_the_filter_is_told_the_time_that_really_passed_between_commands():
    command_filter = BrakingFilter()
    run(SeekingPolicy(), command_filter=command_filter, max_ticks=5)
    assert command_filter.elapsed_s == pytest.approx([SPEC.tick_ns / 1e9] * 5)
