"""Off-policy baselines on a one-step task: reach the point that the state names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.learning.baselines.chunk_actor import ActorPolicy, GaussianActor
from robot_rl.learning.baselines.off_policy_critic import (
    CriticLearner,
    EnsembleConfig,
    drawn_half_and_half,
)
from robot_rl.learning.baselines.residual import ResidualConfig, ResidualLearner
from robot_rl.learning.baselines.rlpd import RlpdConfig, RlpdLearner
from robot_rl.learning.descent import Diverged
from robot_rl.learning.transitions import Transitions

ROWS, ACTION = 2, 1
SPEC = RobotSpec(
    name="reach",
    observations={"state": ArraySpec((1,), "float32", "m")},
    action=ArraySpec((ACTION,), "float32", "m", low=-1.0, high=1.0),
    action_kinds=(ActionKind.POSITION,),
    control_hz=10.0,
)
SMALL = EnsembleConfig(members=3, width=64, learning_rate=3e-3, target_rate=0.05)


def episodes_of_one_step(condition: torch.Tensor, chunk: torch.Tensor) -> Transitions:
    """Reward 1 minus the squared distance of every row to the state."""
    count = len(condition)
    reward = 1.0 - (chunk[..., 0] - condition).square().mean(dim=1)
    return Transitions(
        condition=condition,
        chunk=chunk,
        valid=torch.ones(count, ROWS, dtype=torch.bool),
        reward=reward,
        discount=torch.full((count,), 0.98),
        next_condition=condition,
        terminated=torch.ones(count, dtype=torch.bool),
        episode=torch.arange(count),
        tick=torch.zeros(count, dtype=torch.int64),
        by_operator=torch.zeros(count, dtype=torch.bool),
        success=reward > 0.9,
        discounted_return=reward,
        episode_length=torch.full((count,), ROWS),
    )


def random_data(count: int, seed: int, spread: float = 1.0) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    condition = torch.rand(count, 1, generator=generator) * 1.6 - 0.8
    chunk = (torch.rand(count, ROWS, ACTION, generator=generator) * 2 - 1) * spread
    return episodes_of_one_step(condition, chunk)


def still_policy() -> DiffusionPolicy:
    """Denoises to chunks that know nothing of the state."""
    torch.manual_seed(0)
    config = DiffusionPolicyConfig(
        streams=("state",), observation_count=1, horizon=2, execute_horizon=2, mlp=MlpConfig(16, 1), sampling_steps=2,
        eta=0.0,
    )  # fmt: skip
    policy = DiffusionPolicy(SPEC, config)
    unit = {"min": np.array([-1.0]), "max": np.array([1.0])}
    policy.set_statistics({"state": unit, "action": unit})
    with torch.no_grad():
        policy.denoiser.leave[-1].weight.zero_()
        policy.denoiser.leave[-1].bias.zero_()
    return policy.eval().requires_grad_(False)


def mean_reward(chunk: torch.Tensor, condition: torch.Tensor) -> float:
    return float(episodes_of_one_step(condition, chunk).reward.mean())


TEST_STATES = torch.linspace(-0.8, 0.8, 33)[:, None]


def test_rlpd_learns_from_demonstrations_and_its_own_episodes_what_neither_shows():
    learner = RlpdLearner(random_data(200, 0), RlpdConfig(actor_learning_rate=3e-3, width=64, critic=SMALL))
    online = random_data(200, 1)
    for step in range(250):
        metrics = learner.update(online, step)
    chunk = learner.actor_function(explore=False)(TEST_STATES, torch.Generator().manual_seed(0))
    assert mean_reward(chunk, TEST_STATES) > 0.95 > float(online.reward.mean())
    assert np.isfinite(metrics["critic_loss"])


def test_a_residual_begins_at_its_base_and_learns_to_correct_it():
    base, data = still_policy(), random_data(400, 0, spread=0.5)
    config = ResidualConfig(
        scale=0.5, learning_rate=3e-3, width=64, critic_warmup=50, noise=0.2, critic=SMALL, batch_size=128
    )
    learner = ResidualLearner(base, data, config)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(TEST_STATES), *base.noise_shape, generator=torch.Generator().manual_seed(0))
    before = learner.actor_function(explore=False)(TEST_STATES, generator)
    torch.testing.assert_close(before, base.denoise(TEST_STATES, noise).states[:, -1].clamp(-1, 1))
    weights = base.state_dict()["denoiser.enter.weight"].clone()
    for step in range(250):
        learner.update(data.select(torch.arange(0)), step)
    after = learner.actor_function(explore=False)(TEST_STATES, torch.Generator().manual_seed(0))
    assert mean_reward(after, TEST_STATES) > mean_reward(before, TEST_STATES) + 0.1
    assert float((after - before).abs().max()) <= config.scale + 1e-6
    assert torch.equal(weights, base.state_dict()["denoiser.enter.weight"])


@pytest.mark.parametrize("kind", ["rlpd", "residual"])
def test_a_learner_that_takes_back_its_state_goes_on_as_if_never_stopped(kind: str):
    data = random_data(50, 0)

    def fresh() -> RlpdLearner | ResidualLearner:
        if kind == "rlpd":
            return RlpdLearner(data, RlpdConfig(width=16, batch_size=32, critic=SMALL))
        return ResidualLearner(
            still_policy(), data, ResidualConfig(width=16, batch_size=32, critic_warmup=2, critic=SMALL)
        )

    straight, first = fresh(), fresh()
    for step in range(8):
        straight.update(data, step)
        if step < 4:
            first.update(data, step)
    second = fresh()
    second.load_state(first.state())
    for step in range(4, 8):
        second.update(data, step)
    for name, tensor in straight.actor.state_dict().items():
        assert torch.equal(tensor, second.actor.state_dict()[name]), name


def test_the_squashed_gaussian_has_the_density_of_its_samples():
    """One dimension, by change of variables: p(tanh x) = N(x) / (1 - tanh(x)^2)."""
    actor = GaussianActor(1, 1, 1, width=8, blocks=1)
    torch.nn.init.normal_(actor.leave.weight, generator=torch.Generator().manual_seed(1))
    condition = torch.linspace(-1, 1, 50)[:, None]
    sample = actor(condition, torch.Generator().manual_seed(2))
    raw = torch.atanh(sample.chunk.double()).flatten()
    mean, spread = actor.leave(actor.hidden(actor.standardizer(condition))).double().unbind(1)
    sigma = (-5.0 + 3.0 * (torch.tanh(spread) + 1.0)).exp()
    by_hand = torch.distributions.Normal(mean, sigma).log_prob(raw) - torch.log1p(-torch.tanh(raw).square())
    torch.testing.assert_close(sample.log_prob.double(), by_hand, atol=1e-3, rtol=1e-3)


def test_half_of_a_batch_is_demonstrations_however_few_they_are():
    few, many = random_data(3, 0), random_data(1000, 1)
    batch = drawn_half_and_half(many, few, 64, torch.Generator().manual_seed(0))
    assert torch.isin(batch.condition[32:], few.condition).all()
    assert torch.isin(batch.condition[:32], many.condition).all()
    none = many.select(torch.arange(0))
    assert len(drawn_half_and_half(none, few, 64, torch.Generator().manual_seed(0))) == 64
    with pytest.raises(RobotRLError, match="no transitions to learn from"):
        drawn_half_and_half(none, none, 64, torch.Generator())


def test_nothing_is_bootstrapped_where_an_episode_terminated():
    data = random_data(200, 0)
    critic = CriticLearner(data, SMALL, seed=0)
    for _ in range(150):
        critic.update(data, torch.full((len(data),), 1e6))
    error = critic.mean_q(data.condition, data.chunk).detach() - data.reward
    assert float(error.abs().mean()) < 0.2


def test_a_critic_that_diverges_says_so():
    data = random_data(20, 0)
    critic = CriticLearner(data, SMALL, seed=0)
    data.terminated[:] = False
    with pytest.raises(Diverged, match="loss is nan"):
        critic.update(data, torch.full((20,), torch.nan))


def test_an_actor_policy_acts_in_robot_units_and_alike_after_the_same_reset():
    learner = RlpdLearner(random_data(20, 0), RlpdConfig(width=16, critic=SMALL))
    policy = ActorPolicy(still_policy(), learner.actor_function(explore=True), learner.actor.state_dict())
    history = [Observation(10, {"state": np.array([0.3], np.float32)}, {"state": 0})]
    policy.reset(5)
    first = policy.act(history)
    policy.reset(5)
    np.testing.assert_array_equal(first.values, policy.act(history).values)
    assert first.values.shape == (ROWS, ACTION)
    assert first.start_ns == 10
    other = ActorPolicy(still_policy(), learner.actor_function(explore=True), RlpdLearner(
        random_data(20, 0), RlpdConfig(width=16, critic=SMALL, seed=9)).actor.state_dict())  # fmt: skip
    assert other.fingerprint != policy.fingerprint
