"""Scripted operators of the simulated robots: Meta-World's own experts, made as imperfect as people are."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hardware.sim.metaworld import require_task
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Operator, OperatorCommand
from robot_rl.core.specs import RobotSpec


@dataclass(frozen=True)
class ImperfectSkill:
    """How a scripted operator falls short of its script. Speeds are shares of the fastest motion.

    Attributes:
        gain: Share of the script's motion that is carried out.
        noise_sigma: Standard deviation of the trembling, an Ornstein-Uhlenbeck process per axis.
        noise_rho: How much of the trembling remains after a tick.
        bias_sigma: Standard deviation of a drift drawn once per episode and axis.
        pause_probability: Chance per tick of beginning to hesitate.
        pause_ticks: Longest hesitation; its length is uniform from 1.
    """

    gain: float = 1.0
    noise_sigma: float = 0.0
    noise_rho: float = 0.8
    bias_sigma: float = 0.0
    pause_probability: float = 0.0
    pause_ticks: int = 20

    def __post_init__(self) -> None:
        """Refuses a skill that cannot be drawn from."""
        if not 0.0 <= self.noise_rho < 1.0:
            raise RobotRLError(f"operator.skill.noise_rho is {self.noise_rho}, wanted 0 or more and below 1")
        if not 0.0 <= self.pause_probability <= 1.0:
            raise RobotRLError(f"operator.skill.pause_probability is {self.pause_probability}, wanted 0 to 1")
        if min(self.noise_sigma, self.bias_sigma) < 0.0 or self.pause_ticks < 1:
            raise RobotRLError("operator.skill: noise_sigma and bias_sigma must be 0 or more, pause_ticks 1 or more")


SKILLS: Mapping[str, ImperfectSkill] = {
    "clean": ImperfectSkill(),
    "mild": ImperfectSkill(gain=0.9, noise_sigma=0.2, bias_sigma=0.05, pause_probability=0.01),
    "clumsy": ImperfectSkill(gain=0.9, noise_sigma=0.3, bias_sigma=0.1, pause_probability=0.02),
}
"""Named skills. On peg-insert-side, 100 seeds and 250 ticks: `mild` succeeds in 62, 44 of them within one and a half
times the script's usual duration; `clumsy` in 54 and 27; the script itself (`clean`) in 86 and 74."""


def scripted_operator(spec: RobotSpec, task: str, skill: str | Mapping[str, Any] | None = None) -> Operator:
    """The script that fits a simulated robot.

    Args:
        spec: The robot's.
        task: The task's name.
        skill: See `ScriptedOperator`; None is its default. Push-T's pusher knows none.

    Raises:
        RobotRLError: There is no script for this robot, or not with a skill.
    """
    if spec.name == "metaworld":
        return ScriptedOperator(task, "mild" if skill is None else skill)
    if spec.name != "pusht":
        raise RobotRLError(f"no script drives robot '{spec.name}', only metaworld and pusht: use operator=keyboard")
    if skill is not None:
        raise RobotRLError(f"operator.skill is {skill}, but Push-T's scripted pusher has no skills: leave it out")
    from hardware.operators.simulated.pusht_pusher import PushTPusher

    return PushTPusher()


class ScriptedOperator:
    """Meta-World's own expert for a task, seen through an `ImperfectSkill`; it reads the observation and nothing else.

    The requested action is `gain * expert + bias + trembling` in x, y and z, kept within the action's bounds; the
    gripper follows the script. While hesitating the hand rests and the gripper keeps its last effort.

    Args:
        task: One of Meta-World's tasks.
        skill: A name in `SKILLS`, the fields of an `ImperfectSkill`, or one.

    Raises:
        RobotRLError: An unknown task, skill or field of a skill.
    """

    drives_always = True
    """Beside a policy it would never let the policy drive."""

    def __init__(
        self, task: str = "peg-insert-side-v3", skill: str | Mapping[str, Any] | ImperfectSkill = "mild"
    ) -> None:
        require_task(task)
        self.skill = _named_skill(skill)
        self.name = f"scripted:{skill}" if isinstance(skill, str) else "scripted:custom"
        self._expert = _expert(task)
        self._generator: np.random.Generator | None = None
        self._bias = np.zeros(3)
        self._trembling = np.zeros(3)
        self._pause_left = 0
        self._gripper = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def reset(self, seed: int) -> None:
        """Draws this episode's drift and starts its trembling anew."""
        # Not the bare seed: a simulated robot draws its layout from that, and skill must not depend on layout.
        self._generator = np.random.default_rng((seed, 1))
        self._bias = self._generator.normal(0.0, self.skill.bias_sigma, 3)
        self._trembling = self._generator.normal(0.0, self.skill.noise_sigma, 3)
        self._pause_left = 0
        self._gripper = 0.0

    def poll(self, observation: Observation) -> OperatorCommand:
        """The next imperfect action; the judge or the clock ends the episode.

        Raises:
            RobotRLError: A stream that the expert needs is missing, or `reset` was never called.
        """
        if self._generator is None:
            raise RobotRLError("the scripted operator has no seed yet: call reset(seed) before each episode")
        scripted = np.asarray(self._expert.get_action(_expert_view(observation)), dtype=np.float64)
        rho = self.skill.noise_rho
        kick = self._generator.normal(0.0, self.skill.noise_sigma, 3)
        self._trembling = rho * self._trembling + np.sqrt(1.0 - rho**2) * kick
        if self._pause_left == 0 and self._generator.random() < self.skill.pause_probability:
            self._pause_left = int(self._generator.integers(1, self.skill.pause_ticks + 1))
        action = np.zeros(4, dtype=np.float32)
        if self._pause_left > 0:
            self._pause_left -= 1
        else:
            self._gripper = float(scripted[3])
            action[:3] = self.skill.gain * scripted[:3] + self._bias + self._trembling
        action[3] = self._gripper
        return OperatorCommand(action=np.clip(action, -1.0, 1.0))


def _named_skill(skill: str | Mapping[str, Any] | ImperfectSkill) -> ImperfectSkill:
    if isinstance(skill, ImperfectSkill):
        return skill
    if isinstance(skill, str):
        if skill not in SKILLS:
            raise RobotRLError(f"operator.skill is '{skill}', wanted {', '.join(SKILLS)} or the fields of a skill")
        return SKILLS[skill]
    fields = [each.name for each in dataclasses.fields(ImperfectSkill)]
    unknown = [str(key) for key in skill if key not in fields]
    if unknown:
        raise RobotRLError(f"operator.skill has no {', '.join(unknown)}: its fields are {', '.join(fields)}")
    return ImperfectSkill(**{str(key): value for key, value in skill.items()})


def _expert(task: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    # The experts ask for more than the action space allows and warn each time; the clip here is meant.
    warnings.filterwarnings("ignore", message="Constant\\(s\\) may be too high", module="metaworld")
    expert_class: Any = ENV_POLICY_MAP[task]
    return expert_class()


def _expert_view(observation: Observation) -> npt.NDArray[np.float64]:
    """Meta-World's 39 numbers, put together again from the streams."""
    for stream in ("state", "environment_state"):
        if stream not in observation.values:
            raise RobotRLError(
                f"the scripted operator needs the stream '{stream}', robot has {', '.join(observation.values)}: "
                "use it with robot=metaworld"
            )
    parts = (observation.values["state"], observation.values["environment_state"])
    return np.concatenate(parts).astype(np.float64)
