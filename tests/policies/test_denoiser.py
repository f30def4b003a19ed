import pytest
import torch

from policies.denoiser import FilmBlock, build_denoiser
from policies.diffusion import DiffusionPolicyConfig, MlpConfig, UnetConfig
from tests.policies.tiny_policies import tiny_config

BATCH, ACTION, CONDITION = 5, 3, 11


def inputs(horizon, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(BATCH, horizon, ACTION, generator=generator)
    return (
        noisy,
        torch.randint(0, 100, (BATCH,), generator=generator),
        torch.randn(BATCH, CONDITION, generator=generator),
    )


def build(**overrides):
    torch.manual_seed(0)
    return build_denoiser(ACTION, CONDITION, tiny_config(**overrides))


CASES = [
    {"denoiser": "mlp", "horizon": 1, "execute_horizon": 1},
    {"denoiser": "mlp", "horizon": 8},
    {"denoiser": "unet", "horizon": 2},
    {"denoiser": "unet", "horizon": 8},
    {"denoiser": "unet", "horizon": 3, "unet": UnetConfig(widths=(8,), groups=4, time_features=8)},
    {"denoiser": "unet", "horizon": 8, "unet": UnetConfig(widths=(4, 8, 8, 12), groups=4, time_features=8)},
]


@pytest.mark.parametrize("overrides", CASES)
def test_the_prediction_has_the_chunks_shape_and_gradients_reach_every_weight(overrides):
    network = build(**overrides)
    noisy, timestep, condition = inputs(overrides["horizon"])
    prediction = network(noisy, timestep, condition)
    assert prediction.shape == noisy.shape
    prediction.square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("overrides", CASES)
def test_chunk_timestep_and_condition_all_matter_and_samples_do_not_mix(overrides):
    network = build(**overrides)
    noisy, timestep, condition = inputs(overrides["horizon"])
    base = network(noisy, timestep, condition)
    changed_rows = []
    for position in range(3):
        arguments = [noisy, timestep, condition]
        arguments[position] = arguments[position].clone()
        arguments[position][2] += 1
        difference = (network(*arguments) - base).abs().flatten(1).amax(dim=1)
        changed_rows.append((difference > 1e-6).tolist())
    assert changed_rows == [[False, False, True, False, False]] * 3


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.0), (-1.0, 0.0), (0.5, 2.0)])
def test_film_scales_by_one_plus_the_condition_and_shifts_before_the_second_convolution(scale, shift):
    block = FilmBlock(4, 4, CONDITION, UnetConfig(widths=(4,), groups=2, kernel_size=3))
    with torch.no_grad():
        block.film[1].weight.zero_()
        block.film[1].bias.copy_(torch.tensor([scale] * 4 + [shift] * 4))
        features, condition = torch.randn(2, 4, 8), torch.randn(2, CONDITION)
        expected = block.after(block.before(features) * (1 + scale) + shift) + features
        torch.testing.assert_close(block(features, condition), expected)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (DiffusionPolicyConfig(), 0.19),
        (DiffusionPolicyConfig(mlp=MlpConfig(width=768, blocks=3)), 3.7),
        (DiffusionPolicyConfig(denoiser="unet"), 64.1),
        (DiffusionPolicyConfig(denoiser="unet", unet=UnetConfig(widths=(64, 128, 256))), 4.7),
    ],
)
def test_the_documented_sizes_are_true(config, millions):
    network = build_denoiser(4, 78, config)
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
