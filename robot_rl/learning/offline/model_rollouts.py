"""Rollouts of a policy in a transition model, scored by a critic; the same numbers give the same rollouts.

Legend: `B` rollouts, `C` encoding size, `K` denoising steps, `H` chunk length, `n` executed rows, `A` action dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from policies.trainable import DenoisingPolicy
from robot_rl.learning.offline.transition_model import ModelStep
from robot_rl.learning.randomness import step_generator


class Critic(Protocol):
    """Judges encoded states; `robot_rl.learning.offline.critic.IqlCritic` is one."""

    def min_q(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """The smaller of two estimates of the return after an executed chunk. (B, C), (B, n, A) to (B,)."""

    def v(self, condition: Tensor) -> Tensor:
        """Estimate of the return. (B, C) to (B,)."""


class TransitionModel(Protocol):
    """Predicts what executed chunks lead to; `robot_rl.learning.offline.dynamics.DynamicsEnsemble` is one."""

    @property
    def elites(self) -> Sequence[int]:
        """Members that may be asked."""

    @property
    def rows(self) -> int:
        """Executed rows of a chunk, `n`."""

    @property
    def discount(self) -> float:
        """Of one whole chunk, gamma^n."""

    @property
    def longest_episode(self) -> int:
        """Chunks of the longest episode in the data."""

    def step(self, condition: Tensor, chunk: Tensor, member: Tensor) -> ModelStep:
        """One executed chunk; `member` (B,) answers for each sample."""


@dataclass(frozen=True)
class Rollouts:
    """What became of each rollout. Shapes (B,).

    Attributes:
        mean_q: Smaller Q along it, averaged with the probability of still being alive as weight.
        first_q: Smaller Q of the first chunk: no model is asked.
        model_return: Discounted predicted rewards, and V of where it was cut off.
        alive: Probability that it had not ended by itself.
        outside: Share of its Q, weighted likewise, outside the range it was told.
    """

    mean_q: Tensor
    first_q: Tensor
    model_return: Tensor
    alive: Tensor
    outside: Tensor

    def score(self, name: str) -> Tensor:
        """`q`, `first_q` or `return`."""
        return {"q": self.mean_q, "first_q": self.first_q, "return": self.model_return}[name]


@torch.no_grad()
def roll_out(
    policy: DenoisingPolicy,
    critic: Critic,
    model: TransitionModel,
    starts: Tensor,
    member: Tensor,
    *,
    chunks: int,
    q_range: tuple[float, float],
    seed: int,
) -> Rollouts:
    """Lets a policy act in the model.

    Args:
        policy: Acts on the encoding; its last denoising step adds no noise.
        critic: Scores.
        model: Answers.
        starts: Encodings at the beginning of episodes. Shape (B, C).
        member: Model of each rollout, to its end. Shape (B,), int64.
        chunks: Length at most.
        q_range: Range outside of which a Q counts as impossible.
        seed: Of the noise. It is drawn before anything depends on the policy, so that rollout `i` of two policies
            consumes the same numbers.
    """
    condition, alive = starts, starts.new_ones(len(starts))
    weighted, outside, total, weight = (starts.new_zeros(len(starts)) for _ in range(4))
    first = weighted
    for number in range(chunks):
        chunk = _chunk(policy, condition, seed, number)[:, : model.rows]
        q = critic.min_q(condition, chunk)
        first = q if number == 0 else first
        weighted, weight = weighted + alive * q, weight + alive
        outside = outside + alive * ((q < q_range[0]) | (q > q_range[1]) | ~torch.isfinite(q))
        answer = model.step(condition, chunk, member)
        total = total + alive * model.discount**number * answer.reward
        alive = alive * (1.0 - answer.termination)
        condition = answer.next_condition
    total = total + alive * model.discount**chunks * critic.v(condition)
    return Rollouts(weighted / weight, first, total, alive, outside / weight)


def _chunk(policy: DenoisingPolicy, condition: Tensor, seed: int, number: int) -> Tensor:
    """The policy's chunk. The initial noise is drawn first: policies of another `K` share that at least."""
    generator = step_generator(torch.device("cpu"), seed, number)
    steps, *shape = policy.noise_shape
    begin = torch.randn(len(condition), 1, *shape, generator=generator)
    later = torch.randn(len(condition), steps - 1, *shape, generator=generator)
    noise = torch.cat([begin, later], dim=1).to(condition.device)
    return policy.denoise(condition, noise).states[:, -1]
