"""Rectified flow over action chunks (arXiv 2209.03003), behind the interface of the diffusion policy.

Legend: `B` batch, `K` integration steps, `H` chunk length, `A` action dimension, `C` size of the encoding.

A straight path leads from noise to data, and the network learns its velocity (ibid., equation 1):

    x_t = (1 - t) noise + t clean,    v = clean - noise,    acting: K Euler steps x += v / K from t = 0

For policy gradients each step gets Gaussian noise with sigma in [sigma_min, sigma_max], as ReinFlow does
(arXiv 2505.22094). Unlike there, the kernel of `policies/noise_schedule.py` makes room for it: it takes as much of the
noise at hand away as it adds, so that the network sees the noise level it was trained on. Without sigma it is Euler's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from policies.diffusion import DiffusionPolicy
from policies.diffusion_config import DiffusionPolicyConfig
from policies.noise_schedule import DenoisingSteps, Mixture, step_coefficients
from policies.trainable import Corrupted
from robot_rl.core.specs import RobotSpec


@dataclass
class FlowPolicyConfig(DiffusionPolicyConfig):
    """As `DiffusionPolicyConfig`, where `timestep_spacing` means nothing: the steps are equal.

    Attributes:
        prediction: `velocity`.
        train_timesteps: What the network is told at t = 1; it is told `t * train_timesteps`.
        eta: 0 integrates; 1 replaces noise as the Markov process with these marginals would, within sigma's bounds.
    """

    prediction: str = "velocity"
    eta: float = 0.0

    predictions: ClassVar[tuple[str, ...]] = ("velocity",)


class FlowSchedule(DenoisingSteps):
    """`K` equal steps along straight paths."""

    def __init__(self, config: DiffusionPolicyConfig) -> None:
        times = [step / config.sampling_steps for step in range(config.sampling_steps)]
        path = [Mixture(time, 1.0 - time) for time in times]
        told = torch.tensor(times) * config.train_timesteps
        super().__init__(told, step_coefficients(path, config), config.clean_clip)


class FlowPolicy(DiffusionPolicy):
    """Samples action chunks by integrating a velocity.

    Args:
        spec: The robot's.
        config: See `FlowPolicyConfig`.
    """

    def __init__(self, spec: RobotSpec, config: FlowPolicyConfig) -> None:
        super().__init__(spec, config)

    def make_schedule(self, config: DiffusionPolicyConfig) -> DenoisingSteps:
        """See the base class."""
        return FlowSchedule(config)

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Corrupted:
        """See the base class; times are uniform."""
        noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean.device)
        time = torch.rand(len(clean), generator=generator, device=generator.device).to(clean.device)
        noisy = torch.lerp(noise, clean, time[:, None, None])
        return Corrupted(noisy, time * self.config.train_timesteps, clean - noise)
