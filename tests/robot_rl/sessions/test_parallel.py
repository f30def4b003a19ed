"""Collecting: episodes are a function of policy and seed, whoever runs them; processes never fail in silence."""

from __future__ import annotations

import multiprocessing
from collections import deque
from dataclasses import fields

import numpy as np
import pytest

from policies.exploring_policy import ExploringPolicy
from robot_rl.core.episode import Episode, Source
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.runtime.meeting import RolloutSettings
from robot_rl.sessions.parallel import CollectingFailed, EpisodeCollector, _Failure, _Worker
from robot_rl.sessions.setup import SessionSettings, TaskSettings
from tests.robot_rl.toy_reach import LIMITS, StraightPolicy, reach_policy

SEEDS = [11, 5, 8, 3, 20]


def settings(robot=None, **operator) -> SessionSettings:
    return SessionSettings(
        robot={"_target_": "tests.robot_rl.toy_reach.ReachRobot", **(robot or {})},
        limits=dict(LIMITS),
        operator={"_target_": "tests.robot_rl.toy_reach.GuidingOperator", **operator},
        task=TaskSettings("reach", 30),
        rollout=RolloutSettings(),
    )


def explorer(seed=0) -> ExploringPolicy:
    return ExploringPolicy(reach_policy(seed, gain=1.5).with_exploration(4, 0.05, 0.5))


def assert_same(one, other):
    """Equal but for the time of day and what was measured with a stopwatch."""
    for each in fields(Episode):
        mine, theirs = getattr(one.episode, each.name), getattr(other.episode, each.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
    assert one.episode.result.outcome == other.episode.result.outcome
    assert one.episode.header.seed == other.episode.header.seed
    assert [each.tick for each in one.decisions] == [each.tick for each in other.decisions]
    for mine, theirs in zip(one.decisions, other.decisions, strict=True):
        np.testing.assert_array_equal(mine.states, theirs.states)


@pytest.fixture(scope="module")
def pair():
    with EpisodeCollector(settings(first=6, last=9), workers=2) as collector:
        yield collector


def test_episodes_are_the_same_however_many_processes_run_them(pair):
    with EpisodeCollector(settings(first=6, last=9)) as here:
        alone = list(here.collect(explorer(), SEEDS))
    shared = list(pair.collect(explorer(), SEEDS))
    assert [each.episode.header.seed for each in shared] == SEEDS
    for one, other in zip(alone, shared, strict=True):
        assert_same(one, other)
    assert len({each.episode.applied.tobytes() for each in shared}) == len(SEEDS)


def test_a_second_call_drives_with_the_policy_it_was_given(pair):
    first = next(iter(pair.collect(explorer(0), [1])))
    second = next(iter(pair.collect(explorer(1), [1])))
    again = next(iter(pair.collect(explorer(0), [1])))
    assert np.abs(first.episode.applied[0] - second.episode.applied[0]).max() > 1e-4
    assert_same(first, again)


def test_a_caller_who_stops_listening_does_not_disturb_the_next_call(pair):
    next(iter(pair.collect(explorer(0), SEEDS)))
    (found,) = pair.collect(explorer(0), [3])
    assert found.episode.header.seed == 3


def test_decisions_come_every_executed_row_and_again_when_the_operator_gives_back(pair):
    (found,) = pair.collect(explorer(), [5])
    assert [*np.flatnonzero(found.episode.source == Source.OPERATOR)] == [6, 7, 8]
    ticks = [each.tick for each in found.decisions]
    assert ticks[:4] == [0, 2, 4, 9]
    assert np.diff(ticks[3:]).tolist() == [2] * (len(ticks) - 4)
    assert found.decisions[0].states.shape == (5, 4, 2)


def test_no_seeds_are_no_episodes(pair):
    assert list(pair.collect(explorer(), [])) == []


def test_a_policy_for_another_robot_is_refused_before_anything_moves():
    with EpisodeCollector(settings(robot={"name": "other"})) as collector, pytest.raises(SpecMismatch):
        collector.collect(explorer(), [1])


def test_a_process_that_dies_is_named_with_its_seed():
    with EpisodeCollector(settings(robot={"dies_at_seed": 3}), workers=2) as collector:
        assert len(list(collector.collect(StraightPolicy(), [1, 2]))) == 2
        with pytest.raises(CollectingFailed, match=r"died in the episode of seed 3 \(exit status 3\)"):
            list(collector.collect(StraightPolicy(), SEEDS))
        with pytest.raises(CollectingFailed, match="died"):
            list(collector.collect(StraightPolicy(), SEEDS))


def test_what_goes_wrong_in_a_process_is_said_here_and_all_of_them_end():
    with EpisodeCollector(settings(robot={"fails_at_seed": 8}), workers=2) as collector:
        processes = [worker.process for worker in collector._pool]
        with pytest.raises(CollectingFailed, match="the toy is broken in the episode of seed 8"):
            list(collector.collect(StraightPolicy(), SEEDS))
    assert not any(process.is_alive() for process in processes)


def test_a_robot_that_cannot_be_built_is_said_before_the_first_episode():
    with pytest.raises(RobotRLError, match="takes no 'legs'"), EpisodeCollector(settings(robot={"legs": 2}), 2):
        pass


def test_what_a_process_said_before_it_ended_is_not_lost_because_somebody_speaks_to_it_first():
    ours, theirs = multiprocessing.Pipe()
    theirs.send("an episode")
    theirs.send(_Failure("the toy is broken"))
    theirs.close()
    worker = _Worker(multiprocessing.current_process(), ours, deque([(0, 7), (1, 8)]))
    with pytest.raises(CollectingFailed, match="the toy is broken in the episode of seed 8"):
        worker.send(9)
