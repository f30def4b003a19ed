"""Imitation: the policy learns to say what the operator did.

The idea on one page: a batch of windows in, the policy's own loss, one AdamW step, a moving average of the weights.
The average is what acts (Ho et al., arXiv 2006.11239, appendix B); its decay grows with the steps taken
(`1 - (1 + step)^-power`), so that early, bad weights are soon forgotten.

Legend: `B` batch, `n` observations per window, `K` denoising steps, `H` chunk length, `A` action dimension.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from data.training.statistics import Statistics
from data.training.windows import WindowDataset
from policies.trainable import OBSERVATION_PREFIX, Trainable
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import MORE_THAN_0, require_each
from robot_rl.learning.descent import Descent, follow
from robot_rl.learning.randomness import step_generator

Measure = Callable[[Mapping[str, Tensor], torch.Generator], Tensor]
PRECISIONS = ("no", "bf16", "fp16")
LOWER_RATE = "lower learning_rate, or look for outliers in the data"


@dataclass
class ImitationConfig:
    """How to imitate.

    Attributes:
        steps: Optimiser steps.
        batch_size: Windows per step, all processes together.
        learning_rate: At its highest.
        warmup_steps: Steps over which the learning rate rises from 0; then it falls to 0 on a half cosine.
        weight_decay: Of AdamW.
        gradient_clip: Largest norm of the gradient; null for no limit.
        ema_power: How fast the average's decay approaches `ema_max`.
        ema_max: Largest decay of the average.
        mixed_precision: `no`, `bf16` or `fp16` (a GPU's).
        seed: Of the first weights, the order of windows, timesteps and noise.
    """

    steps: int = 20_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    warmup_steps: int = 500
    weight_decay: float = 1e-6
    gradient_clip: float | None = 1.0
    ema_power: float = 0.75
    ema_max: float = 0.9999
    mixed_precision: str = "no"
    seed: int = 0

    def validate(self, group: str = "imitation") -> None:
        """Refuses settings that cannot work.

        Args:
            group: What the command calls these settings.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(self, group, MORE_THAN_0, "steps", "batch_size", "learning_rate")
        if self.mixed_precision not in PRECISIONS:
            wanted = ", ".join(PRECISIONS)
            raise RobotRLError(f"{group}.mixed_precision is '{self.mixed_precision}', wanted one of {wanted}")
        if not 0.0 <= self.ema_max < 1.0:
            raise RobotRLError(f"{group}.ema_max is {self.ema_max}, wanted 0 (no average) or more and less than 1")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        progress = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    def ema_decay_at(self, step: int) -> float:
        """Decay of the average after a step, counted from 0."""
        return min(self.ema_max, 1.0 - math.pow(1.0 + step, -self.ema_power))


class ImitationLearner:
    """A policy, its moving average and its optimiser.

    Args:
        policy: With statistics, on the CPU.
        config: See `ImitationConfig`.
        accelerator: Device, precision and processes.

    Attributes:
        average: The policy to act with, evaluate and export; in evaluation mode.
    """

    def __init__(self, policy: Trainable, config: ImitationConfig, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        policy = policy.to(accelerator.device).train()
        # Copied before `prepare`, which wraps `forward` for mixed precision.
        self.average = copy.deepcopy(policy).eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(
            policy.parameters(), config.learning_rate, (0.95, 0.999), weight_decay=config.weight_decay, fused=True
        )
        self._policy = policy
        self._wrapped, optimizer = accelerator.prepare(policy, optimizer)
        self._descent = Descent("the policy", optimizer, LOWER_RATE, config.gradient_clip, accelerator)

    def update(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """One optimiser step.

        Args:
            batch: This process's share: `obs/<stream>` (B, n, *shape), `action` (B, H, A), `valid` (B, H).
            step: Counted from 0.

        Returns:
            The loss, detached.

        Raises:
            Diverged: The loss or its gradient is not finite.
        """
        generator = step_generator(self.accelerator.device, self.config.seed, step, self.accelerator.process_index)
        loss, _ = self._wrapped(batch, generator)
        self._descent.step(loss, self.config.learning_rate_at(step))
        follow(self.average, self._policy, 1.0 - self.config.ema_decay_at(step))
        return cast(Tensor, loss.detach())

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs besides the average's weights."""
        return {"policy": self._policy.state_dict(), **self._descent.checkpoint()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave; the average is loaded separately."""
        self._policy.load_state_dict(state["policy"])
        self._descent.load_checkpoint(state)


def observations_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The streams of a training batch, by name. Shapes (B, n, *shape)."""
    prefix = OBSERVATION_PREFIX
    return {key.removeprefix(prefix): value for key, value in batch.items() if key.startswith(prefix)}


class HeldOut:
    """What the policy makes of episodes it never learned from.

    The same windows, timesteps and noise every time, so that two numbers differ only by the policy.

    Args:
        dataset: Windows of the episodes kept aside.
        statistics: Of the training episodes.
        windows: At most this many are read.
        batch_size: Windows at once.
        seed: Of the choice and of the noise.
        accelerator: Device and precision.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        statistics: Statistics,
        *,
        windows: int,
        batch_size: int,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        chosen = np.random.default_rng(seed).permutation(len(dataset))[:windows]
        self._dataset = dataset
        self._batches = np.array_split(np.sort(chosen), -(-len(chosen) // batch_size))
        self._std = torch.tensor(statistics["action"]["std"], dtype=torch.float32, device=accelerator.device)
        self._seed = seed
        self._accelerator = accelerator

    def quick(self, policy: Trainable) -> dict[str, float]:
        """What is measured often."""
        return {"held_out_loss": self.loss(policy)}

    def thorough(self, policy: Trainable) -> dict[str, float]:
        """What is measured seldom, since it samples."""
        return {"held_out_action_error": self.action_error(policy)}

    def loss(self, policy: Trainable) -> float:
        """The policy's own loss, mean over valid rows."""
        return float(self._mean(lambda batch, generator: policy.loss(batch, generator)[0]))

    def action_error(self, policy: Trainable) -> float:
        """Squared error of sampled chunks over each action dimension's variance: the mean action scores about 1."""
        return float(self._mean(lambda batch, generator: self._sample_error(policy, batch, generator)))

    def _sample_error(self, policy: Trainable, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        observations = observations_of(batch)
        shape = (len(batch["action"]), *policy.noise_shape)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        moves = self._std > 0
        error = (policy.sample(observations, noise) - batch["action"])[..., moves] / self._std[moves]
        return error.square().mean(dim=-1)[batch["valid"]].mean()

    @torch.no_grad()
    def _mean(self, measure: Measure) -> Tensor:
        """Mean over batches, each counted by its valid rows; of whatever shape `measure` gives."""
        total, rows = torch.zeros((), dtype=torch.float64), 0
        for number, indices in enumerate(self._batches):
            arrays = self._dataset.batch(indices)
            batch = {key: torch.from_numpy(value).to(self._accelerator.device) for key, value in arrays.items()}
            valid = int(arrays["valid"].sum())
            with self._accelerator.autocast():
                value = measure(batch, step_generator(self._accelerator.device, self._seed, number))
            total, rows = total + value.double().cpu() * valid, rows + valid
        return total / rows
