import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Outcome, Source, Step
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.collected import CollectedEpisode, MemorySink, SampledChunk
from robot_rl.learning.online.advantages import PolicySegments, gae, policy_segments
from robot_rl.learning.segments import segment
from robot_rl.learning.transitions import RewardConfig
from tests.policies.tiny_policies import SPEC, random_observation, tiny_policy

GAMMA = 0.9
TICK_NS = SPEC.tick_ns


def episode_of(source, *, outcome=Outcome.FAILURE, terminated=False, reward=None, seed=0):
    """An episode driven as a string says: p for the policy, o for the operator."""
    sink = MemorySink()
    sink.begin(SPEC, EpisodeHeader("task", "somebody", "", seed, "2026-01-01T00:00:00Z", "0"))
    for tick, who in enumerate(source):
        action = np.full(3, 0.01 * tick, np.float32)
        earned = 0.0 if reward is None else reward[tick]
        driver = Source.OPERATOR if who == "o" else Source.POLICY
        observation = random_observation(SPEC, 100 * seed + tick, tick * TICK_NS)
        sink.append(Step(observation, action, action, driver, earned))
    sink.end(EpisodeResult(outcome, terminated, not terminated, "", len(source)))
    return sink.take()


def collected_of(source, ticks, **options):
    policy = exploring()
    steps, *chunk = policy.noise_shape
    states = [np.full((steps + 1, *chunk), tick, np.float32) for tick in ticks]
    decisions = tuple(SampledChunk(tick, chain) for tick, chain in zip(ticks, states, strict=True))
    return CollectedEpisode(episode_of(source, **options), decisions)


@functools.cache
def exploring():
    return tiny_policy().with_exploration(3, 0.05, 0.1)


def recorded(**options):
    return RewardConfig(gamma=GAMMA, source="recorded", **options)


def cut(source, ticks, ends=False):
    found = segment(episode_of(source).source, ticks, ends, driver=Source.POLICY)
    return {name: values.tolist() for name, values in found._asdict().items()}


def test_advantages_equal_those_worked_out_by_hand():
    reward = torch.tensor([1.0, 2.0, 3.0, 4.0])
    discount = torch.tensor([0.9, 0.81, 0.9, 0.9])
    value = torch.tensor([0.5, 1.0, 1.5, 2.0])
    next_value = torch.tensor([1.0, 7.0, 2.0, 9.0])
    cut = torch.tensor([False, True, False, False])
    terminated = torch.tensor([False, False, False, True])
    lam = 0.5
    last = 4.0 - 2.0
    third = 3.0 + 0.9 * 2.0 - 1.5 + 0.9 * lam * last
    second = 2.0 + 0.81 * 7.0 - 1.0
    first = 1.0 + 0.9 * 1.0 - 0.5 + 0.9 * lam * second
    found = gae(reward, discount, value, next_value, terminated, cut, lam)
    assert found.tolist() == pytest.approx([first, second, third, last])


def test_without_lambda_advantages_are_one_step_errors_and_with_it_the_whole_return():
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.rand(2, 6, generator=generator)
    discount = torch.full((6,), GAMMA)
    cut, terminated = torch.zeros(6, dtype=torch.bool), torch.arange(6) == 5
    next_value = torch.cat([value[1:], torch.tensor([123.0])])
    one_step = gae(reward, discount, value, next_value, terminated, cut, 0.0)
    following = torch.cat([value[1:], torch.zeros(1)])
    torch.testing.assert_close(one_step, reward + discount * following - value)
    whole = gae(reward, discount, value, next_value, terminated, cut, 1.0)
    returns = [float((GAMMA ** torch.arange(6 - t) * reward[t:]).sum()) for t in range(6)]
    torch.testing.assert_close(whole, torch.tensor(returns) - value)


def test_a_last_decision_that_ends_nothing_is_refused():
    one, no = torch.ones(1), torch.zeros(1, dtype=torch.bool)
    with pytest.raises(RobotRLError, match="mark it as cut"):
        gae(one, one, one, one, no, no, 0.95)


def test_a_terminated_episode_ends_with_its_last_action():
    assert cut("ppppp", [0, 2, 4], ends=True) == {
        "kept": [0, 1, 2],
        "start": [0, 2, 4],
        "end": [2, 4, 5],
        "terminated": [False, False, True],
        "cut": [False, False, False],
        "taken_over": [False, False, False],
    }


def test_a_truncated_episode_bootstraps_at_its_last_observation():
    found = cut("pppppp", [0, 2, 4])
    assert found["end"] == [2, 4, 5]
    assert found["cut"] == [False, False, True]
    assert not any(found["terminated"])


def test_a_decision_at_a_truncated_episodes_last_tick_has_no_consequence():
    found = cut("ppppp", [0, 2, 4])
    assert found["kept"] == [0, 1]
    assert found["end"] == [2, 4]
    assert found["cut"] == [False, True]


def test_a_takeover_in_the_middle_of_a_chunk_ends_the_segment_there():
    found = cut("pppooopppp", [0, 2, 6, 8], ends=True)
    assert found["end"] == [2, 3, 8, 10]
    assert found["cut"] == [False, True, False, False]
    assert found["taken_over"] == [False, True, False, False]
    assert found["terminated"] == [False, False, False, True]


def test_two_takeovers_make_three_segments():
    found = cut("ppooppoppp", [0, 4, 7, 9], ends=False)
    assert found["kept"] == [0, 1, 2]
    assert found["end"] == [2, 6, 9]
    assert found["cut"] == [True, True, True]
    assert found["taken_over"] == [True, True, False]


def test_a_takeover_at_the_first_tick_leaves_only_what_comes_after():
    found = cut("ooppp", [0, 2, 4], ends=True)
    assert found["start"] == [2, 4]
    assert found["terminated"] == [False, True]


def test_an_episode_that_ends_in_the_operators_hands_bootstraps_at_the_takeover():
    found = cut("ppppoo", [0, 2], ends=True)
    assert found["end"] == [2, 4]
    assert found["cut"] == [False, True]
    assert found["terminated"] == [False, False]


@pytest.mark.parametrize("ticks", [[2, 1], [1, 1], [0, 9], [-1, 2]])
def test_decisions_out_of_order_or_out_of_the_episode_are_refused(ticks):
    with pytest.raises(RobotRLError, match="wanted ascending"):
        cut("ppppp", ticks)


def test_what_a_decision_earned_is_discounted_tick_by_tick():
    rewards = [1.0, 2.0, 4.0, 8.0, 16.0]
    collected = collected_of("ppppp", [0, 2, 3], reward=rewards, terminated=True)
    found = policy_segments(exploring(), [collected], recorded())
    assert found.reward.tolist() == pytest.approx([1 + 2 * GAMMA, 4, 8 + 16 * GAMMA])
    assert found.discount.tolist() == pytest.approx([GAMMA**2, GAMMA, GAMMA**2])
    assert found.states[:, 0, 0, 0].tolist() == [0, 2, 3]


def test_a_segment_sees_the_encoding_of_its_own_ticks_and_of_the_takeover():
    policy = exploring().eval()
    collected = collected_of("pppoop", [0, 2, 5], terminated=True)
    found = policy_segments(policy, [collected], recorded())
    episode = collected.episode

    def encoded(tick):
        both = [episode.observation(max(tick - 1, 0)), episode.observation(tick)]
        values = {name: np.stack([each.values[name] for each in both])[None] for name in policy.config.streams}
        return policy.encode({name: torch.from_numpy(array) for name, array in values.items()})[0]

    with torch.no_grad():
        torch.testing.assert_close(found.condition, torch.stack([encoded(0), encoded(2), encoded(5)]))
        torch.testing.assert_close(found.next_condition[:2], torch.stack([encoded(2), encoded(3)]))


def test_the_operators_rewards_are_not_the_policys():
    collected = collected_of("pppooo", [0, 2], reward=[0, 0, 0, 5, 5, 5], terminated=True)
    assert policy_segments(exploring(), [collected], recorded()).reward.tolist() == [0, 0]


def test_the_penalty_lands_on_the_decision_that_was_taken_over():
    collected = collected_of("ppppoopp", [0, 2, 6], terminated=True)
    found = policy_segments(exploring(), [collected], recorded(intervention_penalty=0.5))
    assert found.reward.tolist() == pytest.approx([0, -0.5 * GAMMA, 0])
    assert found.taken_over.tolist() == [False, True, False]


def test_success_is_rewarded_at_the_last_tick_and_never_bootstrapped():
    collected = collected_of("ppppp", [0, 4], outcome=Outcome.SUCCESS, terminated=True)
    found = policy_segments(exploring(), [collected], RewardConfig(gamma=GAMMA))
    assert found.reward.tolist() == [0, 1]
    assert found.terminated.tolist() == [False, True]


def test_aborted_episodes_say_nothing():
    aborted = collected_of("pppp", [0, 2], outcome=Outcome.ABORTED)
    with pytest.raises(RobotRLError, match="no decision of the policy"):
        policy_segments(exploring(), [aborted], recorded())
    whole = policy_segments(exploring(), [aborted, collected_of("pppp", [0, 2])], recorded())
    assert len(whole) == 2


def advantages(segments, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(segments.condition.shape[1], generator=generator)
    value, following = segments.condition @ weights, segments.next_condition @ weights
    return gae(segments.reward, segments.discount, value, following, segments.terminated, segments.cut, 0.95)


drivers = st.text(alphabet="po", min_size=2, max_size=14)


@st.composite
def episodes(draw):
    source = draw(drivers)
    ticks = sorted(draw(st.sets(st.integers(0, len(source) - 1), max_size=6)))
    reward = draw(st.lists(st.floats(-2, 2, width=32), min_size=len(source), max_size=len(source)))
    seed = draw(st.integers(0, 5))
    return collected_of(source, ticks, reward=reward, terminated=draw(st.booleans()), seed=seed)


@settings(max_examples=30, deadline=None)
@given(st.lists(episodes(), min_size=1, max_size=3))
def test_an_episodes_advantages_do_not_depend_on_its_neighbours(collected):
    policy = exploring()
    alone = []
    for each in collected:
        try:
            alone.append(policy_segments(policy, [each], recorded()))
        except RobotRLError:
            continue
    if not alone:
        return
    together = policy_segments(policy, collected, recorded())
    torch.testing.assert_close(advantages(together), torch.cat([advantages(each) for each in alone]))
    joined = PolicySegments.cat(alone)
    torch.testing.assert_close(advantages(joined), advantages(together))
    assert len(joined.episode.unique()) == len(alone)


@settings(max_examples=100, deadline=None)
@given(episodes(), st.booleans())
def test_segments_never_overlap_and_hold_no_tick_of_the_operators(collected, ends):
    episode = collected.episode
    found = segment(episode.source, [each.tick for each in collected.decisions], ends, driver=Source.POLICY)
    for start, end in zip(found.start, found.end, strict=True):
        assert start < end
        assert (episode.source[start:end] == Source.POLICY).all()
    for (_, end), (start, _) in itertools.pairwise(zip(found.start, found.end, strict=True)):
        assert end <= start
    assert not (found.terminated & found.cut).any()
    if len(found.start):
        assert found.terminated[-1] or found.cut[-1]


def test_the_policys_mode_is_left_as_it_was():
    policy = tiny_policy().with_exploration(3, 0.05, 0.1).train()
    policy_segments(policy, [collected_of("pppp", [0, 2])], recorded())
    assert policy.training


def test_an_episode_of_another_robot_is_refused():
    collected = collected_of("pppp", [0, 2])
    other = dataclasses.replace(collected.episode, spec=dataclasses.replace(SPEC, name="other"))
    with pytest.raises(RobotRLError, match="other"):
        policy_segments(exploring(), [dataclasses.replace(collected, episode=other)], recorded())
