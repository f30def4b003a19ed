"""Distillation: a one-step student learns where the chain of a many-step teacher ends.

The idea on one page: run the frozen teacher's chain from noise, adding none on the way, and ask the student to reach
its end from any of its states in one call (consistency distillation, arXiv 2303.01469, with the chain's true end in
place of the student's own guess):

    loss = || f(x_k, c) - sg Psi_K(x_k) ||^2,    x_{k+1} = mean of the teacher's kernel at x_k,    Psi_K(x_k) = x_K

Only k = 0 matters to acting; the states between make it easier to learn.

Legend: `B` batch, `K` denoising steps of the teacher, `H` chunk length, `A` action dimension, `C` size of the encoding.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy
from policies.trainable import DenoisingPolicy, Trainable, require_denoising
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Descent, follow
from robot_rl.learning.imitation import LOWER_RATE, HeldOut, ImitationConfig, observations_of
from robot_rl.learning.randomness import step_generator


@dataclass
class DistillationConfig(ImitationConfig):
    """How to distil: the optimiser's settings as in `ImitationConfig`, and the following.

    Attributes:
        first_share: Share of the samples at the chain's start, from where the student will act; the others are spread
            evenly over the later steps.
        sigma_max: Bound of the teacher's sigma while its chain is run without noise. The mean of a wide kernel holds
            less noise than the network knows for its timestep, which blurs what the chain ends in; 0 integrates DDIM's
            differential equation.
    """

    steps: int = 5_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    first_share: float = 0.5
    sigma_max: float = 0.1

    def validate(self, group: str = "distillation") -> None:
        """Refuses settings that cannot work, those of imitation among them; arguments and errors as there."""
        super().validate(group)
        if not 0.0 < self.first_share <= 1.0:
            raise RobotRLError(f"{group}.first_share is {self.first_share}, wanted more than 0, at most 1")
        if not self.sigma_max >= 0.0:
            raise RobotRLError(f"{group}.sigma_max is {self.sigma_max}, wanted 0 or more")


@torch.no_grad()
def teacher_chain(teacher: DiffusionPolicy, condition: Tensor, noise: Tensor, sigma_max: float = 0.1) -> Tensor:
    """The teacher's chain without noise on the way.

    Args:
        teacher: Of `K` steps.
        condition: `c`. Shape (B, C).
        noise: Standard normal, the chain's start. Shape (B, 1, H, A).
        sigma_max: See `DistillationConfig`.

    Returns:
        From the noise to the clean chunk, normalised. Shape (B, K + 1, H, A).
    """
    bounds = {name: sigma_max if value is None else min(value, sigma_max) for name, value in _sigmas(teacher).items()}
    schedule = teacher.make_schedule(dataclasses.replace(teacher.config, **bounds))  # type: ignore[arg-type]
    states = [noise[:, 0]]
    for step in range(teacher.config.sampling_steps):
        states.append(schedule.kernel(states[-1], teacher.predict(states[-1], step, condition), step).mean)
    return torch.stack(states, dim=1)


def distillation_loss(
    student: ConsistencyPolicy,
    teacher: DiffusionPolicy,
    condition: Tensor,
    noise: Tensor,
    generator: torch.Generator,
    *,
    first_share: float = 0.5,
    sigma_max: float = 0.1,
) -> Tensor:
    """How far the student is from the end of the teacher's chain, mean squared over elements; normalised units.

    Args:
        student: Made from a teacher with as many steps.
        teacher: Gets no gradient.
        condition: `c`, of the encoder that both share. Shape (B, C).
        noise: Standard normal. Shape (B, 1, H, A).
        generator: Draws the states to start from.
        first_share: See `DistillationConfig`.
        sigma_max: See `DistillationConfig`.
    """
    states = teacher_chain(teacher, condition, noise, sigma_max)
    step = draw_steps(len(noise), teacher.config.sampling_steps, first_share, generator).to(noise.device)
    reached = student.clean(states[torch.arange(len(states), device=step.device), step], step, condition)
    return (reached - states[:, -1]).square().mean()


def draw_steps(count: int, steps: int, first_share: float, generator: torch.Generator) -> Tensor:
    """Steps of the chain, the first one with probability `first_share`. Shape (count,)."""
    device = generator.device
    first = torch.rand(count, generator=generator, device=device) < first_share
    later = torch.randint(1, max(2, steps), (count,), generator=generator, device=device)
    return torch.where(first, 0, later)


class ConsistencyLearner:
    """A student, its moving average and its optimiser, for `training_loop`.

    The encoder stays as the teacher's: only the denoiser learns, and an observation is encoded once for both.

    Args:
        student: Made from the teacher, on the CPU.
        teacher: Frozen.
        config: See `DistillationConfig`.
        accelerator: Device, precision and processes.

    Attributes:
        average: The policy to act with, evaluate and export; in evaluation mode.
    """

    def __init__(
        self,
        student: ConsistencyPolicy,
        teacher: DiffusionPolicy,
        config: DistillationConfig,
        accelerator: Accelerator,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        # Evaluation mode throughout: the student learns on the encodings that it will act on.
        student = student.to(accelerator.device).eval().requires_grad_(False)
        self.average = copy.deepcopy(student)
        self.teacher = copy.deepcopy(teacher).to(accelerator.device).eval().requires_grad_(False)
        student.denoiser.requires_grad_(True)
        self._student = student
        weights = [*student.denoiser.parameters()]
        optimizer = torch.optim.AdamW(
            weights, config.learning_rate, (0.95, 0.999), weight_decay=config.weight_decay, fused=True
        )
        self._wrapped, optimizer = accelerator.prepare(_Matching(student, self.teacher, config), optimizer)
        self._descent = Descent("the student", optimizer, LOWER_RATE, config.gradient_clip, accelerator)

    def update(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """One optimiser step.

        Args:
            batch: This process's share: `obs/<stream>` (B, n, *shape); actions are not looked at.
            step: Counted from 0.

        Returns:
            The loss, detached.

        Raises:
            Diverged: The loss or its gradient is not finite.
        """
        generator = step_generator(self.accelerator.device, self.config.seed, step, self.accelerator.process_index)
        loss = self._wrapped(batch, generator)
        self._descent.step(loss, self.config.learning_rate_at(step))
        follow(self.average.denoiser, self._student.denoiser, 1.0 - self.config.ema_decay_at(step))
        return cast(Tensor, loss.detach())

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs besides the average's weights and the teacher."""
        return {"student": self._student.state_dict(), **self._descent.checkpoint()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave; the average is loaded separately."""
        self._student.load_state_dict(state["student"])
        self._descent.load_checkpoint(state)


class TeacherDistance(HeldOut):
    """How far a student is from its teacher on episodes it never learned from; arguments as for `HeldOut`."""

    def __init__(self, teacher: DiffusionPolicy, sigma_max: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._teacher, self._sigma_max = teacher, sigma_max

    def quick(self, policy: Trainable) -> dict[str, float]:
        """Distance over all action dimensions that move, relative to their spread."""
        distance = self.per_dimension(policy)[self._std.cpu() > 0]
        return {"held_out_distance": float(distance.square().mean().sqrt()) if len(distance) else 0.0}

    def thorough(self, policy: Trainable) -> dict[str, float]:
        """Distance of each action dimension, relative to its spread."""
        distance = self.per_dimension(policy).tolist()
        return {f"held_out_distance_{number}": value for number, value in enumerate(distance)}

    def per_dimension(self, policy: Trainable) -> Tensor:
        """Root mean square distance between both chunks from the same noise, over the action's std. Shape (A,)."""
        student = require_denoising(policy)
        return self._mean(lambda batch, generator: self._squares(student, batch, generator)).sqrt()

    def _squares(self, policy: DenoisingPolicy, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        condition = self._teacher.encode(observations_of(batch))
        shape = (len(condition), 1, *policy.noise_shape[1:])
        noise = torch.randn(shape, generator=generator, device=generator.device)
        wanted = self._teacher.to_actions(teacher_chain(self._teacher, condition, noise, self._sigma_max)[:, -1])
        found = policy.to_actions(policy.denoise(condition, noise).states[:, -1])
        squares = ((found - wanted) / torch.where(self._std > 0, self._std, 1.0)).square()
        return squares[batch["valid"]].mean(dim=0)


class _Matching(nn.Module):
    """The loss of one batch, as the module that distributed training wraps."""

    def __init__(self, student: ConsistencyPolicy, teacher: DiffusionPolicy, config: DistillationConfig) -> None:
        super().__init__()
        self.student = student
        self._unregistered, self._config = (teacher,), config

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """The student's distance from the chain's end for fresh noise, at one batch's observations."""
        (teacher,) = self._unregistered
        with torch.no_grad():
            condition = self.student.encode(observations_of(batch))
        noise = torch.randn(
            (len(condition), *self.student.noise_shape), generator=generator, device=generator.device
        ).to(condition.device)
        config = self._config
        return distillation_loss(
            self.student,
            teacher,
            condition,
            noise,
            generator,
            first_share=config.first_share,
            sigma_max=config.sigma_max,
        )


def _sigmas(teacher: DiffusionPolicy) -> dict[str, float | None]:
    return {"sigma_min": teacher.config.sigma_min, "sigma_max": teacher.config.sigma_max}
