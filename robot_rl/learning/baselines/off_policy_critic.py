"""The critic of off-policy actor-critic baselines: an ensemble with LayerNorm, and data mixed from two sources.

Legend: `B` batch, `Z` members of the ensemble, `M` transitions, `C` encoding size, `n` executed rows, `A` action
dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.value import QEnsemble
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Descent, follow
from robot_rl.learning.randomness import first_weights
from robot_rl.learning.transitions import Transitions


@dataclass
class EnsembleConfig:
    """How the critics learn.

    Attributes:
        members: Networks, `Z`.
        subset: How many of them, drawn anew at every step, give the target (REDQ, arXiv 2101.05982).
        width: Of every hidden layer.
        blocks: Hidden layers.
        learning_rate: Of Adam.
        target_rate: Share of the weights that the target takes over per step.
    """

    members: int = 5
    subset: int = 2
    width: int = 256
    blocks: int = 2
    learning_rate: float = 3e-4
    target_rate: float = 0.005


class CriticLearner:
    """An ensemble of Q, its slow copy and its optimiser.

    Args:
        data: Of the sizes, and of the range of conditions.
        config: See `EnsembleConfig`.
        seed: Of the first weights.
    """

    def __init__(self, data: Transitions, config: EnsembleConfig, seed: int) -> None:
        if not 1 <= config.subset <= config.members:
            raise RobotRLError(f"critic.subset is {config.subset}, wanted 1 to critic.members={config.members}")
        self.config = config
        (_, rows, action_size), condition = data.chunk.shape, data.condition
        with first_weights(seed):
            network = QEnsemble(config.members, condition.shape[1], rows, action_size, config.width, config.blocks)
        network.standardizer.fit(condition)
        self.network = network.to(condition.device)
        self._target = copy.deepcopy(self.network).requires_grad_(False)
        optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate)
        self._descent = Descent("the critics", optimizer, "lower critic.learning_rate, or look at the rewards")

    def mean_q(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """Mean over the ensemble, which is what an actor climbs (RLPD, arXiv 2302.02948, algorithm 1). Shape (B,)."""
        values: Tensor = self.network(condition, chunk).mean(dim=0)
        return values

    @torch.no_grad()
    def following(self, condition: Tensor, chunk: Tensor, generator: torch.Generator) -> Tensor:
        """Least of a random subset of the slow copies. Shape (B,)."""
        chosen = torch.randperm(self.config.members, generator=generator)[: self.config.subset]
        values: Tensor = self._target(condition, chunk)[chosen.to(condition.device)].amin(dim=0)
        return values

    def update(self, batch: Transitions, following: Tensor) -> float:
        """One step towards `reward + discount * following`, which is 0 where the episode terminated.

        Raises:
            Diverged: The loss or its gradient is not finite.
        """
        target = batch.reward + torch.where(batch.terminated, 0.0, batch.discount * following)
        loss = (self.network(batch.condition, batch.chunk) - target).square().mean(dim=1).sum()
        self._descent.step(loss)
        follow(self._target, self.network, self.config.target_rate)
        return float(loss.detach()) / self.config.members

    def state(self) -> dict[str, Any]:
        """A copy of all that an exact resume needs."""
        return copy.deepcopy(
            {
                "network": self.network.state_dict(),
                "target": self._target.state_dict(),
                "optimizer": self._descent.state(),
            }
        )

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.network.load_state_dict(state["network"])
        self._target.load_state_dict(state["target"])
        self._descent.load_state(state["optimizer"])


def drawn_half_and_half(one: Transitions, other: Transitions, size: int, generator: torch.Generator) -> Transitions:
    """A batch of which one half comes from either source, however much each holds (symmetric sampling, RLPD 4.1).

    An empty source leaves all of the batch to the other.

    Raises:
        RobotRLError: Both are empty.
    """
    sources = [each for each in (one, other) if len(each)]
    if not sources:
        raise RobotRLError("no transitions to learn from: neither demonstrations nor episodes of the policy hold any")
    share = size // len(sources)
    parts = []
    for source in sources:
        index = torch.randint(len(source), (share,), generator=generator)
        parts.append(source.select(index.to(source.reward.device)))
    return Transitions.cat(parts)
