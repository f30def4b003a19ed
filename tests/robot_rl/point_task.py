"""Reaching the origin of a plane: a task whose dynamics, values and policies are known in closed form.

The condition is the position; one chunk of two rows moves it by STEP times their mean. Within REACHED of the origin
the episode ends in success.
"""

import math

import torch
from torch import nn

from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from policies.trainable import DenoisingChain
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.learning.offline.transition_model import ModelStep
from robot_rl.learning.transitions import Transitions

STEP, REACHED, ROWS, DISCOUNT = 0.2, 0.15, 2, 0.95
SPEC = RobotSpec(
    name="point",
    observations={"position": ArraySpec((2,), "float32", "m")},
    action=ArraySpec((2,), "float32", "m/tick", -1.0, 1.0),
    action_kinds=(ActionKind.RATE, ActionKind.RATE),
    control_hz=10.0,
)


def follow(condition, chunk):
    return condition + STEP * chunk.mean(dim=1)


class PointPolicy(DiffusionPolicy):
    """Walks towards the origin with strength `pull` (negative: away from it) and noise of its own."""

    def __init__(self, pull: float, noise: float = 0.3, **overrides) -> None:
        config = {"observation_count": 1, "horizon": 4, "execute_horizon": ROWS, "sampling_steps": 3, **overrides}
        torch.manual_seed(0)
        super().__init__(SPEC, DiffusionPolicyConfig(streams=("position",), mlp=MlpConfig(8, 1, 4), **config))
        self.set_statistics({key: {"min": [-1.0, -1.0], "max": [1.0, 1.0]} for key in ("position", "action")})
        self.pull, self.noise = nn.Parameter(torch.tensor(pull)), noise
        self.calls = 0

    def denoise(self, condition, noise):
        self.calls += 1
        direction = -condition / condition.norm(dim=1, keepdim=True).clamp(min=1e-6)
        mean = (self.pull * direction)[:, None].expand(-1, self.horizon, -1)
        chunk = (mean + self.noise * noise.mean(dim=1)).clamp(-1, 1)
        return DenoisingChain(torch.stack([noise[:, 0], chunk], dim=1), chunk[:, None])


class PointModel:
    """The task itself; members drift apart by `disagreement`."""

    rows, discount, longest_episode = ROWS, DISCOUNT, 10

    def __init__(self, disagreement: float = 0.0, elites=(0, 1, 2)) -> None:
        self.disagreement, self.elites = disagreement, list(elites)

    def step(self, condition, chunk, member):
        slip = 1.0 + self.disagreement * (member[:, None] - 1.0)
        following = condition + STEP * chunk.mean(dim=1) * slip
        termination = (following.norm(dim=1) < REACHED).float()
        return ModelStep(following, termination, termination)


class PointCritic(nn.Module):
    """Discounted success of walking straight to the origin."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def v(self, condition):
        chunks = (condition.norm(dim=1) - REACHED).clamp(min=0) / STEP
        return self.scale * DISCOUNT**chunks

    def min_q(self, condition, chunk):
        return DISCOUNT * self.v(follow(condition, chunk))


def point_starts(count: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 0.5 + torch.rand(count, generator=generator)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


def point_transitions(episodes: int = 40, seed: int = 0, length: int = 24) -> Transitions:
    """Windows at every tick of noisy walks, half of which aim well; each row moves STEP / ROWS times its action."""
    generator = torch.Generator().manual_seed(seed)
    columns = {name: [] for name in ("condition", "chunk", "valid", "reward", "next", "terminated", "episode", "tick")}
    success, lengths = [], []
    for episode, start in enumerate(point_starts(episodes, seed)):
        position, positions, actions = start, [start], []
        while len(actions) < length and position.norm() >= REACHED:
            aim = -position / position.norm() if episode % 2 else torch.zeros(2)
            action = (0.8 * aim + 0.4 * torch.randn(2, generator=generator)).clamp(-1, 1)
            position = position + STEP / ROWS * action
            actions.append(action)
            positions.append(position)
        reached = bool(position.norm() < REACHED)
        success.append(reached)
        lengths.append(len(actions))
        for tick in range(len(actions) if reached else len(actions) - ROWS):
            valid = min(ROWS, len(actions) - tick)
            rows = [actions[tick + min(row, valid - 1)] for row in range(ROWS)]
            ended = reached and tick + valid == len(actions)
            columns["condition"].append(positions[tick])
            columns["chunk"].append(torch.stack(rows))
            columns["valid"].append(torch.arange(ROWS) < valid)
            columns["reward"].append(float(ended))
            columns["next"].append(positions[tick + valid])
            columns["terminated"].append(ended)
            columns["episode"].append(episode)
            columns["tick"].append(tick)
    valid = torch.stack(columns["valid"])
    return Transitions(
        condition=torch.stack(columns["condition"]),
        chunk=torch.stack(columns["chunk"]),
        valid=valid,
        reward=torch.tensor(columns["reward"]),
        discount=(DISCOUNT ** (1 / ROWS)) ** valid.sum(dim=1).float(),
        next_condition=torch.stack(columns["next"]),
        terminated=torch.tensor(columns["terminated"]),
        episode=torch.tensor(columns["episode"]),
        tick=torch.tensor(columns["tick"]),
        by_operator=torch.zeros(len(valid), dtype=torch.bool),
        success=torch.tensor(success),
        discounted_return=torch.tensor(success).float(),
        episode_length=torch.tensor(lengths),
    )
