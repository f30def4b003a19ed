import dataclasses
import json
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from policies.auxiliary import chamfer_distance, divergence_from_prior, draw
from policies.diffusion import DiffusionPolicy
from policies.diffusion_config import AuxiliaryConfig, DiffusionPolicyConfig, InvalidPolicyConfig
from policies.export import export_bundle
from tests.policies.cloud_policies import BOTH, EVERYTHING, SPEC, cloud_config, cloud_policy
from tests.policies.tiny_policies import random_batch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def seen_by(policy, batch):
    return {name: batch[f"obs/{name}"] for name in policy.config.streams}


def test_chamfer_distance_by_hand():
    """From 0 the nearest is 1 (1), from 5 it is 2 (9): mean 5; from 1 it is 0 (1), from 2 it is 0 (4): mean 2.5."""
    one = torch.tensor([[[0.0, 0, 0], [5.0, 0, 0]]])
    other = torch.tensor([[[1.0, 0, 0], [2.0, 0, 0]]])
    torch.testing.assert_close(chamfer_distance(one, other), torch.tensor([7.5]))


def test_chamfer_distance_knows_no_order_and_is_nothing_between_equal_clouds():
    points = torch.randn(2, 12, 3, generator=seeded())
    assert torch.equal(chamfer_distance(points, points.flip(1)), torch.zeros(2))


def test_divergence_agrees_with_an_analytic_gaussian():
    mean, log_variance = torch.randn(4, 3, generator=seeded(1)), torch.randn(4, 3, generator=seeded(2))
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(divergence_from_prior(mean, log_variance), expected)


def test_samples_have_the_mean_and_the_variance_they_should():
    mean, log_variance = torch.full((20_000, 1), 3.0), torch.full((20_000, 1), math.log(0.25))
    drawn = draw(mean, log_variance, seeded())
    assert abs(drawn.mean().item() - 3.0) < 0.02
    assert abs(drawn.std().item() - 0.5) < 0.02


def test_without_weights_the_network_and_its_loss_are_what_they_were():
    """Decoders and bottleneck come after everything else, so that a seed still gives the same first weights."""
    off, on = cloud_policy(EVERYTHING), cloud_policy(EVERYTHING, auxiliary=dataclasses.replace(BOTH, bottleneck=0.0))
    assert off.auxiliary is None
    ours = {name: value for name, value in on.state_dict().items() if not name.startswith("auxiliary.")}
    assert ours.keys() == off.state_dict().keys()
    assert all(torch.equal(ours[name], value) for name, value in off.state_dict().items())


def test_a_config_written_before_there_were_points_is_read():
    document = cloud_config(("state",)).to_json()
    del document["points"], document["auxiliary"]
    config = DiffusionPolicyConfig.from_json(json.loads(json.dumps(document)))
    policy = DiffusionPolicy(SPEC, config)
    assert policy.auxiliary is None
    assert not any(name.startswith(("auxiliary", "encoder")) for name in policy.state_dict())


def test_acting_uses_the_mean_and_only_training_samples():
    policy = cloud_policy(EVERYTHING, auxiliary=BOTH)
    seen = seen_by(policy, random_batch(policy))
    plain = cloud_policy(EVERYTHING)
    plain.load_state_dict(policy.state_dict(), strict=False)
    mean = policy.eval().encode(seen)
    assert torch.equal(mean, plain.eval().encode(seen))
    assert torch.equal(mean, policy.train().encode(seen)), "without a generator nothing is drawn"
    sampled = policy.encode(seen, seeded(1))
    assert torch.equal(sampled, policy.encode(seen, seeded(1)))
    state = slice(0, 6)
    assert torch.equal(sampled[:, state], mean[:, state]), "the state is handed on as it is"
    points = slice(-10, None)
    assert not torch.allclose(sampled[:, points], mean[:, points])
    assert torch.equal(policy.eval().encode(seen, seeded(1))[:, points], mean[:, points])


def test_the_loss_is_imitation_plus_the_weighted_parts():
    policy = cloud_policy(EVERYTHING, auxiliary=BOTH, state_features=7).eval()
    loss, metrics = policy.loss(random_batch(policy), seeded())
    expected = metrics["loss"] + 0.5 * metrics["reconstruction"] + 0.01 * metrics["bottleneck"]
    torch.testing.assert_close(loss.detach(), expected)
    assert metrics["reconstruction"] > 0
    assert metrics["bottleneck"] > 0


def test_every_weight_is_trained():
    policy = cloud_policy(EVERYTHING, auxiliary=BOTH, state_features=7).train()
    policy.loss(random_batch(policy, size=32), seeded())[0].backward()
    idle = [name for name, weight in policy.named_parameters() if weight.grad is None]
    assert not idle


@pytest.mark.parametrize("streams", [("points",), ("camera",), ("state", "points")])
def test_reconstruction_learns_to_draw_what_was_seen(streams):
    auxiliary = AuxiliaryConfig(reconstruction=1.0, image_size=(8, 8), points=9, width=32)
    state_features = 6 if "state" in streams else 0
    policy = cloud_policy(streams, auxiliary=auxiliary, state_features=state_features).eval()
    seen = seen_by(policy, random_batch(policy, size=4))
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    errors = []
    for _ in range(150):
        error, _ = policy.auxiliary(policy._encoding(seen, None))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]


def test_a_strong_bottleneck_takes_the_encoding_to_the_prior():
    policy = cloud_policy(auxiliary=AuxiliaryConfig(bottleneck=10.0)).train()
    batch = random_batch(policy)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    divergences = []
    for step in range(150):
        loss, metrics = policy.loss(batch, seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        divergences.append(metrics["bottleneck"].item())
    assert divergences[-1] < 0.1 * divergences[0]


def test_an_exported_policy_acts_on_the_mean(tmp_path):
    """The graph holds neither decoders nor noise: `export_bundle` compares it with torch."""
    export_bundle(cloud_policy(EVERYTHING, auxiliary=BOTH, sampling_steps=2), tmp_path / "bundle", provenance={})


def test_weights_without_an_encoder_to_act_on_are_refused():
    with pytest.raises(InvalidPolicyConfig, match="no such stream is named: set its weights to 0"):
        DiffusionPolicy(SPEC, cloud_config(("state",), auxiliary=BOTH))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reconstruction": -1.0}, "auxiliary.reconstruction is -1.0"),
        ({"bottleneck": float("nan")}, "auxiliary.bottleneck is nan"),
        ({"image_size": (0, 4)}, "auxiliary.image_size height is 0"),
        ({"points": 0}, "auxiliary.points is 0"),
    ],
)
def test_weights_and_sizes_that_cannot_be_are_named(change, message):
    config = cloud_config(auxiliary=AuxiliaryConfig(**change))
    with pytest.raises(InvalidPolicyConfig, match=message):
        config.validate()
