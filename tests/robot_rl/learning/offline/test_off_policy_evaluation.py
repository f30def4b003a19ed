import itertools
import math

import pytest
import torch

from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Diverged
from robot_rl.learning.offline.off_policy_evaluation import (
    BadPropensities,
    FittedQConfig,
    doubly_robust,
    fitted_q_evaluation,
    fitted_q_gain,
    sample_chunks,
)
from robot_rl.learning.transitions import Transitions
from tests.robot_rl.point_task import ROWS, PointPolicy, point_transitions

GAMMA, TARGET = 0.9, 0.7
"""Discount of one decision; probability with which the judged policy takes action 1. The behaviour tosses a coin."""
SMALL = FittedQConfig(
    steps=300, batch_size=128, width=32, blocks=1, learning_rate=5e-3, target_rate=0.05, next_chunks=1, start_chunks=2
)


def table(rows) -> Transitions:
    """One-row chunks (the second action element rests) from (episode, tick, condition, action, reward, next, end)."""
    columns = list(zip(*rows, strict=True))
    condition, action, following = (torch.tensor(columns[at], dtype=torch.float32) for at in (2, 3, 5))
    episodes = max(columns[0]) + 1
    return Transitions(
        condition=condition[:, None],
        chunk=torch.stack([action, torch.zeros_like(action)], dim=1)[:, None],
        valid=torch.ones(len(rows), 1, dtype=torch.bool),
        reward=torch.tensor(columns[4], dtype=torch.float32),
        discount=torch.full((len(rows),), GAMMA),
        next_condition=following[:, None],
        terminated=torch.tensor(columns[6]),
        episode=torch.tensor(columns[0]),
        tick=torch.tensor(columns[1]),
        by_operator=torch.zeros(len(rows), dtype=torch.bool),
        success=torch.zeros(episodes, dtype=torch.bool),
        discounted_return=torch.zeros(episodes),
        episode_length=torch.full((episodes,), 2),
    )


def reward(first: int, second: int | None = None) -> float:
    return float(first) if second is None else 2.0 * second + first


def every_episode_once() -> Transitions:
    """Two decisions with two actions each: the coin's four episodes, each as likely as the others."""
    rows = []
    for episode, (first, second) in enumerate(itertools.product((0, 1), repeat=2)):
        rows.append((episode, 0, 0.0, first, reward(first), 1.0 + first, False))
        rows.append((episode, 1, 1.0 + first, second, reward(first, second), 9.0, True))
    return table(rows)


TRUTH = TARGET + GAMMA * (2.0 * TARGET + TARGET)
"""Value of the judged policy: E[first] + GAMMA E[2 second + first]."""


def log_ratio(transitions: Transitions) -> torch.Tensor:
    return torch.where(transitions.chunk[:, 0, 0] == 1, TARGET / 0.5, (1 - TARGET) / 0.5).log()


def true_q(transitions: Transitions) -> tuple[torch.Tensor, torch.Tensor]:
    """Q of each decision and V of its condition."""
    action, condition = transitions.chunk[:, 0, 0], transitions.condition[:, 0]
    at_start = condition == 0
    first = condition - 1
    q = torch.where(at_start, action + GAMMA * (2 * TARGET + action), 2 * action + first)
    v = torch.where(at_start, TARGET + GAMMA * 3 * TARGET, 2 * TARGET + first)
    return q, v


def test_with_the_true_q_every_single_episode_gives_the_true_value():
    transitions = every_episode_once()
    q, v = true_q(transitions)
    answer = doubly_robust(transitions, log_ratio(transitions), q, v, torch.zeros_like(q))
    torch.testing.assert_close(answer.per_episode, torch.full((4,), TRUTH, dtype=torch.float64), atol=1e-5, rtol=0)
    assert answer.standard_error < 1e-5


@pytest.mark.parametrize("wrong", [0.0, 3.0])
def test_with_true_propensities_any_q_gives_the_true_value_on_average(wrong):
    transitions = every_episode_once()
    q = torch.full_like(transitions.reward, wrong)
    answer = doubly_robust(transitions, log_ratio(transitions), q, q, torch.zeros_like(q))
    assert answer.estimate == pytest.approx(TRUTH, abs=1e-5)
    assert answer.clipped == 0.0


def test_a_true_q_leaves_less_variance_than_importance_sampling_alone():
    transitions = every_episode_once()
    q, v = true_q(transitions)
    zero = torch.zeros_like(q)
    near = doubly_robust(transitions, log_ratio(transitions), q + 0.1, v + 0.1, zero)
    alone = doubly_robust(transitions, log_ratio(transitions), zero, zero, zero)
    assert near.standard_error < 0.2 * alone.standard_error


def test_the_effective_sample_size_is_that_of_the_episodes_weights():
    transitions = every_episode_once()
    zero = torch.zeros_like(transitions.reward)
    weights = torch.tensor([0.6 * 0.6, 0.6 * 1.4, 1.4 * 0.6, 1.4 * 1.4])
    answer = doubly_robust(transitions, log_ratio(transitions), zero, zero, zero)
    assert answer.effective_sample_size == pytest.approx(float(weights.sum() ** 2 / weights.square().sum()))
    assert doubly_robust(transitions, zero, zero, zero, zero).effective_sample_size == pytest.approx(4.0)


def test_an_importance_ratio_is_clipped_and_said_to_be():
    transitions = every_episode_once()
    zero = torch.zeros_like(transitions.reward)
    huge = torch.where(transitions.chunk[:, 0, 0] == 1, 50.0, 0.0)
    answer = doubly_robust(transitions, huge, zero, zero, zero, clip=2.0)
    assert answer.clipped == pytest.approx(0.5)
    assert float(answer.per_episode.max()) == pytest.approx(2 * (1 + GAMMA * 2 * 3))


def test_an_episode_that_was_cut_off_goes_on_with_its_value():
    transitions = table([(0, 0, 0.0, 1, 1.0, 2.0, False)])
    zero = torch.zeros(1)
    answer = doubly_robust(transitions, zero, zero, zero, torch.tensor([10.0]))
    assert answer.estimate == pytest.approx(1.0 + GAMMA * 10.0)


def test_windows_that_overlap_are_no_decisions():
    transitions = point_transitions(4)
    zero = torch.zeros(len(transitions))
    with pytest.raises(BadPropensities, match="without overlap"):
        doubly_robust(transitions, zero, zero, zero, zero)


def test_propensities_that_are_no_numbers_are_refused():
    transitions = every_episode_once()
    zero = torch.zeros_like(transitions.reward)
    with pytest.raises(BadPropensities, match="log_ratio has shape"):
        doubly_robust(transitions, zero + math.nan, zero, zero, zero)


class ConstantPolicy(PointPolicy):
    """Says the same action always, on any condition."""

    def denoise(self, condition, noise):
        chain = super().denoise(torch.ones(len(condition), 2), noise)
        states = chain.states.clone()
        states[:, -1, :, 0], states[:, -1, :, 1] = self.pull, 0.0
        return chain._replace(states=states)


def gambles(count: int = 400) -> Transitions:
    """Start at 0, go on to 1, and earn there what one's action is."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for episode in range(count):
        first, second = (2 * torch.rand(2, generator=generator) - 1).tolist()
        rows += [(episode, 0, 0.0, first, 0.0, 1.0, False), (episode, 1, 1.0, second, second, 9.0, True)]
    return table(rows)


@pytest.mark.parametrize("action", [0.6, -0.4])
def test_fitted_q_finds_the_discounted_reward_of_the_policys_own_actions(action):
    answer = fitted_q_evaluation(ConstantPolicy(action), gambles(), SMALL)
    assert answer.estimate == pytest.approx(GAMMA * action, abs=0.06)


def test_fitted_q_gain_has_the_sign_and_size_of_the_truth():
    reference = fitted_q_evaluation(ConstantPolicy(0.2), gambles(), SMALL)
    better = fitted_q_evaluation(ConstantPolicy(0.6), gambles(), SMALL, warm_start=reference.network)
    gain = fitted_q_gain(reference, better)
    assert gain.mean == pytest.approx(GAMMA * 0.4, abs=0.08)
    assert 0 < gain.lower_bound <= gain.mean


def test_fitted_q_prefers_the_policy_that_walks_to_the_goal():
    transitions = point_transitions(30)
    reference = fitted_q_evaluation(PointPolicy(-0.5), transitions, SMALL)
    towards = fitted_q_evaluation(PointPolicy(0.8), transitions, SMALL, warm_start=reference.network)
    assert fitted_q_gain(reference, towards).lower_bound > 0


def test_a_warm_start_is_left_as_it_was():
    transitions = gambles(50)
    first = fitted_q_evaluation(ConstantPolicy(0.2), transitions, SMALL)
    before = {name: value.clone() for name, value in first.network.state_dict().items()}
    fitted_q_evaluation(ConstantPolicy(0.9), transitions, SMALL, warm_start=first.network)
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_same_seed_gives_the_same_estimate():
    transitions = gambles(50)
    first, again = (fitted_q_evaluation(ConstantPolicy(0.2), transitions, SMALL) for _ in range(2))
    assert torch.equal(first.at_starts, again.at_starts)


def test_two_policies_are_asked_with_the_same_noise():
    condition = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
    weak, strong = (sample_chunks(PointPolicy(pull, noise=0.01), condition, 3, 0, ROWS) for pull in (0.1, 0.5))
    assert weak.shape == (9, 3, ROWS, 2)
    direction = -condition / condition.norm(dim=1, keepdim=True)
    torch.testing.assert_close(strong - weak, (0.4 * direction)[:, None, None].expand_as(weak))


def test_a_policy_of_nan_is_an_error():
    with pytest.raises(Diverged):
        fitted_q_evaluation(ConstantPolicy(math.nan), gambles(20), SMALL)


def test_transitions_without_a_start_are_refused():
    transitions = gambles(5)
    with pytest.raises(RobotRLError, match="tick 0"):
        fitted_q_evaluation(ConstantPolicy(0.1), transitions.select(transitions.tick > 0), SMALL)
