"""Paths from noise to a clean chunk, and the Gaussian kernel of each denoising step on them.

Legend: `B` batch, `T` training timesteps, `K` denoising steps at inference, `H` chunk length, `A` action dimension;
a and s are the shares of signal and of noise at a timestep: x = a x0 + s eps.

Denoising step `k = 0..K-1` goes from timestep `t_k` to `t_{k+1}`, the last one to the clean chunk (a = 1, s = 0):

    x0    = clip(p_k x + q_k prediction)
    eps   = (x - a_k x0) / s_k                                       recomputed, so that it fits the clipped x0
    mean  = a_{k+1} x0 + sqrt(s_{k+1}^2 - sigma_k^2) eps             DDIM, equation 12 of arXiv 2010.02502
    sigma = clip(eta (s_{k+1} / s_k) sqrt(s_k^2 - (a_k / a_{k+1})^2 s_{k+1}^2))     ibid., equation 16

Diffusion has a = sqrt(abar), s = sqrt(1 - abar), abar being the cumulative product of 1 - beta; rectified flow has
a = t, s = 1 - t (`policies/flow.py`), where a step without sigma is Euler's. sigma is clipped before the mean is
formed, and this one kernel serves sampling and log-probability. Since eps is linear in x and x0,
`mean = c_k x0 + d_k x`: five numbers per step, which is all that the inner loop reads.
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


class Mixture(NamedTuple):
    """How much of a noisy chunk is signal, and how much noise."""

    signal: float
    noise: float


CLEAN = Mixture(1.0, 0.0)


class DenoisingSteps(nn.Module):
    """The `K` steps of a sampling run; it learns nothing and saves nothing.

    Args:
        timesteps: What the network is told at each step. Shape (K,).
        steps: The numbers of each step, noisiest first.
        clean_clip: Bound of the predicted clean chunk, None for none.
    """

    timesteps: Tensor
    table: Tensor

    def __init__(self, timesteps: Tensor, steps: list[StepCoefficients], clean_clip: float | None) -> None:
        super().__init__()
        self.clean_clip = clean_clip
        # Plain floats keep the inner loop at one kernel launch per operation; the table serves a step per sample.
        self.steps = steps
        self.register_buffer("table", torch.tensor(steps), persistent=False)
        self.register_buffer("timesteps", timesteps, persistent=False)

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


class NoiseSchedule(DenoisingSteps):
    """Diffusion's squared-cosine schedule."""

    signal_scale: Tensor
    noise_scale: Tensor

    def __init__(self, config: DiffusionPolicyConfig) -> None:
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
        cumulative = scheduler.alphas_cumprod.double()
        signal, noise = cumulative.sqrt(), (1 - cumulative).sqrt()
        path = [Mixture(float(signal[each]), float(noise[each])) for each in timesteps]
        super().__init__(torch.tensor(timesteps), step_coefficients(path, config), config.clean_clip)
        self.register_buffer("signal_scale", signal.float(), persistent=False)
        self.register_buffer("noise_scale", noise.float(), persistent=False)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The forward process: x_t. Shapes (B, H, A), timestep (B,)."""
        signal, spread = self.signal_scale[timestep], self.noise_scale[timestep]
        return signal[:, None, None] * clean + spread[:, None, None] * noise


def step_coefficients(path: list[Mixture], config: DiffusionPolicyConfig) -> list[StepCoefficients]:
    """The numbers of every denoising step; see the module's equations.

    Args:
        path: At each of the `K` steps, noisiest first.
        config: `eta`, `prediction` and the bounds of sigma.
    """
    return [_coefficients(now, following, config) for now, following in zip(path, [*path[1:], CLEAN], strict=True)]


def _coefficients(now: Mixture, following: Mixture, config: DiffusionPolicyConfig) -> StepCoefficients:
    remembered = now.signal / following.signal * following.noise
    sigma = config.eta * following.noise / now.noise * max(0.0, now.noise**2 - remembered**2) ** 0.5
    sigma = max(sigma, config.sigma_min)
    if config.sigma_max is not None:
        sigma = min(sigma, config.sigma_max)
    # A sigma raised above what is left of the noise leaves no room for the deterministic part.
    along_noise = max(0.0, following.noise**2 - sigma**2) ** 0.5
    mean_from_noisy = along_noise / now.noise
    mean_from_clean = following.signal - mean_from_noisy * now.signal
    return StepCoefficients(*_clean_from(now, config.prediction), mean_from_clean, mean_from_noisy, sigma)


def _clean_from(now: Mixture, prediction: str) -> tuple[float, float]:
    """Weights of the noisy chunk and of the network's output in the clean chunk."""
    if prediction == "sample":
        return 0.0, 1.0
    if prediction == "velocity":
        # Of a straight path, a + s = 1: x0 - eps leads from x to x0 in the time s that is left.
        return 1.0, now.noise
    return 1.0 / now.signal, -now.noise / now.signal
