"""The value network of on-policy learning: what a state is worth to the policy that acts.

Legend: `M` decisions, `B` batch, `C` encoding size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.value import ValueNetwork
from robot_rl.learning.descent import Descent


@dataclass
class ValueConfig:
    """How the value network learns.

    Attributes:
        learning_rate: Of AdamW.
        epochs: Passes over an iteration's decisions.
        batch_size: Decisions per optimiser step.
        clip: A prediction gains nothing by moving further than this from the last iteration's, in units of return; null
            for no limit.
        gradient_clip: Largest norm of the gradient.
        width: Of a network made from scratch.
        blocks: Hidden layers of a network made from scratch.
    """

    learning_rate: float = 1e-3
    epochs: int = 5
    batch_size: int = 256
    clip: float | None = 0.2
    gradient_clip: float = 1.0
    width: int = 256
    blocks: int = 2


def value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Squared error, the larger of the prediction's own and that of one kept near the old value. Shapes (B,).

    As in the published PPO code (arXiv 2005.12729, section 3): it stops the network from running after one batch.
    """
    error = (value - target).square()
    if clip is not None:
        near = old_value + (value - old_value).clamp(-clip, clip)
        error = torch.maximum(error, (near - target).square())
    return error.mean()


def explained_variance(value: Tensor, target: Tensor) -> float:
    """Share of the targets' variance that the values account for; 0 where the targets do not vary. Shapes (M,)."""
    variance = float(target.var(correction=0))
    return 1.0 - float((target - value).var(correction=0)) / variance if variance > 0 else 0.0


class ValueLearner:
    """A value network and its optimiser.

    Args:
        value: Trained before, or None for one from scratch, standardised by the first conditions it sees.
        condition_size: `C`.
        config: See `ValueConfig`.
        device: Of both.
    """

    def __init__(
        self, value: ValueNetwork | None, condition_size: int, config: ValueConfig, device: torch.device
    ) -> None:
        self.config = config
        self._fitted = value is not None
        made = ValueNetwork(condition_size, config.width, config.blocks) if value is None else copy.deepcopy(value)
        self.network = made.to(device).requires_grad_(True)
        optimizer = torch.optim.AdamW(self.network.parameters(), config.learning_rate, weight_decay=0.0)
        remedy = "lower online.value.learning_rate"
        self._descent = Descent("the value network", optimizer, remedy, config.gradient_clip)

    @torch.no_grad()
    def __call__(self, condition: Tensor) -> Tensor:
        """What states are worth. Shape (M, C) to (M,)."""
        if not self._fitted:
            self.network.standardizer.fit(condition)
            self._fitted = True
        values: Tensor = self.network(condition)
        return values

    def update(self, condition: Tensor, target: Tensor, generator: torch.Generator, share: float = 1.0) -> float:
        """All epochs over an iteration's decisions.

        Args:
            condition: Shape (M, C).
            target: Returns, fixed. Shape (M,).
            generator: Draws the order.
            share: Of the learning rate.

        Returns:
            Mean loss of the last epoch.

        Raises:
            Diverged: A loss or its gradient is not finite; the weights are as before that step.
        """
        old, config = self(condition), self.config
        losses: list[Tensor] = []
        for _ in range(config.epochs):
            losses.clear()
            order = torch.randperm(len(target), generator=generator, device=generator.device)
            for start in range(0, len(order), config.batch_size):
                index = order[start : start + config.batch_size]
                loss = value_loss(self.network(condition[index]), old[index], target[index], config.clip)
                self._descent.step(loss, config.learning_rate * share)
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def state(self) -> dict[str, Any]:
        """A copy of all that an exact resume needs."""
        return copy.deepcopy(
            {
                "network": self.network.state_dict(),
                "optimizer": self._descent.state(),
                "fitted": self._fitted,
            }
        )

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.network.load_state_dict(state["network"])
        self._descent.load_state(state["optimizer"])
        self._fitted = bool(state["fitted"])
