import pytest
import torch

from policies.diffusion_config import InvalidPolicyConfig
from policies.export import export_bundle
from policies.flow import FlowSchedule
from policies.onnx_policy import OnnxPolicy
from tests.policies.test_consistency import tiny_flow
from tests.policies.tiny_policies import random_batch, random_streams


def conditions(policy, size, seed=0):
    return policy.encode(random_streams(policy, size, torch.Generator().manual_seed(seed)))


def test_a_step_without_noise_is_eulers():
    policy = tiny_flow(sampling_steps=4, clean_clip=None).eval()
    condition = conditions(policy, 3)
    states, predictions = policy.denoise(condition, torch.randn(3, 4, 4, 3, generator=torch.Generator().manual_seed(1)))
    for step in range(4):
        torch.testing.assert_close(states[:, step + 1], states[:, step] + predictions[:, step] / 4)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_towards_a_single_point_the_path_is_straight_and_ends_there(steps):
    schedule = FlowSchedule(tiny_flow(sampling_steps=steps).config)
    noise, clean = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.full((1, 2, 2), 0.5)
    state = noise
    for step in range(steps):
        time = step / steps
        torch.testing.assert_close(state, (1 - time) * noise + time * clean)
        state = schedule.kernel(state, clean - noise, step).mean
    torch.testing.assert_close(state, clean)


def test_injected_noise_lies_within_its_bounds_and_keeps_the_noise_level():
    policy = tiny_flow(sampling_steps=5).with_exploration(5, 0.05, 0.2)
    assert all(0.05 <= step.sigma <= 0.2 for step in policy.schedule.steps)
    for number, step in enumerate(policy.schedule.steps[:-1]):
        now, following = 1 - number / 5, 1 - (number + 1) / 5
        assert (step.mean_from_noisy * now) ** 2 + step.sigma**2 == pytest.approx(following**2)


def test_the_ratio_of_an_unchanged_copy_is_one():
    policy = tiny_flow().eval().with_exploration(5, 0.02, 0.1)
    with torch.no_grad():
        condition = conditions(policy, 6)
        states = policy.denoise(condition, torch.randn(6, 6, 4, 3, generator=torch.Generator().manual_seed(1))).states
        old = policy.with_exploration(5, 0.02, 0.1).log_prob(condition, states)
        assert torch.equal(policy.log_prob(condition, states), old)


def test_the_network_learns_the_velocity_and_samples_both_modes():
    policy = tiny_flow(horizon=1, execute_horizon=1, streams=("state",), sampling_steps=10).train()
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    batch = random_batch(policy, 256)
    losses = []
    for _ in range(400):
        side = torch.where(torch.rand(256, 1, 1, generator=generator) < 0.5, -0.6, 0.6)
        batch["action"] = policy.normalizer.unnormalize("action", side.expand(256, 1, 3))
        loss, _ = policy.loss(batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    policy.eval()
    with torch.no_grad():
        chunks = policy.denoise(conditions(policy, 300), torch.randn(300, 10, 1, 3, generator=generator)).states[:, -1]
    distance = (chunks[:, 0, 0].abs() - 0.6).abs()
    assert sum(losses[-50:]) < 0.8 * sum(losses[:50])
    assert distance.median() < 0.15
    assert 0.25 < (chunks[:, 0, 0] > 0).float().mean() < 0.75


def test_a_flow_policy_exports(tmp_path):
    policy = tiny_flow(sampling_steps=3).eval()
    export_bundle(policy, tmp_path / "bundle", provenance={})
    assert OnnxPolicy(tmp_path / "bundle").bundle.noise_shape == (3, 4, 3)


def test_a_flow_predicts_velocities_only():
    with pytest.raises(InvalidPolicyConfig, match=r"policy\.prediction is 'epsilon', wanted one of velocity"):
        tiny_flow(prediction="epsilon")
