import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.history import stack_history
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.learning.transitions import NoSignal, RewardConfig, Transitions, encode_episodes, require_signal
from tests.policies.tiny_policies import EVERYTHING, SPEC, tiny_policy

POLICY = tiny_policy()
OPERATOR, ROWS = 1, 2
HALF = RewardConfig(gamma=0.5)


def make_episode(
    ticks: int,
    outcome: Outcome = Outcome.SUCCESS,
    *,
    terminated: bool | None = None,
    reward: list[float] | None = None,
    source: list[int] | None = None,
    seed: int = 0,
    spec=SPEC,
) -> Episode:
    """The state changes at every tick, the camera and the keypoints at every other one; actions are distinct."""
    generator = np.random.default_rng(seed)
    ended = outcome is Outcome.SUCCESS if terminated is None else terminated
    every, other = np.arange(ticks), np.arange(ticks) // 2
    stamps = np.arange(ticks, dtype=np.int64) * spec.tick_ns
    frames = len(np.unique(other))
    streams = {
        "state": Stream(stamps, generator.uniform(0, 1, (ticks, 3)).astype(np.float32)),
        "keypoint": Stream(stamps[::2], generator.uniform(0, 512, (frames, 4, 2))),
        "camera": Stream(stamps[::2], generator.integers(0, 256, (frames, 12, 20, 3), dtype=np.uint8)),
    }
    applied = generator.uniform([-0.02, -3, 0], [0.01, 3, 1], (ticks, 3)).astype(np.float32)
    return Episode(
        spec=spec,
        header=EpisodeHeader("tiny", "script", "", seed, "2026-01-01T00:00:00+00:00", "0"),
        result=EpisodeResult(outcome, ended, not ended, "done", ticks),
        stamps_ns=stamps,
        streams=streams,
        frame_index={"state": every, "keypoint": other, "camera": other},
        requested=applied + 1,
        applied=applied,
        source=np.array([0] * ticks if source is None else source, np.uint8),
        reward=np.array([0.0] * ticks if reward is None else reward, np.float32),
        filter_reasons=np.zeros(ticks, np.uint32),
    )


def encode(*episodes: Episode, reward: RewardConfig = HALF, policy=POLICY, **options) -> Transitions:
    return encode_episodes(policy, iter(episodes), reward, **options)


def condition_at(episode: Episode, tick: int, policy=POLICY) -> torch.Tensor:
    """What the acting policy would condition on at this tick."""
    history = [episode.observation(each) for each in range(tick + 1)]
    arrays = stack_history(history, policy.spec, policy.observation_count)
    with torch.no_grad():
        return policy.encode({name: torch.from_numpy(array) for name, array in arrays.items()})[0]


def test_a_terminated_episode_is_read_to_its_last_action_and_does_not_bootstrap_there():
    found = encode(make_episode(5))
    assert found.tick.tolist() == [0, 1, 2, 3, 4]
    assert found.valid.sum(1).tolist() == [2, 2, 2, 2, 1]
    assert found.terminated.tolist() == [False, False, False, True, True]
    assert found.reward.tolist() == [0, 0, 0, 0.5, 1]
    assert found.discount.tolist() == [0.25, 0.25, 0.25, 0.25, 0.5]
    assert found.discounted_return.tolist() == [0.5**4]
    assert (found.success.tolist(), found.episode_length.tolist()) == ([True], [5])


def test_a_time_out_bootstraps_from_the_last_observation_and_its_last_action_begins_no_window():
    episode = make_episode(5, Outcome.FAILURE)
    found = encode(episode)
    assert found.tick.tolist() == [0, 1, 2, 3]
    assert found.valid.sum(1).tolist() == [2, 2, 2, 1]
    assert not found.terminated.any()
    assert found.discount.tolist() == [0.25, 0.25, 0.25, 0.5]
    torch.testing.assert_close(found.next_condition[-1], condition_at(episode, 4))
    torch.testing.assert_close(found.next_condition[-2], condition_at(episode, 4))


def test_a_failure_that_ended_the_task_does_not_bootstrap():
    found = encode(make_episode(3, Outcome.FAILURE, terminated=True))
    assert found.terminated.tolist() == [False, True, True]
    assert not found.reward.any()


def test_a_success_cut_off_by_a_time_limit_keeps_its_reward_when_the_outcome_is_rewarded():
    found = encode(make_episode(3, Outcome.SUCCESS, terminated=False))
    assert found.reward.tolist() == [0, 0.5, 1]
    assert found.terminated.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("ticks", "outcome", "rows"),
    [(1, Outcome.SUCCESS, [1]), (2, Outcome.SUCCESS, [2, 1]), (1, Outcome.FAILURE, []), (2, Outcome.FAILURE, [1])],
)
def test_short_episodes_have_the_windows_that_fit(ticks, outcome, rows):
    found = encode(make_episode(ticks, outcome))
    assert found.valid.sum(1).tolist() == rows
    assert len(found.success) == 1


def test_rewards_are_summed_over_valid_rows_only():
    rewards = [1.0, 10.0, 100.0]
    ended = make_episode(3, terminated=True, reward=rewards)
    cut = make_episode(3, Outcome.FAILURE, reward=rewards)
    recorded = RewardConfig(gamma=0.5, source="recorded", scale=2.0)
    assert encode(ended, reward=recorded).reward.tolist() == [12, 120, 200]
    found = encode(cut, reward=recorded)
    assert found.reward.tolist() == [12, 20]
    assert found.discounted_return.tolist() == [2 * (1 + 5 + 25)]


def test_progress_is_the_rise_of_what_the_judge_gives_so_that_lingering_earns_nothing():
    lingering = make_episode(4, Outcome.FAILURE, reward=[0.25, 0.75, 0.75, 0.5])
    config = RewardConfig(gamma=1.0, source="progress", scale=2.0)
    assert config.rewards(lingering).tolist() == [0.0, 1.0, 0.0, -0.5]
    assert encode(lingering, reward=config).discounted_return.tolist() == [0.5]
    reached = make_episode(3, Outcome.SUCCESS, terminated=False, reward=[0.25, 0.75, 1.0])
    assert encode(reached, reward=config).terminated.tolist() == [False, True, True]


def test_windows_never_cross_from_one_episode_into_another():
    one, two = make_episode(4, seed=1), make_episode(3, Outcome.FAILURE, seed=2)
    both, alone = encode(one, two), [encode(one), encode(two)]
    assert both.episode.tolist() == [0, 0, 0, 0, 1, 1]
    assert both.starts.tolist() == [0, 4]
    for name in ("condition", "chunk", "reward", "next_condition", "discounted_return"):
        assert torch.equal(getattr(both, name), torch.cat([getattr(each, name) for each in alone]))


def test_a_window_with_a_row_of_the_operators_is_known_as_such():
    found = encode(make_episode(5, source=[0, 0, OPERATOR, 0, 0]))
    assert found.by_operator.tolist() == [False, True, True, False, False]


def test_the_penalty_lands_on_the_policys_last_tick_before_each_takeover():
    episode = make_episode(6, source=[OPERATOR, 0, OPERATOR, OPERATOR, 0, OPERATOR])
    penalised = RewardConfig(gamma=0.5, intervention_penalty=0.2)
    np.testing.assert_allclose(penalised.rewards(episode), [0, -0.2, 0, 0, -0.2, 1])
    np.testing.assert_allclose(encode(episode, reward=penalised).reward, [-0.1, -0.2, 0, -0.1, 0.3, 1], atol=1e-7)


def test_chunks_are_normalised_and_clipped_and_repeat_their_last_valid_action():
    episode = make_episode(3)
    applied = episode.applied.copy()
    applied[0] = [1.0, -30.0, 0.5]
    episode = dataclasses.replace(episode, applied=applied)
    found = encode(episode)
    torch.testing.assert_close(found.chunk[0, 0], torch.tensor([1.0, -1.0, 0.0]), atol=1e-6, rtol=0)
    wanted = POLICY.normalizer.normalize("action", torch.from_numpy(applied[2]))
    torch.testing.assert_close(found.chunk[2], wanted.expand(ROWS, 3))


def test_a_stride_leaves_out_windows_and_changes_none():
    episodes = [make_episode(7, seed=1), make_episode(8, Outcome.FAILURE, seed=2)]
    every, third = encode(*episodes), encode(*episodes, stride=3)
    assert third.tick.tolist() == [0, 3, 6, 0, 3, 6]
    kept = every.select(every.tick % 3 == 0)
    for field in dataclasses.fields(Transitions):
        torch.testing.assert_close(getattr(third, field.name), getattr(kept, field.name))


@pytest.mark.parametrize("count", [1, 3])
def test_cameras_and_state_are_encoded_as_the_acting_policy_sees_them(count):
    policy = tiny_policy(EVERYTHING, observation_count=count).train()
    episode = make_episode(5)
    found = encode(episode, policy=policy, batch_size=2)
    assert policy.training
    assert not found.condition.requires_grad
    policy.eval()
    for tick in range(5):
        torch.testing.assert_close(found.condition[tick], condition_at(episode, tick, policy), atol=1e-5, rtol=1e-5)


def test_a_generator_of_episodes_is_read_one_by_one():
    alive = 0

    class Counted(Episode):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def episodes():
        nonlocal alive
        for seed in range(6):
            assert alive <= 1
            alive += 1
            each = make_episode(3, seed=seed)
            yield Counted(**{field.name: getattr(each, field.name) for field in dataclasses.fields(Episode)})

    assert len(encode_episodes(POLICY, episodes(), HALF).success) == 6


def test_another_robots_episode_is_refused_by_name():
    other = dataclasses.replace(SPEC, name="huge", control_hz=20.0)
    with pytest.raises(
        SpecMismatch, match=r"policy \(for robot 'tiny'\) does not fit robot 'huge'.*\n.*\n.*control_hz"
    ):
        encode(make_episode(3, spec=other))


def test_data_without_a_difference_is_refused_with_the_remedy():
    good, bad = make_episode(3), make_episode(3, Outcome.FAILURE)
    require_signal(encode(good, bad))
    with pytest.raises(NoSignal, match=r"all 2 episodes succeeded.*record failures"):
        require_signal(encode(good, good))
    with pytest.raises(NoSignal, match=r"all 2 episodes failed.*record successes"):
        require_signal(encode(bad, bad))
    with pytest.raises(NoSignal, match="no segment"):
        require_signal(encode(make_episode(1, Outcome.FAILURE)))
    with pytest.raises(NoSignal, match="no episodes"):
        encode()


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": 0.0}, {"gamma": 1.1}, {"source": "judge"}, {"scale": 0.0}, {"intervention_penalty": -1.0}],
)
def test_a_reward_that_cannot_work_is_refused_by_name(wrong):
    with pytest.raises(RobotRLError, match=f"reward.{next(iter(wrong))} is"):
        encode(make_episode(3), reward=RewardConfig(**wrong))


def test_transitions_of_differently_sized_policies_are_not_joined():
    one, two = encode(make_episode(3)), encode(make_episode(3), policy=tiny_policy(("state",)))
    with pytest.raises(RobotRLError, match="several policies"):
        Transitions.cat([one, two])
    with pytest.raises(RobotRLError, match="at least one"):
        Transitions.cat([])


def reference(episode: Episode, config: RewardConfig, rows: int, stride: int) -> list[tuple]:
    """The same windows tick by tick, as one would explain them."""
    ticks, found = len(episode), []
    rewards = config.rewards(episode)
    end = ticks if config.ends(episode) else ticks - 1
    for tick in range(0, end, stride):
        total, at = 0.0, tick
        while at < end and at - tick < rows:
            total += config.gamma ** (at - tick) * rewards[at]
            at += 1
        last = config.ends(episode) and at == ticks
        operators = any(episode.source[tick:at] == OPERATOR)
        found.append((tick, at - tick, total, config.gamma ** (at - tick), last, operators, min(at, ticks - 1)))
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_windows_agree_with_a_slow_reading_tick_by_tick(data):
    ticks = data.draw(st.integers(1, 12))
    stride, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    policy = POLICY_OF_ROWS[rows]
    episode = make_episode(
        ticks,
        data.draw(st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE])),
        terminated=data.draw(st.booleans()),
        reward=data.draw(st.lists(st.floats(-2, 2), min_size=ticks, max_size=ticks)),
        source=data.draw(st.lists(st.integers(0, 1), min_size=ticks, max_size=ticks)),
    )
    source, gamma = data.draw(st.sampled_from(["outcome", "recorded", "progress"])), data.draw(st.floats(0.1, 1.0))
    config = RewardConfig(gamma, source, intervention_penalty=data.draw(st.sampled_from([0.0, 0.3])))
    found = encode(episode, reward=config, policy=policy, stride=stride, batch_size=data.draw(st.integers(1, 5)))
    wanted = reference(episode, config, rows, stride)
    for name, column in zip(("tick", "rows", "reward", "discount", "terminated", "by_operator"), range(6), strict=True):
        values = found.valid.sum(1) if name == "rows" else getattr(found, name)
        np.testing.assert_allclose(values.numpy(), np.array([row[column] for row in wanted]), atol=1e-5, err_msg=name)
    encodings = [condition_at(episode, row[6], policy) for row in wanted]
    torch.testing.assert_close(found.next_condition, torch.stack(encodings) if wanted else found.condition)


POLICY_OF_ROWS = {rows: tiny_policy(("state",), execute_horizon=rows) for rows in range(1, 5)}
