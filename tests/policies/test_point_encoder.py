import numpy as np
import pytest
import torch

from policies.diffusion_config import DiffusionPolicyConfig, InvalidPolicyConfig, PointConfig
from policies.export import export_bundle
from policies.normalizer import MissingStatistics
from policies.point_encoder import PointEncoder
from tests.policies.cloud_policies import SPEC, STATISTICS, cloud_policy
from tests.policies.tiny_policies import random_batch


def cloud(seed=0, size=2, points=20, columns=3):
    return torch.randn(size, points, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return PointEncoder(3, PointConfig(widths=(8, 16), features=5))


def test_the_order_of_points_does_not_matter(encoder):
    points = cloud()
    shuffled = points[:, torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(encoder(points), encoder(shuffled))


def test_repeating_points_does_not_matter(encoder):
    points = cloud(points=7)
    assert torch.equal(encoder(points), encoder(points[:, torch.arange(20) % 7]))


def test_where_the_points_are_does_matter(encoder):
    assert not torch.allclose(encoder(cloud(0)), encoder(cloud(1)))


def test_it_reaches_every_weight(encoder):
    encoder(cloud(size=16, points=64)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in encoder.parameters())


def test_the_default_network_is_that_of_3d_diffusion_policy():
    """Three layers of 64, 128, 256 features, each with its LayerNorm, and a projection to 64."""
    sizes = [(3 + 1) * 64 + 2 * 64, (64 + 1) * 128 + 2 * 128, (128 + 1) * 256 + 2 * 256, (256 + 1) * 64]
    assert sum(weight.numel() for weight in PointEncoder(3, PointConfig()).parameters()) == sum(sizes)


def test_a_policy_does_not_see_the_order_of_points_but_that_of_observations():
    policy = cloud_policy().eval()
    batch = random_batch(policy)
    seen = {name: batch[f"obs/{name}"] for name in policy.config.streams}
    shuffled = {**seen, "points": seen["points"].flip(2)}
    swapped = {**seen, "points": seen["points"].flip(1)}
    assert policy.encoder.output_size == 2 * 3 + 2 * 5
    assert torch.equal(policy.encode(seen), policy.encode(shuffled))
    assert not torch.allclose(policy.encode(seen), policy.encode(swapped))


def test_every_point_is_scaled_alike_and_colours_from_0_to_1():
    policy = cloud_policy()
    corner = torch.tensor(np.concatenate([STATISTICS["points"]["max"][:3], [1.0, 0.0, 0.5]]), dtype=torch.float32)
    scaled = policy.normalizer.normalize("points", corner.expand(1, 2, 9, 6))
    expected = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, 0.0]).expand(1, 2, 9, 6)
    torch.testing.assert_close(scaled, expected)


def test_statistics_per_point_are_refused():
    policy = cloud_policy()
    wrong = {"min": np.zeros((9, 6)), "max": np.ones((9, 6))}
    with pytest.raises(MissingStatistics, match=r"'points' have shapes \(9, 6\).*wanted \(6,\)"):
        policy.set_statistics({**STATISTICS, "points": wrong})


def test_an_exported_policy_with_points_computes_the_same(tmp_path):
    """`export_bundle` compares the graph's answers with torch's and refuses to write another."""
    bundle = export_bundle(cloud_policy(sampling_steps=2), tmp_path / "bundle", provenance={})
    assert bundle.spec == SPEC.select(("state", "points"))


def test_widths_that_are_none_are_refused_by_name():
    for widths in ((), (8, 0)):
        config = DiffusionPolicyConfig(streams=("points",), points=PointConfig(widths=widths))
        with pytest.raises(InvalidPolicyConfig, match=r"policy\.points\.widths"):
            config.validate()
