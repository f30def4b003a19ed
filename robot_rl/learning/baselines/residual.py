"""A small correction on top of a frozen policy, learned off-policy (residual RL; ResFiT, arXiv 2509.19301).

The base policy denoises a chunk; a small actor sees the encoding and that chunk and adds to it at most `scale`. Critics
see the sum, which is what was executed. The base policy is never touched, so the correction cannot make it forget.

Legend: `B` batch, `M` transitions, `C` encoding size, `n` executed rows, `A` action dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from policies.trainable import DenoisingPolicy
from robot_rl.learning.baselines.chunk_actor import ChunkFunction, GaussianActor
from robot_rl.learning.baselines.off_policy_critic import CriticLearner, EnsembleConfig, drawn_half_and_half
from robot_rl.learning.descent import Descent
from robot_rl.learning.randomness import first_weights, step_generator
from robot_rl.learning.transitions import Transitions


@dataclass
class ResidualConfig:
    """How to learn.

    Attributes:
        scale: Largest correction per row and dimension, normalised units.
        batch_size: Transitions per step, half of them demonstrations.
        learning_rate: Of the actor's Adam.
        actor_every: Critic steps per actor step.
        critic_warmup: Critic steps before the actor's first.
        noise: Standard deviation of exploration, as a share of `scale`.
        width: Of the actor's hidden layers.
        critic: See `EnsembleConfig`.
        seed: Of first weights, batches and noise.
    """

    scale: float = 0.2
    batch_size: int = 256
    learning_rate: float = 1e-4
    actor_every: int = 2
    critic_warmup: int = 500
    noise: float = 0.25
    width: int = 128
    critic: EnsembleConfig = field(default_factory=EnsembleConfig)
    seed: int = 0


class ResidualLearner:
    """The correction and its critics.

    Args:
        base: Frozen; in evaluation mode.
        demonstrations: Encoded by it.
        config: See `ResidualConfig`.

    Attributes:
        actor: The correction learned so far; its mode begins at zero.
    """

    def __init__(self, base: DenoisingPolicy, demonstrations: Transitions, config: ResidualConfig) -> None:
        self.config, self._demonstrations = config, demonstrations
        self._base = copy.deepcopy(base).eval().requires_grad_(False)
        condition = demonstrations.condition
        _, rows, action_size = demonstrations.chunk.shape
        with first_weights(config.seed):
            self.actor = GaussianActor(
                condition.shape[1], rows, action_size, config.width, extra_size=rows * action_size
            ).to(condition.device)
        self.actor.standardizer.fit(condition)
        self.critic = CriticLearner(demonstrations, config.critic, config.seed + 1)
        optimizer = torch.optim.Adam(self.actor.parameters(), config.learning_rate)
        self._descent = Descent("the correction", optimizer, "lower learning_rate")

    def update(self, online: Transitions, step: int) -> dict[str, float]:
        """One step of the critics, and of the correction when it is due.

        Args:
            online: The policy's own transitions so far; without any, demonstrations alone are learned from.
            step: Counted from 0.
        """
        generator = step_generator(torch.device("cpu"), self.config.seed, step)
        batch = drawn_half_and_half(online, self._demonstrations, self.config.batch_size, generator)
        with torch.no_grad():
            after = self.act(batch.next_condition, generator, explore=False)
            value = self.critic.following(batch.next_condition, after, generator)
        metrics = {"critic_loss": self.critic.update(batch, value)}
        if step >= self.config.critic_warmup and step % self.config.actor_every == 0:
            chunk = self.act(batch.condition, generator, explore=False)
            loss = -self.critic.mean_q(batch.condition, chunk).mean()
            self._descent.step(loss)
            metrics["actor_loss"] = float(loss.detach())
        return metrics

    def act(self, condition: Tensor, generator: torch.Generator, explore: bool) -> Tensor:
        """Corrected chunks; gradients reach the correction alone. Shapes (B, C) to (B, n, A)."""
        base = self._base_chunk(condition, generator)
        correction = self.actor(condition, generator, base.flatten(1)).mode
        if explore:
            noise = torch.randn(correction.shape, generator=generator, device=generator.device).to(correction.device)
            correction = (correction + self.config.noise * noise).clamp(-1.0, 1.0)
        chunk: Tensor = (base + self.config.scale * correction).clamp(-1.0, 1.0)
        return chunk

    def actor_function(self, explore: bool) -> ChunkFunction:
        """The corrected policy as it is now, with or without exploration."""
        frozen = copy.copy(self)
        frozen.actor = copy.deepcopy(self.actor).eval().requires_grad_(False)
        return lambda condition, generator: frozen.act(condition, generator, explore)

    def state(self) -> dict[str, Any]:
        """A copy of all that an exact resume needs; the base policy is the caller's to keep."""
        actor, optimizer = copy.deepcopy((self.actor.state_dict(), self._descent.state()))
        return {"actor": actor, "optimizer": optimizer, "critic": self.critic.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.actor.load_state_dict(state["actor"])
        self._descent.load_state(state["optimizer"])
        self.critic.load_state(state["critic"])

    @torch.no_grad()
    def _base_chunk(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(condition), *self._base.noise_shape)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(condition.device)
        states = self._base.denoise(condition, noise).states
        return states[:, -1, : self._base.execute_horizon].clamp(-1.0, 1.0)
