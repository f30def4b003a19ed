"""Diffusion over action chunks (arXiv 2303.04137), the sampler that acts and the loss that imitates.

Legend: `B` batch, `N` observations seen at once, `K` denoising steps, `H` chunk length, `A` action dimension,
`C` size of the observation encoding `c`. Batches hold robot units and uint8 images; normalised units stay inside.

Acting with averaged weights is left to the training loop, which owns the steps: `diffusers.training_utils.EMAModel`
with `decay=0.9999, use_ema_warmup=True, power=0.75` over `parameters()`; there are no buffers to average.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from policies.auxiliary import Encoding
from policies.denoiser import build_denoiser
from policies.diffusion_config import CameraConfig, DiffusionPolicyConfig, InvalidPolicyConfig, MlpConfig, UnetConfig
from policies.encoders import ObservationEncoder
from policies.noise_schedule import DenoisingSteps, NoiseSchedule
from policies.normalizer import ACTION, Normalizer
from policies.point_encoder import with_colour_range
from policies.trainable import OBSERVATION_PREFIX, Corrupted, DenoisingChain
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ActionKind, RobotSpec

__all__ = ["CameraConfig", "DiffusionPolicy", "DiffusionPolicyConfig", "MlpConfig", "UnetConfig"]


class DiffusionPolicy(nn.Module):
    """Samples action chunks by denoising; `H = 1` is single-step control.

    Args:
        spec: The robot's; the policy keeps the streams it sees.
        config: See `DiffusionPolicyConfig`.

    Raises:
        InvalidPolicyConfig: The config contradicts itself.
        SpecMismatch: The robot lacks a stream.
    """

    binary: Tensor

    def __init__(self, spec: RobotSpec, config: DiffusionPolicyConfig) -> None:
        super().__init__()
        config.validate()
        self.config = config
        self.spec = spec.select(config.streams)
        self.action_size = spec.action.size
        self.encoder = ObservationEncoder(self.spec, config)
        shapes = {name: self.spec.observations[name].shape for name in self.encoder.low_dimensional}
        # One range for all points of a cloud: its order means nothing.
        shapes |= {name: (columns,) for name, columns in self.encoder.columns.items()}
        self.normalizer = Normalizer({**shapes, ACTION: spec.action.shape})
        self.denoiser = build_denoiser(self.action_size, self.encoder.output_size, config)
        self.auxiliary = self.encoder.make_auxiliary()
        self.schedule = self.make_schedule(config)
        binary = torch.from_numpy(spec.kind_mask(ActionKind.BINARY))
        self.register_buffer("binary", binary, persistent=False)

    @property
    def observation_count(self) -> int:
        """Newest observations seen at once, `N`."""
        return self.config.observation_count

    @property
    def horizon(self) -> int:
        """Actions per chunk, `H`."""
        return self.config.horizon

    @property
    def execute_horizon(self) -> int:
        """Rows of a chunk to execute before a newer chunk should replace it."""
        return self.config.execute_horizon

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape (K, H, A) of the noise that one sample consumes."""
        return self.config.sampling_steps, self.horizon, self.action_size

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.normalizer.fitted.device

    @property
    def condition_size(self) -> int:
        """Size of the observation encoding, `C`."""
        return self.encoder.output_size

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Standard deviation of each denoising step, normalised units. Length `K`."""
        # The plain numbers, not the table: reading a GPU's tensor would wait for it.
        return tuple(step.sigma for step in self.schedule.steps[: self.config.sampling_steps])

    @property
    def prediction_gain(self) -> float:
        """Largest factor from the network's output to the next state; it is large where little signal is left."""
        return max(abs(step.mean_from_clean * step.clean_from_prediction) for step in self.schedule.steps)

    def set_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Fits the normaliser, once and before training.

        Args:
            statistics: `{"min": ..., "max": ...}` per low-dimensional stream, per point cloud (of the shape of a point)
                and for `action`, in robot units.

        Raises:
            MissingStatistics: A key is absent or is no finite range of the right shape.
        """
        self.normalizer.fit(with_colour_range(statistics, self.encoder.point_clouds))

    def make_schedule(self, config: DiffusionPolicyConfig) -> DenoisingSteps:
        """The steps of a sampling run, for `config`."""
        return NoiseSchedule(config)

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The same as `loss`: distributed training wraps `forward`."""
        return self.loss(batch, generator)

    def loss(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising error (equation 5 of arXiv 2303.04137), mean over the valid rows.

        Args:
            batch: `obs/<stream>` (B, N, *shape), `action` (B, H, A), `valid` (B, H) bool; robot units.
            generator: Draws timesteps, noise and, in training mode, crops; on any device.

        Returns:
            The loss, and detached metrics.
        """
        self.normalizer.require_fitted()
        valid = batch["valid"]
        self._require_shape("action", batch["action"], (self.horizon, self.action_size))
        self._require_shape("valid", valid, (self.horizon,))
        clean = self.normalizer.normalize(ACTION, hold_last_valid(batch["action"], valid))
        prefix = OBSERVATION_PREFIX
        observations = {key.removeprefix(prefix): values for key, values in batch.items() if key.startswith(prefix)}
        encoding = self._encoding(observations, generator if self.training else None)
        condition = encoding.condition.float()

        noisy, timestep, target = self.corrupt(clean, generator)
        prediction = self.denoiser(noisy, timestep, condition).float()
        error = (prediction - target).square().mean(dim=-1)
        loss = torch.where(valid, error, 0.0).sum() / valid.sum().clamp(min=1)
        metrics = {"loss": loss.detach(), "valid_fraction": valid.float().mean()}
        if self.auxiliary is None:
            return loss, metrics
        extra, extra_metrics = self.auxiliary(encoding)
        return loss + extra, metrics | extra_metrics

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Corrupted:
        """Draws what the network learns from; `clean` is normalised, shape (B, H, A)."""
        assert isinstance(self.schedule, NoiseSchedule)
        noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean.device)
        timestep = torch.randint(
            self.config.train_timesteps, clean.shape[:1], generator=generator, device=generator.device
        ).to(clean.device)
        target = noise if self.config.prediction == "epsilon" else clean
        return Corrupted(self.schedule.add_noise(clean, noise, timestep), timestep, target)

    def sample(self, observations: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """Chunks of actions; gradients are the caller's to switch off.

        Args:
            observations: Stream name to its newest `N` values, robot units. Shapes (B, N, *shape).
            noise: Standard normal; row 0 starts the chain, row `k` is added after step `k - 1`. Shape (B, K, H, A):
                the last step returns its mean. One more row makes that step noisy too, should its sigma not be 0.

        Returns:
            Robot units; binary channels hold one of their two values. Shape (B, H, A).
        """
        self.normalizer.require_fitted()
        return self.to_actions(self.denoise(self.encode(observations), noise).states[:, -1])

    def encode(self, observations: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """The conditioning vector.

        Args:
            observations: As for `sample`.
            generator: Crops images at random places drawn from it; None crops the centre. In training mode it also
                draws from the bottleneck, if there is one; otherwise `c` is the mean.

        Returns:
            `c`, shape (B, C).
        """
        return self._encoding(observations, generator).condition.float()

    def _encoding(self, observations: Mapping[str, Tensor], generator: torch.Generator | None) -> Encoding:
        for name in self.config.streams:
            if name not in observations:
                raise RobotRLError(f"no observation of stream '{name}'; the batch has {', '.join(observations)}")
            if observations[name].shape[1] != self.observation_count:
                raise RobotRLError(
                    f"stream '{name}' holds {observations[name].shape[1]} observations, wanted {self.observation_count}"
                )
        scaled = (*self.encoder.low_dimensional, *self.encoder.point_clouds)
        normalized = {name: self.normalizer.normalize(name, observations[name]) for name in scaled}
        return self.encoder.encode(normalized, observations, generator)

    def predict(self, noisy: Tensor, step: int | Tensor, condition: Tensor) -> Tensor:
        """The network's raw output.

        Args:
            noisy: Normalised. Shape (B, H, A).
            step: Denoising step 0..K-1, 0 the noisiest; one for all, or one per sample of shape (B,).
            condition: `c`. Shape (B, C).

        Returns:
            Shape (B, H, A).
        """
        timestep = self.schedule.timesteps[step].expand(noisy.shape[0])
        prediction: Tensor = self.denoiser(noisy, timestep, condition).float()
        return prediction

    def denoise(self, condition: Tensor, noise: Tensor) -> DenoisingChain:
        """Runs the whole chain in normalised units; `noise` as for `sample`."""
        steps = self.config.sampling_steps
        if noise.shape[1] not in (steps, steps + 1) or noise.shape[2:] != self.noise_shape[1:]:
            raise RobotRLError(f"noise has shape {tuple(noise.shape)}, wanted (B, *{self.noise_shape}) for K, H, A")
        states, predictions = [noise[:, 0]], []
        for step in range(steps):
            predictions.append(self.predict(states[-1], step, condition))
            kernel = self.schedule.kernel(states[-1], predictions[-1], step)
            noisy = step + 1 < noise.shape[1]
            states.append(kernel.mean + kernel.sigma * noise[:, step + 1] if noisy else kernel.mean)
        return DenoisingChain(torch.stack(states, dim=1), torch.stack(predictions, dim=1))

    def log_prob(
        self,
        condition: Tensor,
        states: Tensor,
        *,
        rows: int | None = None,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> Tensor:
        """Log-density of each denoising step taken, under the very kernel that `denoise` samples from.

        All steps are evaluated in one forward pass, which therefore needs the memory of a batch of B * K.

        Args:
            condition: `c`. Shape (B, C).
            states: A chain whose K transitions were all sampled, normalised. Shape (B, K + 1, H, A).
            rows: Rows of the chunk that count, the first ones; None for all `H`.
            reduction: Over the rows' elements: `sum` is the joint density, `mean` is free of the chunk's size.

        Returns:
            log p(states[:, k + 1] | states[:, k], c) for each `k`. Shape (B, K).

        Raises:
            RobotRLError: A shape is wrong, or a step has no density since its sigma is 0.
        """
        steps, rows = self.config.sampling_steps, self.horizon if rows is None else rows
        self._require_density(states, rows)
        batch = len(states)
        step = torch.arange(steps, device=states.device).repeat(batch)
        noisy = states[:, :-1].flatten(0, 1)
        prediction = self.predict(noisy, step, condition.repeat_interleave(steps, dim=0))
        mean, sigma = self.schedule.kernel(noisy, prediction, step)
        deviation = ((states[:, 1:].flatten(0, 1) - mean) / sigma)[:, :rows]
        elements = -0.5 * deviation.square() - sigma.log() - 0.5 * math.log(2 * math.pi)
        per_step = elements.flatten(1).sum(1) if reduction == "sum" else elements.flatten(1).mean(1)
        return per_step.reshape(batch, steps)

    def to_actions(self, chunk: Tensor) -> Tensor:
        """A clean normalised chunk in robot units. Shapes (B, H, A)."""
        # A two-state channel is decided here: a value between its states means nothing to a robot.
        decided = torch.where(self.binary, torch.where(chunk < 0, -1.0, 1.0), chunk)
        return self.normalizer.unnormalize(ACTION, decided)

    def with_sampling_steps(self, sampling_steps: int) -> Self:
        """A copy that denoises in another number of steps; the weights stay as they are."""
        return self._with_noise(dataclasses.replace(self.config, sampling_steps=sampling_steps))

    def with_exploration(self, sampling_steps: int, sigma_min: float, sigma_max: float) -> Self:
        """A copy whose every denoising step is noisy, as policy gradients need (arXiv 2409.00588, section 4.3).

        It acts alike through `denoise` with K rows of noise, and explores with K + 1.

        Args:
            sampling_steps: Denoising steps `K`.
            sigma_min: Smallest standard deviation of a step, more than 0.
            sigma_max: Largest standard deviation of a step.

        Raises:
            InvalidPolicyConfig: They cannot work.
        """
        if not sigma_min > 0:
            raise InvalidPolicyConfig(f"sigma_min is {sigma_min}, wanted more than 0: each step needs a density")
        return self._with_noise(
            dataclasses.replace(
                self.config, sampling_steps=sampling_steps, eta=1.0, sigma_min=sigma_min, sigma_max=sigma_max
            )
        )

    def _with_noise(self, config: DiffusionPolicyConfig) -> Self:
        """A copy with another schedule; the weights stay as they are."""
        config.validate()
        other = copy.deepcopy(self)
        other.config, other.encoder.config = config, config
        other.schedule = self.make_schedule(config).to(self.schedule.table.device)
        return other

    def fingerprint(self) -> str:
        """Hash of every weight and statistic: 16 hexadecimal digits, the same wherever they were loaded."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _require_density(self, states: Tensor, rows: int) -> None:
        steps, *chunk = self.noise_shape
        if tuple(states.shape[1:]) != (steps + 1, *chunk):
            raise RobotRLError(
                f"states have shape {tuple(states.shape)}, wanted (B, {steps + 1}, {chunk[0]}, {chunk[1]}) for "
                "K + 1, H, A"
            )
        if not 1 <= rows <= self.horizon:
            raise RobotRLError(f"rows is {rows}, wanted 1 to the horizon {self.horizon}")
        silent = [step for step, sigma in enumerate(self.sigmas) if not sigma > 0]
        if silent:
            raise RobotRLError(
                f"denoising step {silent[0]} of {steps} has sigma 0 and so no density: raise policy.sigma_min above 0, "
                "or use with_exploration"
            )

    def _require_shape(self, key: str, values: Tensor, per_sample: tuple[int, ...]) -> None:
        if tuple(values.shape[1:]) != per_sample:
            wanted = ", ".join(map(str, per_sample))
            raise RobotRLError(f"batch '{key}' has shape {tuple(values.shape)}, wanted (B, {wanted})")


def hold_last_valid(action: Tensor, valid: Tensor) -> Tensor:
    """Replaces padding by the last valid action before it, so that whatever padding holds reaches no network.

    Args:
        action: Shape (B, H, A).
        valid: Shape (B, H), bool.
    """
    rows = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    last = torch.where(valid, rows, 0).cummax(dim=1).values
    return action.gather(1, last[..., None].expand_as(action))
