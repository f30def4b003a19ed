import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from policies.diffusion_config import DiffusionPolicyConfig
from policies.noise_schedule import NoiseSchedule


def schedule(**overrides):
    return NoiseSchedule(DiffusionPolicyConfig(**overrides))


def theirs(prediction, steps, spacing, clip):
    scheduler = DDIMScheduler(
        num_train_timesteps=100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
        timestep_spacing=spacing,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
    )
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip", [None, 1.0, 2.0])
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 10), ("leading", 7), ("trailing", 10), ("leading", 100)])
def test_every_step_equals_that_of_diffusers(prediction, eta, clip, spacing, steps):
    ours = schedule(prediction=prediction, eta=eta, clean_clip=clip, timestep_spacing=spacing, sampling_steps=steps)
    reference = theirs(prediction, steps, spacing, clip)
    assert ours.timesteps.tolist() == reference.timesteps.tolist()
    generator = torch.Generator().manual_seed(steps)
    for step, timestep in enumerate(reference.timesteps.tolist()):
        noisy, output, noise = torch.randn(3, 5, 4, 2, generator=generator)
        mean, sigma = ours.kernel(noisy, output, step)
        wanted = reference.step(
            output, timestep, noisy, eta=eta, use_clipped_model_output=True, variance_noise=noise, return_dict=False
        )[0]
        # Their tables are float32, and what little signal the first timesteps hold divides the rounding.
        rounding = 1e-5 / float(ours.signal_scale[timestep])
        torch.testing.assert_close(mean + sigma * noise, wanted, rtol=1e-4, atol=rounding)


def test_noising_equals_that_of_diffusers():
    clean, noise = torch.randn(2, 100, 3, 2, generator=torch.Generator().manual_seed(0))
    timestep = torch.arange(100)
    wanted = theirs("epsilon", 10, "leading", 1.0).add_noise(clean, noise, timestep)
    torch.testing.assert_close(schedule().add_noise(clean, noise, timestep), wanted)


def test_a_step_per_sample_gives_the_same_kernel_as_one_step_for_all():
    ours = schedule(sigma_min=0.02, sigma_max=0.3)
    noisy, output = torch.randn(2, 10, 4, 2, generator=torch.Generator().manual_seed(1))
    mean, sigma = ours.kernel(noisy, output, torch.arange(10))
    for step in range(10):
        alone = ours.kernel(noisy[step : step + 1], output[step : step + 1], step)
        torch.testing.assert_close(mean[step : step + 1], alone.mean)
        torch.testing.assert_close(sigma[step].squeeze(), alone.sigma)


def test_the_mean_is_formed_with_the_clipped_sigma():
    noisy, output = torch.randn(2, 1, 4, 2, generator=torch.Generator().manual_seed(2))
    clipped = schedule(sigma_min=0.1, sigma_max=0.2, clean_clip=None)
    for step, coefficients in enumerate(clipped.steps):
        mean, sigma = clipped.kernel(noisy, output, step)
        assert 0.1 - 1e-7 <= sigma <= 0.2 + 1e-7
        timestep = int(clipped.timesteps[step])
        abar = float(clipped.signal_scale[timestep]) ** 2
        following = float(clipped.signal_scale[clipped.timesteps[step + 1]]) ** 2 if step < 9 else 1.0
        clean = (noisy - (1 - abar) ** 0.5 * output) / abar**0.5
        direction = max(0.0, 1 - following - coefficients.sigma**2) ** 0.5
        torch.testing.assert_close(mean, following**0.5 * clean + direction * output, rtol=1e-4, atol=1e-5)


def test_without_bounds_only_the_last_step_is_deterministic_and_with_eta_zero_all_are():
    sigmas = [step.sigma for step in schedule().steps]
    assert all(np.diff(sigmas[:-1]) < 0)
    assert sigmas[-1] == 0
    assert sigmas[-2] > 0
    assert [step.sigma for step in schedule(eta=0.0).steps] == [0.0] * 10


def test_a_perfect_network_leads_from_any_noise_to_the_clean_chunk():
    clean = torch.full((1, 2, 2), 0.5)
    for prediction in ("epsilon", "sample"):
        ours = schedule(prediction=prediction, eta=1.0)
        generator = torch.Generator().manual_seed(3)
        state = torch.randn(clean.shape, generator=generator)
        for step in range(10):
            timestep = ours.timesteps[step]
            noise = (state - ours.signal_scale[timestep] * clean) / ours.noise_scale[timestep]
            mean, sigma = ours.kernel(state, noise if prediction == "epsilon" else clean, step)
            state = mean + sigma * torch.randn(clean.shape, generator=generator)
        torch.testing.assert_close(state, clean, rtol=0, atol=1e-5)


def test_a_single_step_starts_where_there_is_both_noise_and_signal():
    assert schedule(sampling_steps=1).timesteps.tolist() == [90]
    assert schedule(sampling_steps=1, train_timesteps=1).timesteps.tolist() == [0]
    assert schedule(sampling_steps=1, timestep_spacing="trailing").timesteps.tolist() == [99]


def test_the_schedule_adds_nothing_to_a_checkpoint():
    assert schedule().state_dict() == {}
