"""PPO over denoising steps: every step of the chain is an action of its own, all K share the environment's advantage.

    ratio_k = exp(log p_new(a_{k+1} | a_k, c) - log p_old(a_{k+1} | a_k, c))
    J = E sum_k w_k min(ratio_k A, clip(ratio_k, 1 - eps, 1 + eps) A)

as in DPPO (arXiv 2409.00588, section 4) and RL-100 (arXiv 2510.14830); the clipped objective is equation 7 of arXiv
1707.06347. Old and new log-probabilities come out of one function in evaluation mode, so that the ratio is 1 before the
first update. Only the denoiser learns; the encoder gave `c` and stays what it is.

Legend: `B` batch, `K` denoising steps, `H` chunk length, `n` executed rows, `A` action dimension, `C` encoding size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from policies.trainable import DenoisingPolicy
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import AT_LEAST_0, MORE_THAN_0, require_each
from robot_rl.learning.descent import Descent, Diverged

REDUCTIONS = ("sum", "mean")
LARGEST_LOG_RATIO = 20.0
"""Beyond it a ratio says nothing more, and its exponential would overflow float32 long before the KL stop is read."""


@dataclass
class PpoConfig:
    """How far and how fast the policy may move.

    Attributes:
        clip: Largest change of a ratio that is still rewarded, epsilon.
        learning_rate: Of AdamW; the larger the network, the smaller.
        epochs: Passes of `DenoisingPpo.update` over its decisions.
        batch_size: Decisions per optimiser step; each brings its K denoising steps.
        reduction: Of the log-probability over executed rows and action dimensions: `mean`, which keeps the ratio's
            scale whatever the chunk's size (DPPO), or `sum`, the joint density, for which the same clip is as many
            times tighter. Evidence, thin: on SlotInsert2D (8 elements, 82 k parameters, two seeds, about 1,500 online
            episodes) `mean` reached 0.95 and 0.90, `sum` 0.78 and 0.67, from 0.55 and 0.51; chosen and judged on the
            same starts. Never change it within a run.
        kl_limit: Mean divergence per denoising step, estimated on a batch, at which updates stop; null for no limit.
        advantage_clip: Normalised advantages are clipped to plus and minus this.
        minimum_spread: A batch whose advantages spread less than this, before normalising, teaches nothing.
        gradient_clip: Largest norm of the gradient; null for no limit.
        denoising_discount: Weight of each step relative to the next, cleaner one (DPPO's gamma_denoise); 1 for equal.
        warmup_steps: First optimiser steps over which the learning rate rises: Adam's very first one moves every weight
            by all of it, whatever the gradient, which alone went past the KL limit (0.17 at 2e-4 and 82 k weights).
    """

    clip: float = 0.1
    learning_rate: float = 1e-4
    epochs: int = 1
    batch_size: int = 256
    reduction: str = "mean"
    kl_limit: float | None = 0.05
    advantage_clip: float = 3.0
    minimum_spread: float = 1e-6
    gradient_clip: float | None = 1.0
    denoising_discount: float = 1.0
    warmup_steps: int = 10

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(self, "ppo", MORE_THAN_0, "clip", "epochs", "batch_size", "advantage_clip")
        require_each(self, "ppo", AT_LEAST_0, "learning_rate", "minimum_spread")
        if self.reduction not in REDUCTIONS:
            raise RobotRLError(f"ppo.reduction is '{self.reduction}', wanted one of {', '.join(REDUCTIONS)}")
        if not 0.0 < self.denoising_discount <= 1.0:
            raise RobotRLError(f"ppo.denoising_discount is {self.denoising_discount}, wanted more than 0, at most 1")


class PpoBatch(NamedTuple):
    """Decisions to learn from; nothing here carries a gradient."""

    condition: Tensor
    """Shape (B, C)."""
    states: Tensor
    """The chains that were sampled, normalised units. Shape (B, K + 1, H, A)."""
    old_log_prob: Tensor
    """Of the policy that sampled them, by `DenoisingPpo.log_prob`. Shape (B, K)."""
    advantage: Tensor
    """The environment's, not normalised. Shape (B,)."""

    def select(self, index: Tensor) -> PpoBatch:
        """The decisions at these indices."""
        return PpoBatch(*(tensor[index] for tensor in self))


def normalized_advantages(advantage: Tensor, config: PpoConfig) -> Tensor | None:
    """Advantages of one batch with mean 0 and spread 1, then clipped; None if there is nothing to tell apart.

    Args:
        advantage: Shape (B,).
        config: `advantage_clip` and `minimum_spread`.

    Raises:
        Diverged: An advantage is not finite.
    """
    if not bool(torch.isfinite(advantage).all()):
        raise Diverged("an advantage is NaN or infinite: the critic or value network has diverged, train it anew")
    centred = advantage - advantage.mean()
    spread = centred.square().mean().sqrt()
    if float(spread) <= config.minimum_spread:
        return None
    return (centred / spread).clamp(-config.advantage_clip, config.advantage_clip)


def step_weights(steps: int, discount: float, device: torch.device) -> Tensor:
    """Weight of each denoising step: 1 for the last one, `discount` less for each noisier one. Shape (K,)."""
    return discount ** torch.arange(steps - 1, -1, -1, dtype=torch.float32, device=device)


def surrogate(
    new_log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float, weights: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped objective, negated: summed over denoising steps, mean over decisions.

    Args:
        new_log_prob: Shape (B, K).
        old_log_prob: Shape (B, K).
        advantage: Normalised; shared by all K steps. Shape (B,).
        clip: Epsilon.
        weights: Per denoising step, None for 1. Shape (K,).

    Returns:
        The loss, and detached metrics: `kl`, the estimate `(r - 1) - log r` of the divergence from the old to the new
        policy per denoising step (never negative, Schulman's k3); `clip_fraction`; `ratio_mean`.
    """
    log_ratio = (new_log_prob - old_log_prob).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    ratio = log_ratio.exp()
    shared = advantage[:, None]
    gain = torch.minimum(ratio * shared, ratio.clamp(1.0 - clip, 1.0 + clip) * shared)
    if weights is not None:
        gain = gain * weights
    with torch.no_grad():
        metrics = {
            "kl": (ratio - 1.0 - log_ratio).mean(),
            "clip_fraction": ((ratio - 1.0).abs() > clip).float().mean(),
            "ratio_mean": ratio.mean(),
        }
    return -gain.sum(dim=1).mean(), metrics


class DenoisingPpo:
    """A policy's denoiser and its optimiser.

    Args:
        policy: Every denoising step noisy (`DenoisingPolicy.with_exploration`); set to evaluation mode.
        config: See `PpoConfig`.
        rows: Rows of a chunk that are executed, `n`; the others are nobody's merit.
    """

    def __init__(self, policy: DenoisingPolicy, config: PpoConfig, rows: int) -> None:
        config.validate()
        self.policy = policy.eval()
        self.config = config
        self.rows = rows
        self.learning_rate = config.learning_rate
        self._steps_taken = 0
        optimizer = torch.optim.AdamW(policy.denoiser.parameters(), config.learning_rate, weight_decay=0.0)
        remedy = "lower ppo.learning_rate or raise sigma_min"
        self._descent = Descent("the policy's update", optimizer, remedy, config.gradient_clip)

    def log_prob(self, condition: Tensor, states: Tensor) -> Tensor:
        """Log-probability of each denoising step's outcome under this run's one scheme.

        Args:
            condition: Shape (B, C).
            states: Shape (B, K + 1, H, A).

        Returns:
            Shape (B, K).
        """
        self.policy.eval()
        reduction: Literal["sum", "mean"] = "sum" if self.config.reduction == "sum" else "mean"
        return self.policy.log_prob(condition, states, rows=self.rows, reduction=reduction)

    @torch.no_grad()
    def log_prob_of(self, condition: Tensor, states: Tensor) -> Tensor:
        """`log_prob` without gradient, a batch at a time. Shape (M, K) for any number of decisions.

        Within one batch the ratio to `log_prob` is exactly 1; a batch made up in another way rounds differently in
        float32, which 1 / sigma magnifies to about 1e-5.
        """
        size = self.config.batch_size
        starts = range(0, len(states), size)
        return torch.cat([self.log_prob(condition[at : at + size], states[at : at + size]) for at in starts])

    def update(
        self, batch: PpoBatch, generator: torch.Generator, extra: Iterator[Tensor] | None = None
    ) -> dict[str, float]:
        """All epochs over a set of decisions, in minibatches of a new random order each; stops at the KL limit.

        Args:
            batch: Any number of decisions.
            generator: Draws the orders.
            extra: One more loss per optimiser step, added to the surrogate; None for none.

        Returns:
            Means over the optimiser steps of `surrogate`'s metrics; `steps` taken, `stopped` 1 if the KL limit ended
            them, `skipped` batches without a spread, `kl_last`.

        Raises:
            Diverged: See `step`.
        """
        taken: list[dict[str, float]] = []
        for index in self._orders(len(batch.advantage), generator):
            taken.append(self.step(batch.select(index), None if extra is None else next(extra)))
            if taken[-1]["stopped"]:
                break
        return summary_of(taken)

    def step(self, batch: PpoBatch, extra: Tensor | None = None) -> dict[str, float]:
        """One optimiser step on one batch, unless the batch says nothing or the policy has already moved too far.

        Args:
            batch: Its advantages are normalised here.
            extra: A loss to add.

        Raises:
            Diverged: An advantage, the loss or its gradient is not finite; nothing was changed.
        """
        advantage = normalized_advantages(batch.advantage, self.config)
        if advantage is None and extra is None:
            return {"skipped": 1.0, "stopped": 0.0}
        metrics: dict[str, float] = {"skipped": float(advantage is None), "stopped": 0.0}
        loss = torch.zeros((), device=batch.advantage.device) if extra is None else extra
        if advantage is not None:
            new = self.log_prob(batch.condition, batch.states)
            weights = step_weights(new.shape[1], self.config.denoising_discount, new.device)
            objective, measured = surrogate(new, batch.old_log_prob, advantage, self.config.clip, weights)
            loss = loss + objective
            metrics |= {name: float(value) for name, value in measured.items()}
            metrics["loss"] = float(objective.detach())
            if self.config.kl_limit is not None and metrics["kl"] > self.config.kl_limit:
                return metrics | {"stopped": 1.0}
        return metrics | {"gradient_norm": self.descend(loss)}

    def state(self) -> dict[str, Any]:
        """A copy of the optimiser's part of an exact resume; the denoiser's weights are the policy's."""
        return {
            "optimizer": copy.deepcopy(self._descent.state()),
            "learning_rate": self.learning_rate,
            "steps_taken": self._steps_taken,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self._descent.load_state(state["optimizer"])
        self.learning_rate = float(state["learning_rate"])
        self._steps_taken = int(state["steps_taken"])

    def _orders(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(self.config.epochs):
            order = torch.randperm(count, generator=generator, device=generator.device)
            for start in range(0, count, self.config.batch_size):
                yield order[start : start + self.config.batch_size]

    def descend(self, loss: Tensor) -> float:
        """One optimiser step down a loss of the caller's. Returns the gradient's norm before it was clipped.

        Raises:
            Diverged: The loss or its gradient is not finite; nothing was changed.
        """
        warm = min(1.0, (self._steps_taken + 1) / max(1, self.config.warmup_steps))
        norm = self._descent.step(loss, self.learning_rate * warm)
        self._steps_taken += 1
        return norm


def summary_of(taken: list[dict[str, float]]) -> dict[str, float]:
    """Means over optimiser steps; `steps`, `skipped` and `stopped` are counts, `kl_last` the last step's."""
    names = sorted({name for metrics in taken for name in metrics} - {"skipped", "stopped"})
    values = {name: [metrics[name] for metrics in taken if name in metrics] for name in names}
    means = {name: math.fsum(of_name) / len(of_name) for name, of_name in values.items()}
    counts = {name: math.fsum(metrics[name] for metrics in taken) for name in ("skipped", "stopped")}
    steps = sum("gradient_norm" in metrics for metrics in taken)
    return means | counts | {"steps": float(steps), "kl_last": values["kl"][-1] if "kl" in values else 0.0}
