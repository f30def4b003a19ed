"""Off-policy actor-critic from scratch, half of every batch demonstrations (RLPD, arXiv 2302.02948; HIL-SERL).

The baseline that uses no imitation; HIL-SERL (arXiv 2410.21845) mixes its data like this. Soft actor-critic with
LayerNorm critics on the frozen encoding, whose action is a whole executed chunk. It sees demonstrations only as
transitions with rewards.

Legend: `B` batch, `C` encoding size, `n` executed rows, `A` action dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robot_rl.learning.baselines.chunk_actor import ChunkFunction, GaussianActor
from robot_rl.learning.baselines.off_policy_critic import CriticLearner, EnsembleConfig, drawn_half_and_half
from robot_rl.learning.descent import Descent
from robot_rl.learning.randomness import first_weights, step_generator
from robot_rl.learning.transitions import Transitions


@dataclass
class RlpdConfig:
    """How to learn.

    Attributes:
        batch_size: Transitions per step, half of them demonstrations.
        actor_learning_rate: Of Adam.
        actor_every: Critic steps per actor step.
        temperature: First weight of the entropy.
        temperature_learning_rate: Of Adam; 0 keeps the temperature.
        entropy_per_dimension: Entropy aimed at, per row and action dimension [nat].
        width: Of the actor's hidden layers.
        critic: See `EnsembleConfig`.
        seed: Of first weights, batches and noise.
    """

    batch_size: int = 256
    actor_learning_rate: float = 3e-4
    actor_every: int = 2
    temperature: float = 0.01
    temperature_learning_rate: float = 3e-4
    entropy_per_dimension: float = -1.0
    width: int = 256
    critic: EnsembleConfig = field(default_factory=EnsembleConfig)
    seed: int = 0


class RlpdLearner:
    """Actor, critics and temperature.

    Args:
        demonstrations: Encoded; give the sizes and the range of conditions too.
        config: See `RlpdConfig`.

    Attributes:
        actor: What has been learned.
    """

    def __init__(self, demonstrations: Transitions, config: RlpdConfig) -> None:
        self.config, self._demonstrations = config, demonstrations
        condition = demonstrations.condition
        _, rows, action_size = demonstrations.chunk.shape
        with first_weights(config.seed):
            self.actor = GaussianActor(condition.shape[1], rows, action_size, config.width)
        self.actor.standardizer.fit(condition)
        self.actor.to(condition.device)
        self.critic = CriticLearner(demonstrations, config.critic, config.seed + 1)
        self._log_temperature = torch.tensor(config.temperature, device=condition.device).log().requires_grad_(True)
        self._entropy = config.entropy_per_dimension * rows * action_size
        actor = torch.optim.Adam(self.actor.parameters(), config.actor_learning_rate)
        temperature = torch.optim.Adam([self._log_temperature], config.temperature_learning_rate)
        self._actor_descent = Descent("the actor", actor, "lower actor_learning_rate")
        self._temperature_descent = Descent("the temperature", temperature, "lower temperature_learning_rate")

    def update(self, online: Transitions, step: int) -> dict[str, float]:
        """One step of the critics, and of the actor when it is due.

        Args:
            online: The policy's own transitions so far; without any, demonstrations alone are learned from.
            step: Counted from 0.
        """
        generator = step_generator(torch.device("cpu"), self.config.seed, step)
        batch = drawn_half_and_half(online, self._demonstrations, self.config.batch_size, generator)
        with torch.no_grad():
            after = self.actor(batch.next_condition, generator)
            value = self.critic.following(batch.next_condition, after.chunk, generator)
            value = value - self._log_temperature.exp() * after.log_prob
        metrics = {"critic_loss": self.critic.update(batch, value)}
        if step % self.config.actor_every == 0:
            metrics |= self._update_actor(batch, generator)
        return metrics

    def actor_function(self, explore: bool) -> ChunkFunction:
        """The actor as it is now, its mode or a sample."""
        actor = copy.deepcopy(self.actor).eval().requires_grad_(False)

        def act(condition: Tensor, generator: torch.Generator) -> Tensor:
            sample = actor(condition, generator)
            chunk: Tensor = sample.chunk if explore else sample.mode
            return chunk

        return act

    def state(self) -> dict[str, Any]:
        """A copy of all that an exact resume needs."""
        return {
            "actor": copy.deepcopy(self.actor.state_dict()),
            "critic": self.critic.state(),
            "log_temperature": self._log_temperature.detach().clone(),
            "actor_optimizer": copy.deepcopy(self._actor_descent.state()),
            "temperature_optimizer": copy.deepcopy(self._temperature_descent.state()),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state(state["critic"])
        self._log_temperature.data.copy_(state["log_temperature"])
        self._actor_descent.load_state(state["actor_optimizer"])
        self._temperature_descent.load_state(state["temperature_optimizer"])

    def _update_actor(self, batch: Transitions, generator: torch.Generator) -> dict[str, float]:
        sample = self.actor(batch.condition, generator)
        temperature = self._log_temperature.exp()
        loss = (temperature.detach() * sample.log_prob - self.critic.mean_q(batch.condition, sample.chunk)).mean()
        self._actor_descent.step(loss)
        surplus = -(sample.log_prob.detach() + self._entropy).mean()
        temperature_loss = self._log_temperature.exp() * surplus
        self._temperature_descent.step(temperature_loss)
        return {"actor_loss": float(loss.detach()), "temperature": float(temperature.detach())}
