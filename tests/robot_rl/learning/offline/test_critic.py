import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Diverged
from robot_rl.learning.offline import critic as critic_module
from robot_rl.learning.offline.critic import (
    BadTransitions,
    CriticConfig,
    IqlCritic,
    Range,
    critic_losses,
    expectile_loss,
    held_out_mask,
    rank_correlation,
    return_range,
    train_critic,
)
from robot_rl.learning.transitions import Transitions

GAMMA = 0.9
ROWS = 2
RIGHT, LEFT = 0.5, -0.5
SMALL = CriticConfig(steps=400, batch_size=256, learning_rate=3e-3, width=16, target_rate=0.1, held_out_fraction=0.0)


def one_hot(state: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(state), 3).float()


def transitions(rows: list[tuple], success: list[bool], length: int = 4) -> Transitions:
    """Rows of (state, action, reward, next state, terminated, valid rows, episode, tick)."""
    state, action, reward, following, terminated, count, episode, tick = zip(*rows, strict=True)
    valid = torch.arange(ROWS) < torch.tensor(count)[:, None]
    return Transitions(
        condition=torch.stack([one_hot(each) for each in state]),
        chunk=torch.tensor(action)[:, None, None].expand(len(rows), ROWS, 1),
        valid=valid,
        reward=torch.tensor(reward),
        discount=GAMMA ** valid.sum(1).float(),
        next_condition=torch.stack([one_hot(each) for each in following]),
        terminated=torch.tensor(terminated),
        episode=torch.tensor(episode),
        tick=torch.tensor(tick),
        by_operator=torch.zeros(len(rows), dtype=torch.bool),
        success=torch.tensor(success),
        discounted_return=torch.tensor([float(each) for each in success]),
        episode_length=torch.full((len(success),), length),
    )


def chain() -> Transitions:
    """Going right from 0 by way of 1 ends in a reward of 1; left from 1 ends in nothing; state 2 is stayed in.

    A whole chunk leads from 0 to 1, a single valid row ends episodes 0 and 1 in 1; staying in 2 is rewarded by 0.1 per
    chunk and cut off, never terminated.
    """
    return transitions(
        [
            (0, RIGHT, 0.0, 1, False, 2, 0, 0),
            (1, RIGHT, 1.0, 1, True, 1, 0, 2),
            (0, RIGHT, 0.0, 1, False, 2, 1, 0),
            (1, LEFT, 0.0, 1, True, 1, 1, 2),
            (2, RIGHT, 0.1, 2, False, 2, 2, 0),
        ],
        success=[True, False, False],
    )


def test_the_expectile_loss_weighs_overestimates_less():
    difference = torch.tensor([2.0, -1.0])
    assert expectile_loss(difference, 0.7).item() == pytest.approx((0.7 * 4 + 0.3 * 1) / 2)
    assert expectile_loss(difference, 0.5).item() == pytest.approx(0.5 * 2.5)


def test_the_losses_agree_with_equations_5_and_6_by_hand():
    data = chain()
    torch.manual_seed(0)
    critic = IqlCritic(3, ROWS, 1, SMALL)
    for weight in critic.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    slow = copy.deepcopy(critic.twins)
    for weight in slow.parameters():
        weight.data.mul_(0.9)
    q_loss, v_loss = 0.0, 0.0
    for row in range(len(data)):
        one = data.select(torch.tensor([row]))
        goal = float(one.reward)
        if not one.terminated:
            goal += GAMMA ** int(one.valid.sum()) * critic.v(one.next_condition).item()
        q_loss += sum((each - goal) ** 2 for each in critic.q(one.condition, one.chunk)[:, 0].tolist()) / len(data)
        gap = min(slow(one.condition, one.chunk)[:, 0].tolist()) - critic.v(one.condition).item()
        v_loss += (0.3 if gap < 0 else 0.7) * gap**2 / len(data)
    losses = critic_losses(critic, slow, data, 0.7)
    assert losses.q.item() == pytest.approx(q_loss, rel=1e-4)
    assert losses.v.item() == pytest.approx(v_loss, rel=1e-4)


def test_on_a_chain_the_critics_converge_to_the_known_values():
    """V(1) is the 0.7 expectile of 0 and 1, which is 0.7; V(0) is gamma^2 of it; V(2) is 0.1 / (1 - gamma^2)."""
    critic, report = train_critic(chain(), SMALL)
    states = torch.eye(3)
    wanted = [GAMMA**2 * 0.7, 0.7, 0.1 / (1 - GAMMA**2)]
    np.testing.assert_allclose(critic.v(states), wanted, atol=0.03)
    right, left = (torch.full((3, ROWS, 1), each) for each in (RIGHT, LEFT))
    np.testing.assert_allclose(critic.min_q(states, right), [wanted[0], 1.0, wanted[2]], atol=0.03)
    assert critic.advantage(states, right)[1] > 0.2
    assert critic.advantage(states, left)[1] < -0.5
    assert critic.min_q(states, left)[1].abs() < 0.03
    assert critic.q(states, right).shape == (2, 3)
    assert report.problem is None


def test_a_time_out_is_worth_what_follows_and_a_termination_is_not():
    staying = [(2, RIGHT, 0.1, 2, False, 2, 0, 0), (1, RIGHT, 0.1, 1, True, 2, 1, 0)]
    critic, _ = train_critic(transitions(staying, [False, False]), SMALL)
    np.testing.assert_allclose(critic.v(torch.eye(3)[1:]), [0.1, 0.1 / (1 - GAMMA**2)], atol=0.02)


def noisy(episodes: int, seed: int = 0) -> Transitions:
    """Episodes of one terminal window; those that begin in state 1 always succeed, those in 0 never."""
    states = np.random.default_rng(seed).integers(0, 2, episodes)
    rows = [(int(each), RIGHT, float(each), int(each), True, 2, number, 0) for number, each in enumerate(states)]
    return transitions(rows, [bool(each) for each in states])


def test_held_out_starts_that_succeed_rank_higher_when_the_state_tells():
    config = dataclasses.replace(SMALL, steps=100, held_out_fraction=0.25)
    _, report = train_critic(noisy(40), config)
    assert report.rank_correlation > 0.8
    assert 9 <= report.held_out_episodes <= 11
    assert report.share_in_range == 1.0
    assert report.start_value == pytest.approx(report.start_return, abs=0.1)
    document = json.loads(json.dumps(report.to_json()))
    assert document["return_range"] == [0.0, 1.0]


def test_without_held_out_episodes_there_is_no_rank_correlation():
    _, report = train_critic(noisy(10), dataclasses.replace(SMALL, steps=5))
    assert (report.rank_correlation, report.held_out_episodes) == (None, 0)
    assert (report.start_value, report.start_return) == (None, None)


def test_held_out_episodes_are_not_learnt_from():
    data = noisy(20)
    config = dataclasses.replace(SMALL, steps=50, held_out_fraction=0.3)
    held_out = held_out_mask(data.success, 0.3, config.seed)
    changed = dataclasses.replace(data, reward=torch.where(held_out[data.episode], 7.0, data.reward))
    one, two = train_critic(data, config)[0], train_critic(changed, config)[0]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(("successes", "failures", "kept"), [(20, 10, (4, 2)), (2, 8, (1, 2)), (1, 5, (0, 1))])
def test_both_outcomes_are_held_out_alike_and_one_of_each_is_left_to_learn_from(successes, failures, kept):
    success = torch.tensor([True] * successes + [False] * failures)
    mask = held_out_mask(success, 0.2, seed=3)
    assert (int(mask[success].sum()), int(mask[~success].sum())) == kept
    assert not held_out_mask(success, 0.0, seed=3).any()


def test_the_learning_rate_falls_to_nothing():
    config = CriticConfig(steps=100, learning_rate=1.0)
    rates = [config.learning_rate_at(step) for step in (0, 50, 99)]
    assert rates == [1.0, pytest.approx(0.5), pytest.approx(0.0, abs=1e-3)]


def test_the_same_seed_gives_bit_identical_critics_whatever_torch_was_seeded_with():
    config = dataclasses.replace(SMALL, steps=30)
    torch.manual_seed(1)
    one, report = train_critic(chain(), config)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    two, other = train_critic(chain(), config)
    assert torch.equal(before, torch.random.get_rng_state())
    assert report == other
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    three, _ = train_critic(chain(), dataclasses.replace(config, seed=1))
    assert not torch.equal(one.v(torch.eye(3)), three.v(torch.eye(3)))


def test_a_critic_read_back_from_its_state_says_the_same():
    critic, _ = train_critic(chain(), dataclasses.replace(SMALL, steps=20))
    other = IqlCritic(3, ROWS, 1, SMALL)
    other.load_state_dict(critic.state_dict())
    data = chain()
    assert torch.equal(other.advantage(data.condition, data.chunk), critic.advantage(data.condition, data.chunk))


@pytest.mark.parametrize("name", ["condition", "chunk", "reward", "next_condition"])
def test_transitions_with_nan_are_refused_naming_the_episode(name):
    data = chain()
    values = getattr(data, name).clone()
    values[3] = torch.nan
    with pytest.raises(BadTransitions, match=f"episode 1 at tick 2: {name} holds NaN"):
        train_critic(dataclasses.replace(data, **{name: values}), SMALL)


def test_no_transitions_at_all_are_refused():
    with pytest.raises(BadTransitions, match="no transitions to train a critic on"):
        train_critic(chain().select(torch.zeros(5, dtype=torch.bool)), SMALL)


def test_a_loss_that_is_no_number_stops_training():
    with pytest.raises(Diverged, match=r"step \d+.*learning_rate"):
        train_critic(chain(), dataclasses.replace(SMALL, steps=100, learning_rate=1e30, gradient_clip=None))


def test_values_out_of_the_possible_returns_are_reported_in_words(monkeypatch):
    optimise = critic_module._optimise

    def overshoot(critic, *arguments):
        losses = optimise(critic, *arguments)
        critic.value.network.leave.bias.data.add_(50.0)
        return losses

    monkeypatch.setattr(critic_module, "_optimise", overshoot)
    _, report = train_critic(chain(), dataclasses.replace(SMALL, steps=5))
    assert report.problem.startswith("only 66.7% of the critics' values lie near the possible returns, 0 to 1")
    assert report.v_range.low > 49


def test_the_possible_returns_follow_from_the_rewards():
    assert return_range(chain()) == Range(0.0, pytest.approx(1.0))
    forever = transitions([(2, RIGHT, 0.5, 2, False, 2, 0, 0), (1, LEFT, -1.0, 1, True, 1, 1, 0)], [True, False])
    assert return_range(forever) == Range(-1.0, pytest.approx(0.5 / (1 - GAMMA**2), rel=1e-5))
    undiscounted = dataclasses.replace(forever, discount=torch.ones(2))
    assert return_range(undiscounted) == Range(-1.0, pytest.approx(0.5 * 4 / 2))


def test_rank_correlation_shares_ranks_among_ties():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(0.9486833)
    assert rank_correlation([0.1, 0.9, 0.5], [False, True, True]) == pytest.approx(0.8660254)
    assert rank_correlation([3, 2, 1], [1, 2, 3]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [True, True, True]) is None
    assert rank_correlation([], []) is None


@pytest.mark.parametrize(
    "wrong", [{"expectile": 1.0}, {"steps": 0}, {"target_rate": 0.0}, {"held_out_fraction": 1.0}, {"width": 0}]
)
def test_a_setting_that_cannot_work_is_refused_by_name(wrong):
    with pytest.raises(RobotRLError, match=f"critic.{next(iter(wrong))} is"):
        train_critic(chain(), dataclasses.replace(SMALL, **wrong))


def test_progress_is_told_while_training():
    told = []
    train_critic(
        chain(), dataclasses.replace(SMALL, steps=110), progress=lambda step, losses: told.append((step, losses))
    )
    assert [step for step, _ in told] == [100, 110]
    assert told[0][1].keys() == {"q", "v"}
