"""The forward noising of diffusion and the Gaussian kernel of each denoising step.

Legend: `B` batch, `T` training timesteps, `K` denoising steps at inference, `H` chunk length, `A` action dimension;
abar is the schedule's cumulative product of 1 - beta.

Denoising step `k = 0..K-1` goes from timestep `t_k` to `t_{k+1}`, the last one to the clean chunk (abar = 1):

    x0    = clip(a_k x + b_k prediction)
    eps   = (x - sqrt(abar_k) x0) / sqrt(1 - abar_k)                 recomputed, so that it fits the clipped x0
    mean  = sqrt(abar_{k+1}) x0 + sqrt(1 - abar_{k+1} - sigma_k^2) eps         DDIM, equation 12 of arXiv 2010.02502
    sigma = clip(eta sqrt((1 - abar_{k+1}) / (1 - abar_k)) sqrt(1 - abar_k / abar_{k+1}))         ibid., equation 16

sigma is clipped before the mean is formed, and this one kernel serves sampling and log-probability. Since eps is linear
in x and x0, `mean = c_k x0 + d_k x`: five numbers per step, which is all that the inner loop reads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from policies.diffusion_config import DiffusionPolicyConfig


class Kernel(NamedTuple):
    """The Gaussian of one denoising step, normalised units."""

    mean: Tensor
    """Shape (B, H, A)."""
    sigma: Tensor
    """Standard deviation, the same for every element of a chunk. Shape () or (B, 1, 1)."""


class StepCoefficients(NamedTuple):
    """One denoising step's numbers, named as in the module's docstring."""

    clean_from_noisy: float
    clean_from_prediction: float
    mean_from_clean: float
    mean_from_noisy: float
    sigma: float


class NoiseSchedule(nn.Module):
    """Tables of the squared-cosine schedule; it learns nothing and saves nothing."""

    timesteps: Tensor
    signal_scale: Tensor
    noise_scale: Tensor
    table: Tensor

    def __init__(self, config: DiffusionPolicyConfig) -> None:
        super().__init__()
        scheduler = DDIMScheduler(
            num_train_timesteps=config.train_timesteps,
            beta_schedule="squaredcos_cap_v2",
            timestep_spacing=config.timestep_spacing,
        )
        scheduler.set_timesteps(config.sampling_steps)
        timesteps = scheduler.timesteps.tolist()
        if timesteps == [0]:
            # A single leading step would start where the network expects an almost clean chunk: start it where ten do.
            timesteps = [config.train_timesteps - max(1, config.train_timesteps // 10)]
        self.train_timesteps = config.train_timesteps
        self.sampling_steps = config.sampling_steps
        self.clean_clip = config.clean_clip
        cumulative = scheduler.alphas_cumprod.double()
        steps = step_coefficients(cumulative, timesteps, config)
        # Plain floats keep the inner loop at one kernel launch per operation; the table serves a step per sample.
        self.steps = steps
        self.register_buffer("table", torch.tensor(steps), persistent=False)
        self.register_buffer("timesteps", torch.tensor(timesteps), persistent=False)
        self.register_buffer("signal_scale", cumulative.sqrt().float(), persistent=False)
        self.register_buffer("noise_scale", (1 - cumulative).sqrt().float(), persistent=False)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The forward process: x_t. Shapes (B, H, A), timestep (B,)."""
        signal, spread = self.signal_scale[timestep], self.noise_scale[timestep]
        return signal[:, None, None] * clean + spread[:, None, None] * noise

    def kernel(self, noisy: Tensor, prediction: Tensor, step: int | Tensor) -> Kernel:
        """The distribution of the next, less noisy chunk.

        Args:
            noisy: x at this step, normalised. Shape (B, H, A).
            prediction: The network's output for it. Shape (B, H, A).
            step: Denoising step 0..K-1, 0 the noisiest; one for all, or one per sample of shape (B,).
        """
        if isinstance(step, Tensor):
            columns = self.table[step].unbind(-1)
            from_noisy, from_prediction, from_clean, along, sigma = (each[:, None, None] for each in columns)
        else:
            from_noisy, from_prediction, from_clean, along, _ = self.steps[step]  # type: ignore[assignment]
            sigma = self.table[step, -1]
        clean = from_prediction * prediction + from_noisy * noisy
        if self.clean_clip is not None:
            clean = clean.clamp(-self.clean_clip, self.clean_clip)
        return Kernel(from_clean * clean + along * noisy, sigma)


def step_coefficients(
    cumulative: Tensor, timesteps: list[int], config: DiffusionPolicyConfig
) -> list[StepCoefficients]:
    """The numbers of every denoising step, noisiest first; see the module's equations.

    Args:
        cumulative: abar. Shape (T,), float64.
        timesteps: The `K` timesteps, descending.
        config: `eta`, `prediction` and the bounds of sigma.
    """
    now = [float(cumulative[timestep]) for timestep in timesteps]
    return [_coefficients(abar, abar_next, config) for abar, abar_next in zip(now, [*now[1:], 1.0], strict=True)]


def _coefficients(abar: float, abar_next: float, config: DiffusionPolicyConfig) -> StepCoefficients:
    sigma = config.eta * ((1 - abar_next) / (1 - abar) * (1 - abar / abar_next)) ** 0.5
    sigma = max(sigma, config.sigma_min)
    if config.sigma_max is not None:
        sigma = min(sigma, config.sigma_max)
    # A sigma raised above what is left of the noise leaves no room for the deterministic part.
    along_noise = max(0.0, 1 - abar_next - sigma**2) ** 0.5
    mean_from_noisy = along_noise / (1 - abar) ** 0.5
    mean_from_clean = abar_next**0.5 - mean_from_noisy * abar**0.5
    if config.prediction == "sample":
        return StepCoefficients(0.0, 1.0, mean_from_clean, mean_from_noisy, sigma)
    return StepCoefficients(abar**-0.5, -((1 - abar) ** 0.5) / abar**0.5, mean_from_clean, mean_from_noisy, sigma)
