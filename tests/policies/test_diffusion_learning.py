"""Small tasks that a policy must be able to learn: the loss and the sampler fit each other."""

import pytest
import torch

from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig, UnetConfig
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from tests.policies.tiny_policies import EVERYTHING, random_batch, tiny_policy


def train(policy, batch_of, steps, learning_rate):
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=learning_rate)
    losses = []
    for step in range(steps):
        loss, _ = policy.loss(batch_of(step), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("streams", "denoiser", "prediction"),
    [(EVERYTHING, "mlp", "sample"), (EVERYTHING, "unet", "epsilon")],
)
def test_a_batch_can_be_learnt_by_heart(streams, denoiser, prediction):
    policy = tiny_policy(
        streams,
        gain=1.0,
        denoiser=denoiser,
        prediction=prediction,
        mlp=MlpConfig(width=96, blocks=1, time_features=16),
        unet=UnetConfig(widths=(32, 64), kernel_size=3, groups=4, time_features=16),
    )
    batch = random_batch(policy, size=8)
    batch["action"][..., 2] = batch["action"][..., 2].round()
    repeated = {key: values.repeat_interleave(8, dim=0) for key, values in batch.items()}
    losses = train(policy, lambda _: repeated, steps=400, learning_rate=3e-3)
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])

    policy.eval()
    observations = {name: batch[f"obs/{name}"] for name in policy.config.streams}
    noise = torch.randn(8, *policy.noise_shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        sampled = policy.normalizer.normalize("action", policy.sample(observations, noise))
    wanted = policy.normalizer.normalize("action", batch["action"])
    assert (sampled - wanted).abs().mean() < 0.15


def bimodal_policy(prediction, eta):
    """One observed number `x` in [-1, 1]; the action is -1 or 1 at even odds, times (2 + x) / 3."""
    scalar = ArraySpec((1,), "float32", "1")
    spec = RobotSpec("coin", {"state": scalar}, scalar, (ActionKind.POSITION,), 10.0)
    torch.manual_seed(0)
    config = DiffusionPolicyConfig(
        streams=("state",),
        observation_count=1,
        horizon=1,
        execute_horizon=1,
        mlp=MlpConfig(width=64, blocks=1, time_features=16),
        prediction=prediction,
        eta=eta,
    )
    policy = DiffusionPolicy(spec, config)
    policy.set_statistics({"state": {"min": [-1.0], "max": [1.0]}, "action": {"min": [-1.0], "max": [1.0]}})
    return policy


@pytest.mark.parametrize(("prediction", "eta"), [("epsilon", 1.0), ("epsilon", 0.0), ("sample", 1.0)])
def test_both_modes_of_a_bimodal_action_are_sampled_and_nothing_between(prediction, eta):
    policy = bimodal_policy(prediction, eta)
    generator = torch.Generator().manual_seed(3)

    def batch_of(_):
        state = 2 * torch.rand(512, 1, 1, generator=generator) - 1
        side = torch.where(torch.rand(512, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
        valid = torch.ones(512, 1, dtype=torch.bool)
        return {"obs/state": state, "action": side * (2 + state) / 3, "valid": valid}

    train(policy, batch_of, steps=600, learning_rate=3e-3)
    policy.eval()
    state = torch.linspace(-1, 1, 1000).reshape(1000, 1, 1)
    noise = torch.randn(1000, *policy.noise_shape, generator=generator)
    with torch.inference_mode():
        sampled = policy.sample({"state": state}, noise)
    magnitude = (2 + state) / 3
    right = ((sampled - magnitude).abs() < 0.15).float().mean().item()
    left = ((sampled + magnitude).abs() < 0.15).float().mean().item()
    assert 0.4 < right < 0.6
    assert 0.4 < left < 0.6
    assert left + right > 0.95
