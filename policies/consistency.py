"""A one-step policy distilled from one of many steps (consistency models, arXiv 2303.01469).

Legend: `B` batch, `K` denoising steps of the teacher, `H` chunk length, `A` action dimension, `C` size of the encoding.

The student maps any state x_k of the teacher's chain straight to the clean chunk:

    f(x_k) = clip(skip_k x_k + out_k F(x_k, t_k, c))                                  ibid., equation 5

For teachers that predict the clean chunk or a flow's velocity, skip and out are those with which they do so. One that
predicts noise divides by the signal, next to none at step 0, and an error with it; there skip is the share of signal
and out that of noise, negative, which agree with the teacher's where little noise is left. So a student with the
teacher's weights begins as the teacher at the chain's last step, which is the boundary condition, and the earlier steps
are what there is to learn. Acting is f at step 0, from pure noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NoReturn, Self

import torch
from torch import Tensor

from policies.diffusion import DiffusionPolicy
from policies.diffusion_config import DiffusionPolicyConfig, InvalidPolicyConfig
from policies.flow import FlowSchedule
from policies.noise_schedule import DenoisingSteps, NoiseSchedule, StepCoefficients
from policies.trainable import Trainable
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec


@dataclass
class ConsistencyPolicyConfig(DiffusionPolicyConfig):
    """A teacher's config, and which of its steps the student knows.

    Attributes:
        teacher_steps: Denoising steps `K` of the teacher; `sampling_steps` is the student's own, 1.
    """

    sampling_steps: int = 1
    teacher_steps: int = 10

    predictions: ClassVar[tuple[str, ...]] = ("epsilon", "sample", "velocity")

    def validate(self) -> None:
        """Refuses what its base does, more steps than one, and a teacher that has one itself."""
        super().validate()
        if self.sampling_steps != 1:
            raise InvalidPolicyConfig(
                f"policy.sampling_steps is {self.sampling_steps}, but a consistency policy acts in 1 step: for more, "
                "use its teacher"
            )
        if not 2 <= self.teacher_steps <= self.train_timesteps:
            raise InvalidPolicyConfig(
                f"policy.teacher_steps is {self.teacher_steps}, wanted 2 to {self.train_timesteps}: in one step there "
                "is nothing to distil"
            )


class ConsistencyPolicy(DiffusionPolicy):
    """Acts in one network call; otherwise a `DiffusionPolicy` in all that acting, export and checkpoints need.

    Args:
        spec: The robot's.
        config: See `ConsistencyPolicyConfig`.
    """

    config: ConsistencyPolicyConfig

    def __init__(self, spec: RobotSpec, config: ConsistencyPolicyConfig) -> None:
        super().__init__(spec, config)

    @classmethod
    def from_teacher(cls, teacher: Trainable) -> Self:
        """A student with the teacher's weights and statistics, not yet distilled, on the teacher's device.

        Raises:
            InvalidPolicyConfig: The teacher has one step itself, is a student or none of ours.
        """
        teacher = require_teacher(teacher)
        if isinstance(teacher, ConsistencyPolicy):
            raise InvalidPolicyConfig("the teacher is a one-step student itself: distil the policy it was made from")
        student = cls(teacher.spec, student_config(teacher.config))
        student.load_state_dict(teacher.state_dict())
        return student.to(teacher.schedule.table.device)

    def make_schedule(self, config: DiffusionPolicyConfig) -> DenoisingSteps:
        """The teacher's steps, each of which leads to the clean chunk at once."""
        assert isinstance(config, ConsistencyPolicyConfig)
        path = FlowSchedule if config.prediction == "velocity" else NoiseSchedule
        teachers = path(dataclasses.replace(config, sampling_steps=config.teacher_steps))
        steps = [_straight_to_clean(step, config.prediction) for step in teachers.steps]
        return DenoisingSteps(teachers.timesteps, steps, config.clean_clip)

    def clean(self, states: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """The student's f: clean chunks from states of the teacher's chain, normalised.

        Args:
            states: Shape (B, H, A).
            step: The teacher's step 0..K-1 at which each of them is. Shape (B,).
            condition: `c`. Shape (B, C).

        Returns:
            Shape (B, H, A).
        """
        return self.schedule.kernel(states, self.predict(states, step, condition), step).mean

    def with_exploration(self, sampling_steps: int, sigma_min: float, sigma_max: float) -> NoReturn:
        """Refused: one step from noise to action has no kernel to explore with."""
        raise RobotRLError("a one-step policy does not explore: explore with its teacher and distil again")

    def loss(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Refused: a student learns from its teacher (`robot_rl/learning/distillation.py`), not from actions."""
        raise RobotRLError("a one-step policy is not trained by imitation: train its teacher, then `robot-rl distill`")


def _straight_to_clean(step: StepCoefficients, prediction: str) -> StepCoefficients:
    skip, out = step.clean_from_noisy, step.clean_from_prediction
    if prediction == "epsilon":
        # Of 1 / a and -s / a. Measured on a two-mode task: 0.05 from the teacher's chunks, with the teacher's own 0.14.
        signal = 1.0 / skip
        skip, out = signal, out * signal
    return StepCoefficients(skip, out, mean_from_clean=1.0, mean_from_noisy=0.0, sigma=0.0)


def require_teacher(policy: Trainable) -> DiffusionPolicy:
    """The policy, whose network a student can have.

    Raises:
        InvalidPolicyConfig: It does not inherit from `DiffusionPolicy`.
    """
    if not isinstance(policy, DiffusionPolicy):
        raise InvalidPolicyConfig(
            f"a one-step student has the network of a DiffusionPolicy, which {type(policy).__name__} does not inherit "
            "from: act with it as it is"
        )
    return policy


def student_config(teacher: DiffusionPolicyConfig) -> ConsistencyPolicyConfig:
    """The config of a student for a teacher with this one.

    Raises:
        InvalidPolicyConfig: The teacher has one step itself.
    """
    fields = {each.name: getattr(teacher, each.name) for each in dataclasses.fields(DiffusionPolicyConfig)}
    config = ConsistencyPolicyConfig(**{**fields, "sampling_steps": 1}, teacher_steps=teacher.sampling_steps)
    config.validate()
    return config
