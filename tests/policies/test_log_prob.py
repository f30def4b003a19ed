import math

import pytest
import torch
from torch.distributions import Normal

from policies.diffusion_config import InvalidPolicyConfig
from robot_rl.core.errors import RobotRLError
from tests.policies.tiny_policies import random_streams, tiny_policy

KINDS = [
    {},
    {"prediction": "sample"},
    {"denoiser": "unet"},
    {"denoiser": "unet", "prediction": "sample", "timestep_spacing": "trailing"},
    {"horizon": 1, "execute_horizon": 1},
    {"clean_clip": None, "prediction": "sample"},
]


def exploring(size=6, steps=5, sigma_min=0.05, sigma_max=0.3, **kind):
    """A policy, encodings, and chains of it whose transitions are all noisy."""
    policy = tiny_policy(**kind).eval().with_exploration(steps, sigma_min, sigma_max)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        condition = policy.encode(random_streams(policy, size, generator))
        noise = torch.randn(size, steps + 1, *policy.noise_shape[1:], generator=generator)
        return policy, condition, policy.denoise(condition, noise).states


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_each_step_is_that_of_the_kernel_it_was_sampled_from(kind):
    policy, condition, states = exploring(**kind)
    found = policy.log_prob(condition, states)
    assert found.shape == (6, 5)
    for step in range(5):
        prediction = policy.predict(states[:, step], step, condition)
        mean, sigma = policy.schedule.kernel(states[:, step], prediction, step)
        wanted = Normal(mean, sigma).log_prob(states[:, step + 1]).sum(dim=(1, 2))
        torch.testing.assert_close(found[:, step], wanted, rtol=1e-4, atol=1e-4)


def test_a_point_at_the_mean_has_the_density_of_the_gaussians_peak_and_one_sigma_away_half_a_nat_less():
    policy, condition, states = exploring(clean_clip=None, prediction="sample")
    with torch.no_grad():
        prediction = policy.predict(states[:, 2], 2, condition)
        mean, sigma = policy.schedule.kernel(states[:, 2], prediction, 2)
    peak = -math.log(float(sigma) * math.sqrt(2 * math.pi))
    states[:, 3] = mean
    assert policy.log_prob(condition, states, reduction="mean")[:, 2].tolist() == pytest.approx([peak] * 6, abs=1e-4)
    assert policy.log_prob(condition, states)[:, 2].tolist() == pytest.approx([12 * peak] * 6, abs=1e-3)
    states[:, 3] = mean + sigma
    away = policy.log_prob(condition, states, reduction="mean")[:, 2]
    assert away.tolist() == pytest.approx([peak - 0.5] * 6, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_ratio_of_an_unchanged_copy_is_one_and_has_a_gradient(kind, reduction):
    policy, condition, states = exploring(sigma_min=0.02, sigma_max=0.1, **kind)
    old = policy.with_exploration(5, 0.02, 0.1)
    with torch.no_grad():
        # Other company in the batch, as after a shuffle: rounding may differ, no more.
        before = torch.cat([old.log_prob(condition[rows], states[rows], reduction=reduction) for rows in ([0, 1], [2])])
    after = policy.log_prob(condition, states, reduction=reduction)
    with torch.no_grad():
        assert torch.equal((after - old.log_prob(condition, states, reduction=reduction)).exp(), torch.ones(6, 5))
    # The error of a float32 mean over sigma, times a deviation, summed over the elements.
    assert (after[:3] - before).exp().sub(1).abs().max() < (3e-4 if reduction == "sum" else 3e-5)
    after.mean().backward()
    assert all(weight.grad is not None for weight in policy.denoiser.parameters())
    assert sum(float(weight.grad.abs().sum()) for weight in policy.denoiser.parameters()) > 0


def test_sampling_many_times_shows_the_mean_and_spread_that_the_density_has():
    policy, condition, states = exploring(size=1)
    with torch.no_grad():
        start = states[:, :1].expand(4000, 1, -1, -1)
        noise = torch.randn(4000, 6, 4, 3, generator=torch.Generator().manual_seed(2))
        noise[:, :1] = start
        chains = policy.denoise(condition.expand(4000, -1), noise).states
        mean, sigma = policy.schedule.kernel(states[:, 0], policy.predict(states[:, 0], 0, condition), 0)
        density = policy.log_prob(condition.expand(4000, -1), chains, reduction="mean")[:, 0]
    torch.testing.assert_close(chains[:, 1].mean(0), mean[0], rtol=0, atol=5 * float(sigma) / 4000**0.5)
    assert chains[:, 1].std(0).mean().item() == pytest.approx(float(sigma), rel=0.02)
    entropy = 0.5 * math.log(2 * math.pi * math.e * float(sigma) ** 2)
    assert density.mean().item() == pytest.approx(-entropy, abs=0.02)


def test_rows_that_are_not_executed_do_not_count():
    policy, condition, states = exploring()
    before = policy.log_prob(condition, states, rows=2)
    states[:, -1, 2:] += 1.0
    assert torch.equal(policy.log_prob(condition, states, rows=2)[:, -1], before[:, -1])
    assert not torch.equal(policy.log_prob(condition, states, rows=3)[:, -1], before[:, -1])
    torch.testing.assert_close(
        policy.log_prob(condition, states, rows=2, reduction="mean") * 6, policy.log_prob(condition, states, rows=2)
    )


def test_sigma_is_bounded_before_the_mean_is_formed():
    loose = tiny_policy().with_exploration(5, 1e-6, 10.0).schedule
    tight = tiny_policy().with_exploration(5, 0.05, 0.1).schedule
    assert tight.table[:, -1].min().item() == pytest.approx(0.05)
    assert tight.table[:, -1].max().item() == pytest.approx(0.1)
    assert loose.steps[0].sigma > 0.1
    # Less noise is added, so more of the noise at hand is kept: variance is preserved, up to the bound from below.
    assert tight.steps[0].mean_from_noisy > loose.steps[0].mean_from_noisy


def test_an_exploring_copy_keeps_the_weights_and_leaves_the_original_alone():
    policy = tiny_policy(eta=0.0)
    copy = policy.with_exploration(4, 0.02, 0.1)
    assert copy.noise_shape == (4, 4, 3)
    assert (copy.config.eta, copy.config.sigma_min, copy.config.sigma_max) == (1.0, 0.02, 0.1)
    assert copy.fingerprint() == policy.fingerprint()
    assert (policy.config.eta, policy.config.sampling_steps) == (0.0, 10)
    assert type(copy.config).from_json(copy.config.to_json()) == copy.config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.02, 0.1), "sampling_steps is 0"),
        ((5, 0.0, 0.1), "sigma_min is 0.0, wanted more than 0"),
        ((5, 0.2, 0.1), r"sigma_min is 0.2, wanted 0.0 to 0.1"),
    ],
)
def test_exploration_that_cannot_work_is_refused(arguments, message):
    with pytest.raises(InvalidPolicyConfig, match=message):
        tiny_policy().with_exploration(*arguments)


def test_a_step_without_noise_has_no_density_and_the_setting_to_raise_is_named():
    policy = tiny_policy().eval()
    with pytest.raises(RobotRLError, match=r"step 9 of 10 has sigma 0 .* raise policy\.sigma_min above 0"):
        policy.log_prob(torch.zeros(2, policy.encoder.output_size), torch.zeros(2, 11, 4, 3))


@pytest.mark.parametrize(
    ("shape", "rows", "message"),
    [
        ((6, 5, 4, 3), None, r"states have shape \(6, 5, 4, 3\), wanted \(B, 6, 4, 3\)"),
        ((6, 6, 4, 3), 0, "rows is 0, wanted 1 to the horizon 4"),
        ((6, 6, 4, 3), 5, "rows is 5, wanted 1 to the horizon 4"),
    ],
)
def test_a_chain_of_the_wrong_shape_is_refused(shape, rows, message):
    policy, condition, _ = exploring()
    with pytest.raises(RobotRLError, match=message):
        policy.log_prob(condition, torch.zeros(shape), rows=rows)
