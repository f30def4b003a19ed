import math

import pytest
import torch
from torch import nn

from robot_rl.core.errors import RobotRLError
from robot_rl.learning.denoising_ppo import (
    DenoisingPpo,
    PpoBatch,
    PpoConfig,
    normalized_advantages,
    step_weights,
    surrogate,
)
from robot_rl.learning.descent import Diverged
from tests.policies.tiny_policies import random_streams, tiny_policy


class Line(nn.Module):
    """A denoiser with one weight: its prediction is that much of what it sees."""

    def __init__(self, weight=0.3):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, noisy, timestep, condition):
        return self.weight * noisy


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exploring(**overrides):
    return tiny_policy(**overrides).with_exploration(5, 0.1, 0.3).eval()


def chains(policy, size=64, seed=0):
    """Conditions and chains the policy itself sampled."""
    generator = seeded(seed)
    with torch.no_grad():
        condition = policy.encode(random_streams(policy, size, generator))
        steps, *chunk = policy.noise_shape
        states = policy.denoise(condition, torch.randn(size, steps + 1, *chunk, generator=generator)).states
    return condition, states


def batch_of(ppo, size=64, seed=0, advantage=None):
    condition, states = chains(ppo.policy, size, seed)
    if advantage is None:
        advantage = torch.randn(size, generator=seeded(seed + 1))
    return PpoBatch(condition, states, ppo.log_prob_of(condition, states), advantage)


@pytest.mark.parametrize("denoiser", ["mlp", "unet"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_ratio_is_one_before_the_first_update(denoiser, reduction):
    policy = tiny_policy(denoiser=denoiser).with_exploration(10, 0.02, 0.1).train()
    ppo = DenoisingPpo(policy, PpoConfig(reduction=reduction), rows=2)
    batch = batch_of(ppo)
    new = ppo.log_prob(batch.condition, batch.states)
    assert ((new - batch.old_log_prob).exp() - 1).abs().max() < 1e-5
    # Batches made up in another way differ by the network's rounding, magnified by 1 / sigma.
    mixed = torch.randperm(64, generator=seeded(5))[:40]
    new = ppo.log_prob(batch.condition[mixed], batch.states[mixed])
    assert ((new - batch.old_log_prob[mixed]).exp() - 1).abs().max() < 1e-4


def test_the_first_gradient_is_the_one_worked_out_by_hand():
    """At ratio 1 it is -mean_b A_b sum_k d/dw log p, with d/dw log p = sum (x' - mean)/sigma^2 dmean/dw."""
    policy = exploring(clean_clip=None, horizon=1, execute_horizon=1)
    policy.denoiser = Line()
    ppo = DenoisingPpo(policy, PpoConfig(reduction="sum"), rows=1)
    condition, states = chains(policy, 8)
    advantage = torch.linspace(-1, 1, 8)
    loss, _ = surrogate(ppo.log_prob(condition, states), ppo.log_prob_of(condition, states), advantage, 0.1)
    loss.backward()

    by_hand = 0.0
    for k, step in enumerate(policy.schedule.steps):
        now, following = states[:, k].double(), states[:, k + 1].double()
        clean = step.clean_from_noisy * now + step.clean_from_prediction * 0.3 * now
        mean = step.mean_from_clean * clean + step.mean_from_noisy * now
        slope = step.mean_from_clean * step.clean_from_prediction * now
        score = ((following - mean) / step.sigma**2 * slope).sum((1, 2))
        by_hand -= float((advantage * score).mean())
    assert float(policy.denoiser.weight.grad) == pytest.approx(by_hand, rel=1e-4)


def test_the_surrogate_clips_as_worked_out_by_hand():
    old = torch.zeros(4, 1)
    new = torch.tensor([[1.5], [0.5], [1.5], [0.5]]).log().requires_grad_()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    loss, metrics = surrogate(new, old, advantage, clip=0.1)
    assert float(loss.detach()) == pytest.approx(-(1.1 + 0.5 - 1.5 - 0.9) / 4)
    loss.backward()
    # A gain beyond the clip pulls no further; a loss beyond it still pushes back.
    assert new.grad[:, 0].tolist() == pytest.approx([0.0, -0.5 / 4, 1.5 / 4, 0.0])
    assert float(metrics["clip_fraction"]) == 1.0
    kl = [r - 1 - math.log(r) for r in (1.5, 0.5, 1.5, 0.5)]
    assert float(metrics["kl"]) == pytest.approx(sum(kl) / 4)


def test_the_steps_are_summed_and_weighted_towards_the_clean_end():
    new = torch.zeros(2, 3)
    advantage = torch.tensor([1.0, 2.0])
    assert float(surrogate(new, new, advantage, 0.1)[0]) == pytest.approx(-3 * 1.5)
    weights = step_weights(3, 0.5, torch.device("cpu"))
    assert weights.tolist() == [0.25, 0.5, 1.0]
    assert float(surrogate(new, new, advantage, 0.1, weights)[0]) == pytest.approx(-1.75 * 1.5)


def test_a_ratio_too_large_for_float32_leaves_the_loss_finite():
    loss, metrics = surrogate(torch.full((1, 1), 500.0), torch.zeros(1, 1), torch.tensor([-1.0]), 0.1)
    assert torch.isfinite(loss)
    assert torch.isfinite(metrics["kl"])


def test_advantages_are_normalised_per_batch_and_clipped():
    outlier = torch.cat([torch.zeros(99), torch.ones(1)])
    assert float(normalized_advantages(outlier, PpoConfig()).max()) == 3.0
    plain = normalized_advantages(torch.tensor([5.0, 7.0]), PpoConfig())
    assert plain.tolist() == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize("flat", [torch.full((8,), 0.7), torch.full((8,), 0.7) + 1e-7 * torch.arange(8), torch.ones(1)])
def test_a_batch_without_spread_teaches_nothing(flat):
    assert normalized_advantages(flat, PpoConfig()) is None
    policy = exploring()
    ppo = DenoisingPpo(policy, PpoConfig(), rows=2)
    before = policy.fingerprint()
    assert ppo.step(batch_of(ppo, len(flat), advantage=flat))["skipped"] == 1.0
    assert policy.fingerprint() == before


def test_an_advantage_that_is_no_number_is_refused():
    with pytest.raises(Diverged, match="critic or value network"):
        normalized_advantages(torch.tensor([0.0, float("nan")]), PpoConfig())


def test_a_gradient_that_is_no_number_changes_no_weight():
    policy = exploring()
    ppo = DenoisingPpo(policy, PpoConfig(), rows=2)
    batch = batch_of(ppo)
    batch.states[0, 2] = float("inf")
    before = policy.fingerprint()
    with pytest.raises(Diverged, match="gradient norm"):
        ppo.step(batch)
    assert policy.fingerprint() == before


def test_good_chains_become_more_likely_and_bad_ones_less():
    ppo = DenoisingPpo(exploring(), PpoConfig(learning_rate=1e-3, kl_limit=None), rows=2)
    advantage = torch.cat([torch.ones(32), -torch.ones(32)])
    batch = batch_of(ppo, advantage=advantage)
    for _ in range(5):
        ppo.step(batch)
    change = (ppo.log_prob_of(batch.condition, batch.states) - batch.old_log_prob).sum(1)
    assert float(change[:32].mean()) > 0 > float(change[32:].mean())


def test_updates_stop_at_the_kl_limit():
    config = PpoConfig(learning_rate=1e-2, epochs=50, batch_size=64, kl_limit=0.01, clip=0.2)
    policy = exploring()
    ppo = DenoisingPpo(policy, config, rows=2)
    batch = batch_of(ppo)
    metrics = ppo.update(batch, seeded())
    assert metrics["stopped"] == 1.0
    assert 1 <= metrics["steps"] < 50
    after = policy.fingerprint()
    assert ppo.step(batch)["stopped"] == 1.0
    assert policy.fingerprint() == after


def test_the_encoder_is_bit_identical_after_updates():
    policy = tiny_policy(state_features=5).with_exploration(5, 0.1, 0.3).train()
    ppo = DenoisingPpo(policy, PpoConfig(learning_rate=1e-2, epochs=3, kl_limit=None), rows=2)
    assert not policy.training
    denoiser = {name: value.clone() for name, value in policy.denoiser.state_dict().items()}
    encoder = {name: value.clone() for name, value in policy.encoder.state_dict().items()}
    ppo.update(batch_of(ppo), seeded())
    assert all(torch.equal(value, encoder[name]) for name, value in policy.encoder.state_dict().items())
    assert any(not torch.equal(value, denoiser[name]) for name, value in policy.denoiser.state_dict().items())


def test_an_update_taken_up_again_equals_an_uninterrupted_one():
    config = PpoConfig(learning_rate=1e-3)
    whole, halves = exploring(), exploring()
    first, second = DenoisingPpo(whole, config, rows=2), DenoisingPpo(halves, config, rows=2)
    batch = batch_of(first)
    for ppo in (first, second):
        ppo.update(batch, seeded(1))
    state = second.state()
    resumed = DenoisingPpo(halves, config, rows=2)
    resumed.load_state(state)
    first.update(batch, seeded(2))
    resumed.update(batch, seeded(2))
    assert whole.fingerprint() == halves.fingerprint()


def test_a_bandit_learns_the_better_action():
    policy = exploring(horizon=1, execute_horizon=1, gain=1.0)
    ppo = DenoisingPpo(policy, PpoConfig(learning_rate=2e-3, clip=0.2, epochs=4, batch_size=256), rows=1)

    def reward(states):
        return -(states[:, -1, 0] - torch.tensor([0.6, -0.4, 0.0])).square().sum(-1)

    before = None
    for round_number in range(15):
        condition, states = chains(policy, 256, seed=round_number)
        before = reward(states).mean() if before is None else before
        batch = PpoBatch(condition, states, ppo.log_prob_of(condition, states), reward(states))
        ppo.update(batch, seeded(round_number))
    after = reward(chains(policy, 256, seed=99)[1]).mean()
    assert float(after) > 0.6 * float(before)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("clip", 0.0), ("reduction", "average"), ("denoising_discount", 0.0), ("learning_rate", -1.0)],
)
def test_a_setting_that_cannot_work_is_named(setting, value):
    with pytest.raises(RobotRLError, match=f"ppo.{setting}"):
        DenoisingPpo(exploring(), PpoConfig(**{setting: value}), rows=2)
