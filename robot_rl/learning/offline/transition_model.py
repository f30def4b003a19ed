"""An ensemble that predicts what one executed chunk leads to, as an encoding.

Legend: `B` batch, `E` members, `C` encoding size, `n` executed rows, `A` action dimension, `M` transitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policies.ensemble import EnsembleMlp
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import MORE_THAN_0, require_each
from robot_rl.learning.randomness import first_weights
from robot_rl.learning.transitions import Transitions

CONSTANT = 1e-6
"""A feature that spreads less than this does not move: its change is predicted as exactly 0."""
ENDING_WIDTH = 64
"""Width of the network of endings: there are few of them to learn from, and a wide one learns them by heart."""


@dataclass
class DynamicsConfig:
    """How to learn the transition model.

    Attributes:
        members: Networks in the ensemble.
        elites: Those with the least held-out error, which answer; by default all. The gate's bound counts how much
            the gain differs from model to model with one degree of freedom less than there are elites: with 3 of 5,
            Student's quantile at 95 % is 2.9 instead of 2.1, and a true improvement from 0.20 to 0.89 success was
            rejected for it. Fewer are worth it only where some members are plainly worse than others.
        width: Features of every hidden layer.
        blocks: Residual blocks.
        steps: Optimiser steps.
        batch_size: Transitions per member and step.
        learning_rate: At its highest, falling to 0 on a half cosine.
        weight_decay: Of AdamW.
        gradient_clip: Largest norm of the gradient.
        held_out_fraction: Share of the episodes kept aside to choose elites and to measure errors.
        seed: Of the first weights, the split, the bootstraps and the batches.
    """

    members: int = 5
    elites: int = 5
    width: int = 200
    blocks: int = 2
    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    gradient_clip: float = 10.0
    held_out_fraction: float = 0.15
    seed: int = 0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(
            self, "dynamics", MORE_THAN_0, "members", "elites", "width", "steps", "batch_size", "learning_rate"
        )
        if self.elites > self.members:
            raise RobotRLError(f"dynamics.elites is {self.elites}, wanted at most dynamics.members={self.members}")
        if not 0.0 < self.held_out_fraction < 1.0:
            raise RobotRLError(f"dynamics.held_out_fraction is {self.held_out_fraction}, wanted between 0 and 1")


class ModelStep(NamedTuple):
    """What one executed chunk leads to."""

    next_condition: Tensor
    """Should the episode go on. Shape (B, C)."""
    reward: Tensor
    """Expected, discounted within the chunk as the data's is. Shape (B,)."""
    termination: Tensor
    """Probability that the episode ends by itself within the chunk. Shape (B,)."""


class DynamicsEnsemble(nn.Module):
    """Models of one chunk's consequences.

    Args:
        condition_size: `C`.
        rows: `n`.
        action_size: `A`.
        config: See `DynamicsConfig`.
    """

    centre: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    change_centre: Tensor
    change_spread: Tensor
    reward_scale: Tensor
    chunk_discount: Tensor
    longest: Tensor
    elite_members: Tensor

    def __init__(self, condition_size: int, rows: int, action_size: int, config: DynamicsConfig) -> None:
        super().__init__()
        config.validate()
        self.members, self.rows, self.action_size = config.members, rows, action_size
        self.condition_size = condition_size
        inputs, outputs = condition_size + rows * action_size, condition_size + 1
        with first_weights(config.seed):
            self.motion = EnsembleMlp(config.members, inputs, outputs, width=config.width, blocks=config.blocks)
            self.ending = EnsembleMlp(config.members, inputs, 2, width=min(config.width, ENDING_WIDTH), blocks=1)
        for name in ("centre", "change_centre"):
            self.register_buffer(name, torch.zeros(condition_size))
        for name in ("spread", "change_spread"):
            self.register_buffer(name, torch.ones(condition_size))
        self.register_buffer("low", torch.full((condition_size,), -torch.inf))
        self.register_buffer("high", torch.full((condition_size,), torch.inf))
        self.register_buffer("reward_scale", torch.tensor(1.0))
        self.register_buffer("chunk_discount", torch.tensor(1.0))
        self.register_buffer("longest", torch.tensor(1))
        self.register_buffer("elite_members", torch.arange(config.elites))

    @property
    def elites(self) -> list[int]:
        """Members that answer best, the best first."""
        return [int(member) for member in self.elite_members]

    @property
    def discount(self) -> float:
        """Of one whole chunk, gamma^n."""
        return float(self.chunk_discount)

    @property
    def longest_episode(self) -> int:
        """Chunks of the longest episode in the data."""
        return int(self.longest)

    def fit_scales(self, transitions: Transitions) -> None:
        """Takes the data's range and spread; once, before training."""
        moving = whole(transitions)
        seen = torch.cat([transitions.condition, transitions.next_condition[moving]])
        change = (transitions.next_condition - transitions.condition)[moving]
        self.centre.copy_(seen.mean(dim=0))
        self.spread.copy_(_spread(seen))
        self.low.copy_(seen.amin(dim=0))
        self.high.copy_(seen.amax(dim=0))
        self.change_centre.copy_(change.mean(dim=0))
        deviation = change.std(dim=0, unbiased=False)
        self.change_spread.copy_(torch.where(deviation > CONSTANT, deviation, torch.zeros_like(deviation)))
        largest = transitions.reward.abs().max()
        self.reward_scale.copy_(torch.where(largest > 0, largest, torch.ones_like(largest)))
        self.chunk_discount.copy_(transitions.discount[moving].median())
        self.longest.fill_(math.ceil(int(transitions.episode_length.max()) / self.rows))

    def inputs(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """What the networks see: standardised condition and chunk, (..., C) and (..., n, A) to (..., C + n A)."""
        return torch.cat([(condition - self.centre) / self.spread, chunk.flatten(-2)], dim=-1)

    def step(self, condition: Tensor, chunk: Tensor, member: Tensor) -> ModelStep:
        """One executed chunk.

        Args:
            condition: Shape (B, C).
            chunk: Executed rows, normalised. Shape (B, n, A).
            member: Which network answers for each sample. Shape (B,), int64.

        Returns:
            See `ModelStep`. The next condition is held within the data's range: open-loop errors add up, and what a
            policy or a critic makes of conditions nobody ever saw would be counted for or against the candidate.
        """
        if tuple(chunk.shape[1:]) != (self.rows, self.action_size) or condition.shape[1] != self.condition_size:
            raise RobotRLError(
                f"the transition model got conditions {tuple(condition.shape)} and chunks {tuple(chunk.shape)}, wanted "
                f"(B, {self.condition_size}) and (B, {self.rows}, {self.action_size}): learn it from this policy's "
                "encoding and executed rows"
            )
        seen = self.inputs(condition, chunk)
        motion = seen.new_empty(len(seen), self.condition_size + 1)
        ending = seen.new_empty(len(seen), 2)
        for each in sorted(set(member.tolist())):
            rows = member == each
            motion[rows] = self.motion(seen[None, rows], [each])[0]
            ending[rows] = self.ending(seen[None, rows], [each])[0]
        change = motion[:, :-1] * self.change_spread + self.change_centre
        following = torch.minimum(torch.maximum(condition + change, self.low), self.high)
        termination = ending[:, 0].sigmoid()
        reward = (1.0 - termination) * motion[:, -1] + termination * ending[:, 1]
        return ModelStep(following, reward * self.reward_scale, termination)


def whole(transitions: Transitions) -> Tensor:
    """Transitions whose every row was executed and after which the episode went on. Shape (M,), bool.

    What an episode that ended by itself would have shown next was never seen: no change is learned from it.
    """
    return transitions.valid.all(dim=1) & ~transitions.terminated


def _spread(values: Tensor) -> Tensor:
    deviation = values.std(dim=0, unbiased=False)
    return torch.where(deviation > CONSTANT, deviation, torch.ones_like(deviation))
