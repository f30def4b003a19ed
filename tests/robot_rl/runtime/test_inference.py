from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.runtime.cadence import CadenceRecorder
from robot_rl.runtime.chunk_schedule import ChunkSchedule
from robot_rl.runtime.inference import Answer, InlineInference, PolicyFault, ThreadedInference, check_chunk
from robot_rl.runtime.policy_driver import PolicyDriver
from tests.robot_rl.rollout_fakes import SPEC, TICK_NS, SeekingPolicy


def observation(tick: int) -> Observation:
    return Observation(tick * TICK_NS, {"state": np.zeros(3, np.float32)}, {"state": 0})


class GatedPolicy(SeekingPolicy):
    """Answers one question each time its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate = threading.Semaphore(0), threading.Semaphore(0)

    def act(self, history):
        self.asked.release()
        self.gate.acquire()
        return super().act(history)


def wait_for(question):
    for _ in range(2000):
        found = question()
        if found:
            return found
        time.sleep(0.001)
    raise AssertionError("waited in vain")


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (None, "answered with NoneType, wanted an ActionChunk"),
        (ActionChunk([[0.0, 0.0, 0.0]], 0), "wanted an ActionChunk of a numpy array"),
        (ActionChunk(np.zeros((8, 2)), 0), r"shape \(8, 2\), wanted \(H, 3\)"),
        (ActionChunk(np.zeros(3), 0), r"shape \(3,\)"),
        (ActionChunk(np.zeros((0, 3)), 0), "H >= 1"),
        (ActionChunk(np.zeros((8, 3), int), 0), "dtype int64"),
        (ActionChunk(np.array([[0, 0, 0], [0, np.nan, 0]]), 0), "nan in row 1, action 1"),
        (ActionChunk(np.array([[0, 0, -np.inf]]), 0), "-inf in row 0, action 2"),
    ],
)
def test_an_answer_that_cannot_be_executed_is_a_fault_that_says_why(chunk, words):
    with pytest.raises(PolicyFault, match=words):
        check_chunk(chunk, SPEC)


def test_inline_inference_answers_at_once_and_only_once():
    inference = InlineInference(SeekingPolicy(), time.perf_counter_ns)
    inference.request([observation(3)])
    assert inference.take().chunk.start_ns == 3 * TICK_NS
    assert inference.take() is None


def test_inline_inference_reports_whatever_the_policy_raises_as_its_fault():
    class Broken(SeekingPolicy):
        def act(self, history):
            raise ZeroDivisionError("no")

    with pytest.raises(PolicyFault, match="the policy raised ZeroDivisionError: no"):
        InlineInference(Broken(), time.perf_counter_ns).request([observation(0)])


@pytest.fixture
def gated():
    policy = GatedPolicy()
    inference = ThreadedInference(policy, time.perf_counter_ns, timeout_s=60.0, tick_ns=TICK_NS)
    yield policy, inference
    policy.gate.release(1000)
    inference.close()


def test_taking_from_a_thread_never_waits(gated):
    policy, inference = gated
    inference.request([observation(0)])
    policy.asked.acquire()
    assert inference.take() is None
    assert inference.busy


def test_the_thread_works_on_the_newest_observation_and_skips_those_in_between(gated):
    policy, inference = gated
    inference.request([observation(0)])
    policy.asked.acquire()
    inference.request([observation(1)])
    inference.request([observation(2)])
    policy.gate.release(2)
    policy.asked.acquire()
    wait_for(lambda: not inference.busy)
    assert inference.take().chunk.start_ns == 2 * TICK_NS
    assert [history[-1].stamp_ns for history in policy.histories] == [0, 2 * TICK_NS]


def test_the_answer_to_a_forgotten_question_is_dropped(gated):
    policy, inference = gated
    inference.request([observation(0)])
    policy.asked.acquire()
    inference.forget()
    assert not inference.busy
    inference.request([observation(5)])
    policy.gate.release(2)
    answer = wait_for(inference.take)
    assert answer.chunk.start_ns == 5 * TICK_NS
    assert inference.take() is None


def test_the_lead_covers_the_longest_of_the_last_latencies_and_a_tick(gated):
    policy, inference = gated
    assert inference.lead_ns == TICK_NS
    inference.request([observation(0)])
    policy.gate.release()
    answer = wait_for(inference.take)
    assert inference.lead_ns == answer.latency_ns + TICK_NS


def test_a_thread_that_does_not_answer_in_time_is_a_fault():
    policy, now_ns = GatedPolicy(), [0]
    inference = ThreadedInference(policy, lambda: now_ns[0], timeout_s=2.0, tick_ns=TICK_NS)
    inference.request([observation(0)])
    now_ns[0] = 2_000_000_000
    assert inference.take() is None
    now_ns[0] += 1
    with pytest.raises(PolicyFault, match="has not answered for 2 s"):
        inference.take()
    policy.gate.release()
    inference.close()


def test_a_fault_in_the_thread_is_raised_in_the_tick():
    policy = SeekingPolicy(spoil=lambda n, chunk: ActionChunk(chunk.values * np.nan, 0))
    inference = ThreadedInference(policy, time.perf_counter_ns, timeout_s=60.0, tick_ns=TICK_NS)
    inference.request([observation(0)])
    with pytest.raises(PolicyFault, match="nan in row 0"):
        wait_for(inference.take)
    inference.close()


class DelayedInference:
    """Answers so many ticks after the question, which `tick` counts; knows its longest delay as lead."""

    def __init__(self, policy: SeekingPolicy, delays: list[int]) -> None:
        self.policy, self.delays = policy, delays
        self.lead_ns = max(delays) * TICK_NS
        self.tick = 0
        self.waiting: tuple[int, Answer] | None = None
        self.asked_at: list[int] = []

    @property
    def busy(self) -> bool:
        return self.waiting is not None

    def request(self, history) -> None:
        delay = self.delays[len(self.asked_at) % len(self.delays)]
        self.asked_at.append(self.tick)
        self.waiting = self.tick + delay, Answer(self.policy.act(history), delay * TICK_NS)

    def take(self) -> Answer | None:
        if self.waiting is None or self.waiting[0] > self.tick:
            return None
        (_, answer), self.waiting = self.waiting, None
        return answer

    def forget(self) -> None:
        self.waiting = None

    def close(self) -> None:
        pass


def drive(inference, policy, ticks, execute_horizon, blend_ticks=0):
    cadence = CadenceRecorder(TICK_NS, {})
    driver = PolicyDriver(policy, inference, ChunkSchedule(SPEC), execute_horizon, blend_ticks * TICK_NS, 0, cadence)
    rows, last = [], None
    for tick in range(ticks):
        inference.tick = tick
        driver.see(observation(tick))
        row = driver.requested(tick * TICK_NS, last)
        last = row if row is not None else last
        rows.append(row)
    return rows, cadence.report()


@given(delays=st.lists(st.integers(0, 5), min_size=1, max_size=6), execute=st.integers(1, 10))
def test_a_policy_asked_early_enough_never_starves(delays, execute):
    policy = SeekingPolicy(horizon=execute + 2 * max(delays) + 1)
    rows, report = drive(DelayedInference(policy, delays), policy, 60, execute)
    assert report["starved_ticks"] == 0
    assert report["waiting_ticks"] == delays[0]
    assert all(row is None for row in rows[: delays[0]])
    assert all(row is not None for row in rows[delays[0] :])


def test_without_delay_the_policy_is_asked_exactly_at_its_execute_horizon():
    policy = SeekingPolicy(horizon=16)
    inference = DelayedInference(policy, [0])
    drive(inference, policy, 32, execute_horizon=8)
    assert inference.asked_at == [0, 8, 16, 24]


def test_without_an_execute_horizon_the_whole_chunk_is_executed():
    policy = SeekingPolicy(horizon=16)
    inference = DelayedInference(policy, [0])
    drive(inference, policy, 33, execute_horizon=None)
    assert inference.asked_at == [0, 16, 32]


def test_a_policy_slower_than_its_chunks_starves_and_every_such_tick_is_counted():
    policy = SeekingPolicy(horizon=4)
    rows, report = drive(DelayedInference(policy, [6]), policy, 40, None)
    assert report["starved_ticks"] + report["waiting_ticks"] == sum(row is None for row in rows) == 40
    assert report["late_rows_dropped"] == 4 * report["chunks"]


def test_the_policy_sees_its_observations_oldest_first_and_one_tick_apart():
    policy = SeekingPolicy(horizon=3, observation_count=3)
    drive(DelayedInference(policy, [0]), policy, 9, None)
    stamps = [[each.stamp_ns // TICK_NS for each in history] for history in policy.histories]
    assert stamps == [[0], [1, 2, 3], [4, 5, 6]]


def test_without_an_observation_at_this_tick_the_policy_is_not_asked():
    policy = SeekingPolicy()
    inference = DelayedInference(policy, [0])
    driver = PolicyDriver(policy, inference, ChunkSchedule(SPEC), None, 0, 0, CadenceRecorder(TICK_NS, {}))
    driver.see(observation(0))
    assert driver.requested(TICK_NS, None) is None
    assert inference.asked_at == []
