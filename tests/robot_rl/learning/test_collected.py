"""Episodes in memory: the same columns as a dataset holds, each frame once, decisions on the ticks they drove."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from data.archive.schema import encode_episode, problems_of
from robot_rl.core.episode import Source
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.learning.collected import MemorySink, StepsMissing, decisions_of, takeovers
from tests.robot_rl.rollout_fakes import ListSink, SeekingPolicy, Slider, TimelineOperator, run


class Tee:
    """Gives every step to two sinks."""

    def __init__(self, *sinks):
        self.sinks = sinks

    def begin(self, spec, header):
        for sink in self.sinks:
            sink.begin(spec, header)

    def append(self, step):
        for sink in self.sinks:
            sink.append(step)

    def end(self, result):
        for sink in self.sinks:
            sink.end(result)

    def discard(self):
        for sink in self.sinks:
            sink.discard()


def recorded(**given):
    memory, steps = MemorySink(), ListSink()
    run(SeekingPolicy(), sink=Tee(memory, steps), **given)
    return memory.take(), steps.steps


def test_an_episode_in_memory_holds_every_step_as_it_happened():
    episode, steps = recorded()
    assert len(episode) == len(steps) > 5
    assert not problems_of(encode_episode(episode, {"image": "png"}, uuid.uuid4().hex))
    for tick, step in enumerate(steps):
        seen = episode.observation(tick)
        assert (seen.stamp_ns, dict(seen.age_ns)) == (step.observation.stamp_ns, dict(step.observation.age_ns))
        for name, values in step.observation.values.items():
            np.testing.assert_array_equal(seen.values[name], values)
        np.testing.assert_array_equal(episode.applied[tick], step.applied)
        np.testing.assert_array_equal(episode.requested[tick], step.requested)
        assert episode.reward[tick] == np.float32(step.reward)


def test_a_frame_seen_by_several_ticks_is_held_once():
    episode, steps = recorded(robot=Slider(camera_freezes=3))
    frozen = sum(step.observation.stamp_ns - step.observation.age_ns["image"] == 3e8 for step in steps)
    assert frozen > 1
    assert len(episode.streams["image"].values) == len(episode) - frozen + 1
    assert len(episode.streams["state"].values) == len(episode)


def test_the_robot_may_use_its_buffers_again():
    memory = MemorySink()
    _, sink, _ = run(SeekingPolicy())
    memory.begin(Slider().spec, None)
    buffer = sink.steps[0].observation.values["state"]
    before = buffer.copy()
    memory.append(sink.steps[0])
    buffer += 1.0
    memory.end(None)
    np.testing.assert_array_equal(memory.take().per_tick("state")[0], before)


def test_an_episode_without_a_step_has_empty_columns_of_the_right_shape():
    episode, _ = recorded(operator=TimelineOperator({0: OperatorCommand(event=OperatorEvent.STOP)}))
    assert len(episode) == 0
    assert not problems_of(encode_episode(episode, {"image": "png"}, uuid.uuid4().hex))


def test_an_episode_is_taken_once_and_never_after_it_was_thrown_away():
    memory = MemorySink()
    run(SeekingPolicy(), sink=memory)
    memory.take()
    with pytest.raises(StepsMissing):
        memory.take()
    run(SeekingPolicy(), sink=memory, operator=TimelineOperator({3: OperatorCommand(event=OperatorEvent.REDO)}))
    with pytest.raises(StepsMissing):
        memory.take()


def test_a_decision_belongs_to_the_tick_it_was_made_for_unless_the_operator_drove_there():
    drive = OperatorCommand(action=np.zeros(3, np.float32))
    episode, _ = recorded(operator=TimelineOperator({4: drive, 5: drive, 6: drive}))
    assert [*episode.source[3:8]] == [Source.POLICY, *[Source.OPERATOR] * 3, Source.POLICY]
    chains = [(int(episode.stamps_ns[tick]), np.full((3, 8, 3), tick, np.float32)) for tick in (0, 5, 2, 7)] + [
        (-1, np.zeros((3, 8, 3), np.float32)),
        (int(episode.stamps_ns[2]), np.ones((3, 8, 3), np.float32)),
    ]
    decisions = decisions_of(episode, chains)
    assert [each.tick for each in decisions] == [0, 2, 7]
    assert decisions[1].states[0, 0, 0] == 1.0, "the newest chain for a tick is the one that drove"


def test_takeovers_are_counted_as_runs_of_the_operators_ticks():
    drive = OperatorCommand(action=np.zeros(3, np.float32))
    episode, _ = recorded(operator=TimelineOperator({0: drive, 4: drive, 5: drive, 8: drive}))
    assert takeovers(episode) == 3
