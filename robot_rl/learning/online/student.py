"""A one-step student that follows the policy from iteration to iteration.

Legend: `M` states, `B` batch, `H` chunk length, `A` action dimension, `C` encoding size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy
from policies.trainable import DenoisingPolicy
from robot_rl.learning.descent import Descent


class Distillation(Protocol):
    """The loss of a one-step student; `robot_rl.learning.distillation.distillation_loss` is one."""

    def __call__(
        self,
        student: ConsistencyPolicy,
        teacher: DiffusionPolicy,
        condition: Tensor,
        noise: Tensor,
        generator: torch.Generator,
        /,
    ) -> Tensor:
        """From conditions (B, C) and standard normal noise (B, 1, H, A) to a loss; no gradient for the teacher."""


class FollowingStudent:
    """A student and its optimiser.

    Args:
        policy: Learns in place; set to evaluation mode.
        loss: Of one batch.
        learning_rate: Of AdamW.
    """

    def __init__(self, policy: ConsistencyPolicy, loss: Distillation, learning_rate: float) -> None:
        self.policy, self._loss = policy, loss
        optimizer = torch.optim.AdamW(policy.eval().denoiser.parameters(), learning_rate, weight_decay=0.0)
        self._descent = Descent("the student", optimizer, "lower online.distillation_learning_rate")

    def follow(
        self, teacher: DenoisingPolicy, condition: Tensor, steps: int, batch_size: int, generator: torch.Generator
    ) -> float:
        """Takes some steps towards a teacher, which a student could be made of.

        Args:
            teacher: Gets no gradient.
            condition: States to follow it at. Shape (M, C).
            steps: Optimiser steps.
            batch_size: States per step, `B`.
            generator: Draws the states and the noise, on the conditions' device.

        Returns:
            The mean loss.

        Raises:
            Diverged: A loss or its gradient is not finite.
        """
        losses = []
        for _ in range(steps):
            index = torch.randint(len(condition), (batch_size,), generator=generator, device=generator.device)
            shape = (len(index), 1, *teacher.noise_shape[1:])
            noise = torch.randn(shape, generator=generator, device=generator.device)
            loss = self._loss(self.policy, cast(DiffusionPolicy, teacher), condition[index], noise, generator)
            self._descent.step(loss)
            losses.append(float(loss.detach()))
        return math.fsum(losses) / max(1, len(losses))

    def state(self) -> dict[str, Any]:
        """A copy of all that an exact resume needs."""
        state = {"student": self.policy.denoiser.state_dict(), "student_optimizer": self._descent.state()}
        return copy.deepcopy(state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.policy.denoiser.load_state_dict(state["student"])
        self._descent.load_state(state["student_optimizer"])
