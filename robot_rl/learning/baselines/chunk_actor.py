"""Actors that give a whole chunk at once, and the policy that drives a robot with one.

Legend: `B` batch, `C` encoding size, `n` executed rows, `A` action dimension, `W` width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policies.history import stack_history
from policies.trainable import DenoisingPolicy
from policies.value import Standardizer
from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.learning.randomness import step_generator

ChunkFunction = Callable[[Tensor, torch.Generator], Tensor]
"""From conditions (B, C) to chunks (B, n, A), normalised, within [-1, 1]; the generator is for its noise."""

LOG_SPREAD = -5.0, 1.0
"""Range of the log standard deviation before the squashing."""


class ActorSample(NamedTuple):
    """Chunks of a Gaussian squashed by tanh."""

    chunk: Tensor
    """Within (-1, 1). Shape (B, n, A)."""
    log_prob: Tensor
    """Of the whole chunk. Shape (B,)."""
    mode: Tensor
    """The squashed mean. Shape (B, n, A)."""


class GaussianActor(nn.Module):
    """A Gaussian over chunks, squashed by tanh (SAC, arXiv 1801.01290, appendix C).

    Args:
        condition_size: `C`.
        rows: `n`.
        action_size: `A`.
        width: Of every hidden layer.
        blocks: Hidden layers.
        extra_size: Of further inputs beside the condition, within [-1, 1].
    """

    def __init__(
        self, condition_size: int, rows: int, action_size: int, width: int = 256, blocks: int = 2, extra_size: int = 0
    ) -> None:
        super().__init__()
        self.shape = rows, action_size
        self.standardizer = Standardizer(condition_size)
        layers: list[nn.Module] = []
        for block in range(blocks):
            size_in = condition_size + extra_size if block == 0 else width
            layers += [nn.Linear(size_in, width), nn.LayerNorm(width), nn.SiLU()]
        self.hidden = nn.Sequential(*layers)
        self.leave = nn.Linear(width, 2 * rows * action_size)
        # Begins at the middle of the range, so that a residual begins at its base.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, condition: Tensor, generator: torch.Generator, extra: Tensor | None = None) -> ActorSample:
        """Samples; gradients flow through the sample.

        Args:
            condition: Shape (B, C).
            generator: Draws the noise, on any device.
            extra: Further inputs. Shape (B, extra_size).
        """
        features = self.standardizer(condition)
        if extra is not None:
            features = torch.cat([features, extra], dim=1)
        mean, spread = self.leave(self.hidden(features)).chunk(2, dim=1)
        low, high = LOG_SPREAD
        log_sigma = low + 0.5 * (high - low) * (torch.tanh(spread) + 1.0)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        raw = mean + log_sigma.exp() * noise
        gaussian = (-0.5 * noise.square() - log_sigma - 0.5 * math.log(2 * math.pi)).sum(dim=1)
        # log(1 - tanh(x)^2), without the cancellation that a large x brings.
        squashing = (2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))).sum(dim=1)
        shape = (len(mean), *self.shape)
        return ActorSample(torch.tanh(raw).reshape(shape), gaussian - squashing, torch.tanh(mean).reshape(shape))


class ActorPolicy:
    """A `robot_rl.core.protocols.Policy` that encodes as a diffusion policy does and asks an actor for the chunk.

    Args:
        base: Whose encoder, normaliser and rows are used; in evaluation mode.
        actor: See `ChunkFunction`.
        weights: Of the actor, for the fingerprint.
    """

    def __init__(self, base: DenoisingPolicy, actor: ChunkFunction, weights: Mapping[str, Tensor]) -> None:
        self.spec, self.observation_count, self.execute_horizon = (
            base.spec,
            base.observation_count,
            base.execute_horizon,
        )
        digest = hashlib.sha256(base.fingerprint().encode())
        for name, tensor in sorted(weights.items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]
        self._base, self._actor = base, actor
        self._generator = torch.Generator().manual_seed(0)

    def reset(self, seed: int) -> None:
        """Seeds the actor's noise."""
        self._generator = step_generator(torch.device("cpu"), seed)

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Chunk of the `n` executed rows; see `robot_rl.core.protocols.Policy`."""
        arrays = stack_history(history, self.spec, self.observation_count)
        chunk = self.chunks({name: torch.from_numpy(array) for name, array in arrays.items()}, self._generator)
        return ActionChunk(chunk[0].cpu().numpy().astype(self.spec.action.dtype), history[-1].stamp_ns)

    @torch.no_grad()
    def chunks(self, observations: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Chunks in robot units for a batch of observations, (B, N, *shape) each. Shape (B, n, A)."""
        device = self._base.device
        condition = self._base.encode({name: values.to(device) for name, values in observations.items()})
        return self._base.to_actions(self._actor(condition, generator))
