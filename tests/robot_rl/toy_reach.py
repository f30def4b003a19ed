"""A point that must reach a goal in a plane: robot, judge, limits, operator, policies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Judgement, OperatorCommand
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from policies.diffusion import DiffusionPolicy

SPEC = RobotSpec(
    "reach",
    {"state": ArraySpec((4,), "float32", "m")},
    ArraySpec((2,), "float32", "m/tick", low=-0.1, high=0.1),
    (ActionKind.RATE, ActionKind.RATE),
    10.0,
)
"""State: position and goal."""
LIMITS: Mapping[str, Any] = {
    "low": [-0.1, -0.1],
    "high": [0.1, 0.1],
    "max_step": [0.1, 0.1],
    "max_velocity": [1.0, 1.0],
    "max_acceleration": [20.0, 20.0],
    "max_jerk": [800.0, 800.0],
    "max_age_s": {"state": 0.5},
    "ramp_after_s": 0.3,
    "fault_after_s": 1.0,
}
NEAR_M = 0.08


class UnjudgedReachRobot:
    """As a real robot: nobody but a person can tell whether it is near the goal.

    Args:
        dies_at_seed: The process ends at this reset, as when memory runs out.
        fails_at_seed: The reset raises.
        name: Of the embodiment.
    """

    simulated_time = True

    def __init__(self, dies_at_seed: int | None = None, fails_at_seed: int | None = None, name: str = "reach") -> None:
        self.spec = RobotSpec(name, SPEC.observations, SPEC.action, SPEC.action_kinds, SPEC.control_hz)
        self.dies_at_seed, self.fails_at_seed = dies_at_seed, fails_at_seed
        self.position, self.goal = np.zeros(2), np.zeros(2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass

    def reset(self, seed: int) -> None:
        if seed == self.dies_at_seed:
            os._exit(3)
        if seed == self.fails_at_seed:
            raise RobotRLError("the toy is broken")
        generator = np.random.default_rng((seed, 7))
        self.position, self.goal = generator.uniform(-0.5, 0.5, 2), generator.uniform(-0.5, 0.5, 2)

    def observe(self, tick_ns: int) -> Observation:
        state = np.concatenate([self.position, self.goal]).astype(np.float32)
        return Observation(tick_ns, {"state": state}, {"state": 0})

    def apply(self, action: np.ndarray) -> np.ndarray:
        applied = np.clip(action, -0.1, 0.1).astype(np.float32)
        self.position = self.position + applied
        return applied

    def stop(self) -> None:
        pass


class ReachRobot(UnjudgedReachRobot):
    """Judges itself: success is being near the goal."""

    def judge(self) -> Judgement:
        away = float(np.linalg.norm(self.position - self.goal))
        return Judgement(-away, away < NEAR_M, away < NEAR_M)


class GuidingOperator:
    """Takes over between two ticks and drives to the goal; the same in every episode.

    Args:
        first: Tick of the takeover; None for never.
        last: Tick at which it gives back.
    """

    name = "guide"

    def __init__(self, first: int | None = None, last: int = 10_000) -> None:
        self.first, self.last, self.polls = first, last, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass

    def reset(self, seed: int) -> None:
        self.polls = 0

    def poll(self, observation: Observation) -> OperatorCommand:
        tick, self.polls = self.polls, self.polls + 1
        if self.first is None or not self.first <= tick < self.last:
            return OperatorCommand()
        state = observation.values["state"]
        return OperatorCommand(action=np.clip(state[2:] - state[:2], -0.1, 0.1).astype(np.float32))


class StraightPolicy:
    """Goes to the goal; no torch, no chains."""

    spec, observation_count, execute_horizon, fingerprint = SPEC, 1, 2, "straight"

    def reset(self, seed: int) -> None:
        pass

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        state = history[-1].values["state"]
        step = np.clip(state[2:] - state[:2], -0.1, 0.1).astype(np.float32)
        return ActionChunk(np.stack([step, np.zeros_like(step)]), history[-1].stamp_ns)


def reach_policy(seed: int = 0, gain: float = 1.0) -> DiffusionPolicy:
    """Untrained, with the right statistics. Torch is loaded here only, because every new process pays for it."""
    import torch

    from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig

    torch.manual_seed(seed)
    config = DiffusionPolicyConfig(
        streams=("state",),
        observation_count=1,
        horizon=4,
        execute_horizon=2,
        sampling_steps=4,
        mlp=MlpConfig(width=32, blocks=1, time_features=8),
    )
    policy = DiffusionPolicy(SPEC, config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(gain)
    bounds = {"state": np.full(4, 0.6), "action": np.full(2, 0.1)}
    policy.set_statistics({name: {"min": -bound, "max": bound} for name, bound in bounds.items()})
    return policy
