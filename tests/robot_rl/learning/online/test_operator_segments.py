import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.episode import Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.online.advantages import gae, operator_segments
from robot_rl.learning.segments import regular_starts, segment
from robot_rl.learning.transitions import RewardConfig
from tests.robot_rl.learning.online.test_advantages import GAMMA, collected_of, drivers, episode_of, exploring, recorded

ROWS, LAM = 2, 0.5


def of_operator(episode, rows, ends):
    start = regular_starts(episode.source, Source.OPERATOR, rows)
    return segment(episode.source, start, ends, driver=Source.OPERATOR)


def cut(source, ends=False, rows=ROWS):
    found = of_operator(episode_of(source), rows, ends)
    return {name: getattr(found, name).tolist() for name in ("start", "end", "terminated", "cut")}


def targets(segments, value_of, lam=LAM):
    """Lambda-returns under a value that is a function of the condition."""
    value, following = value_of(segments.condition), value_of(segments.next_condition)
    return value + gae(
        segments.reward, segments.discount, value, following, segments.terminated, segments.cut, lam
    )  # fmt: skip


def first_feature(condition):
    return condition[:, 0]


def value_at(episode, tick):
    """What `first_feature` says at a tick of an episode."""
    policy = exploring()
    both = [episode.observation(max(tick - 1, 0)), episode.observation(tick)]
    values = {name: np.stack([each.values[name] for each in both])[None] for name in policy.config.streams}
    with torch.no_grad():
        return float(policy.encode({name: torch.from_numpy(array) for name, array in values.items()})[0, 0])


def test_the_operators_driving_is_cut_into_segments_as_long_as_a_decision_holds():
    assert cut("ppooooop", ends=True) == {
        "start": [2, 4, 6],
        "end": [4, 6, 7],
        "terminated": [False, False, False],
        "cut": [False, False, True],
    }


def test_driving_that_ends_a_terminated_episode_terminates_with_it():
    found = cut("ppooo", ends=True)
    assert found["end"] == [4, 5]
    assert found["terminated"] == [False, True]
    assert found["cut"] == [False, False]


def test_driving_that_ends_a_truncated_episode_bootstraps_at_its_last_observation():
    found = cut("ppoooo", ends=False)
    assert found["start"] == [2, 4]
    assert found["end"] == [4, 5]
    assert found["cut"] == [False, True]
    assert cut("ppppo", ends=False)["start"] == []


def test_a_success_in_the_operators_hands_is_worth_its_discounted_reward():
    episode = episode_of("pppooo", outcome=Outcome.SUCCESS, terminated=True)
    found = operator_segments(exploring(), [episode], RewardConfig(gamma=GAMMA))
    assert found.reward.tolist() == pytest.approx([0.0, 1.0])
    last = 1.0
    first = GAMMA**2 * ((1 - LAM) * value_at(episode, 5) + LAM * last)
    assert targets(found, first_feature).tolist() == pytest.approx([first, last], rel=1e-5)


def test_driving_that_is_handed_back_bootstraps_with_the_value_of_what_the_policy_then_saw():
    episode = episode_of("ppooopp", outcome=Outcome.SUCCESS, terminated=True)
    found = operator_segments(exploring(), [episode], RewardConfig(gamma=GAMMA))
    last = GAMMA * value_at(episode, 5)
    first = GAMMA**2 * ((1 - LAM) * value_at(episode, 4) + LAM * last)
    assert targets(found, first_feature).tolist() == pytest.approx([first, last], rel=1e-5)
    assert found.tick.tolist() == [2, 4]


def test_driving_at_the_beginning_of_an_episode_counts_from_its_first_observation():
    episode = episode_of("oopp", reward=[1.0, 2.0, 4.0, 8.0], terminated=True)
    found = operator_segments(exploring(), [episode], recorded())
    assert float(found.condition[0, 0]) == pytest.approx(value_at(episode, 0))
    by_hand = 1.0 + GAMMA * 2.0 + GAMMA**2 * value_at(episode, 2)
    assert targets(found, first_feature).tolist() == pytest.approx([by_hand], rel=1e-5)


def test_the_penalty_of_a_takeover_is_the_policys():
    episode = episode_of("ppoopp", terminated=True)
    found = operator_segments(exploring(), [episode], recorded(intervention_penalty=0.5))
    assert found.reward.tolist() == [0.0]


def test_episodes_are_numbered_and_do_not_run_into_each_other():
    episodes = [episode_of("ppoo", seed=1), episode_of("pppp", seed=2), episode_of("oopp", seed=3, terminated=True)]
    found = operator_segments(exploring(), episodes, recorded())
    assert found.episode.tolist() == [0, 2]
    assert found.cut.tolist() == [True, True]
    alone = [operator_segments(exploring(), [each], recorded()) for each in (episodes[0], episodes[2])]
    together = targets(found, first_feature)
    torch.testing.assert_close(together, torch.cat([targets(each, first_feature) for each in alone]))


def test_where_the_operator_never_drove_there_is_nothing():
    assert operator_segments(exploring(), [episode_of("pppp")], recorded()) is None
    assert operator_segments(exploring(), [], recorded()) is None


def test_the_policys_mode_is_left_as_it_was():
    policy = exploring().train()
    operator_segments(policy, [episode_of("ooop")], recorded())
    assert policy.training


def test_a_reward_that_cannot_work_is_refused():
    with pytest.raises(RobotRLError, match=r"reward\.gamma"):
        operator_segments(exploring(), [episode_of("oo")], RewardConfig(gamma=2.0))


@settings(max_examples=100, deadline=None)
@given(drivers, st.booleans(), st.integers(1, 4))
def test_segments_hold_every_tick_of_the_operators_that_had_a_consequence_once(source, ends, rows):
    episode = collected_of(source, []).episode
    found = of_operator(episode, rows, ends)
    held = np.zeros(len(episode), int)
    for start, end in zip(found.start, found.end, strict=True):
        assert 0 < end - start <= rows
        held[start:end] += 1
    last = len(episode) if ends else len(episode) - 1
    np.testing.assert_array_equal(held[:last], (episode.source == Source.OPERATOR)[:last])
    assert held[last:].sum() == 0
    for (_, end, stops), (start, *_) in itertools.pairwise(
        zip(found.start, found.end, found.terminated | found.cut, strict=True)
    ):
        assert stops == (end == len(episode) or episode.source[end] != Source.OPERATOR)
        assert stops or start == end
    if len(found.start):
        assert found.terminated[-1] or found.cut[-1]
