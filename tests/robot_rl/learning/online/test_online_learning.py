"""Online PPO over denoising steps makes an imperfect imitation better, on a task small enough for every test run."""

import numpy as np
import torch

from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.learning.denoising_ppo import PpoConfig
from robot_rl.learning.encoded_imitation import EncodedWindows, denoising_loss
from robot_rl.learning.online.advantages import PolicySegments
from robot_rl.learning.online.learner import OnlineConfig, OnlineLearner
from robot_rl.learning.online.value_learner import ValueConfig
from robot_rl.learning.transitions import RewardConfig

SPEC = RobotSpec(
    name="line",
    observations={"state": ArraySpec((2,), "float32", "m,1", names=("offset", "left"))},
    action=ArraySpec((1,), "float32", "m/tick", low=-1.0, high=1.0),
    action_kinds=(ActionKind.RATE,),
    control_hz=10.0,
)
DECISIONS, ROWS, NEAR_M, GAMMA = 3, 2, 0.1, 0.97


def moved(offset, rows):
    return offset + 0.3 * rows.clamp(-1, 1).sum(1)


def observed(offset, number):
    return torch.stack([offset, torch.full_like(offset, 1 - number / DECISIONS)], dim=1)


def imitation(seed):
    """A policy that imitates an operator who aims beside the middle, differently in every episode."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = DiffusionPolicyConfig(
        streams=("state",), observation_count=1, horizon=ROWS, execute_horizon=ROWS, mlp=MlpConfig(64, 2, 16)
    )
    policy = DiffusionPolicy(SPEC, config)
    low, high = np.array([-1.5, 0.0]), np.array([1.5, 1.0])
    policy.set_statistics({"state": {"min": low, "max": high}, "action": {"min": -np.ones(1), "max": np.ones(1)}})
    windows = demonstrations(policy, generator)
    optimizer = torch.optim.AdamW(policy.denoiser.parameters(), 1e-3)
    for _ in range(400):
        optimizer.zero_grad()
        denoising_loss(policy, windows.draw(128, generator), generator).backward()
        optimizer.step()
    return policy.eval()


def demonstrations(policy, generator, episodes=200):
    offset = 2 * torch.rand(episodes, generator=generator) - 1
    bias = 0.15 * torch.randn(episodes, generator=generator)
    conditions, chunks = [], []
    for number in range(DECISIONS):
        left = (offset + bias) / (0.3 * ROWS)
        rows = (-0.8 * left[:, None] + 0.1 * torch.randn(episodes, ROWS, generator=generator)).clamp(-1, 1)
        conditions.append(policy.encode({"state": observed(offset, number)[:, None]}))
        chunks.append(rows[..., None])
        offset = moved(offset, rows)
    chunk = torch.cat(chunks)
    return EncodedWindows(torch.cat(conditions), chunk, torch.ones(chunk.shape[:2], dtype=torch.bool))


@torch.no_grad()
def roll_out(policy, seed, episodes=192, explore=True):
    """All episodes at once. Returns their segments and which succeeded."""
    generator = torch.Generator().manual_seed(seed)
    offset = 2 * torch.rand(episodes, generator=generator) - 1
    steps, *chunk = policy.noise_shape
    conditions, states = [], []
    for number in range(DECISIONS):
        conditions.append(policy.encode({"state": observed(offset, number)[:, None]}))
        noise = torch.randn(episodes, steps + explore, *chunk, generator=generator)
        states.append(policy.denoise(conditions[-1], noise).states)
        offset = moved(offset, states[-1][:, -1, :, 0])
    success = offset.abs() < NEAR_M
    conditions.append(policy.encode({"state": observed(offset, DECISIONS)[:, None]}))
    reward = torch.zeros(episodes, DECISIONS)
    reward[:, -1] = success * GAMMA ** (ROWS - 1)
    last = torch.zeros(episodes, DECISIONS, dtype=torch.bool)
    last[:, -1] = True
    return in_order_of_time(conditions, states, reward, last), float(success.float().mean())


def in_order_of_time(conditions, states, reward, last):
    episodes = len(reward)
    return PolicySegments(
        condition=torch.stack(conditions[:-1], 1).flatten(0, 1),
        states=torch.stack(states, 1).flatten(0, 1),
        reward=reward.flatten(),
        discount=torch.full((reward.numel(),), GAMMA**ROWS),
        next_condition=torch.stack(conditions[1:], 1).flatten(0, 1),
        terminated=last.flatten(),
        cut=torch.zeros_like(last).flatten(),
        taken_over=torch.zeros_like(last).flatten(),
        episode=torch.arange(episodes).repeat_interleave(DECISIONS),
        tick=(ROWS * torch.arange(DECISIONS)).repeat(episodes),
    )


def finetuned(policy, seed):
    ppo = PpoConfig(clip=0.2, epochs=4, learning_rate=1e-3, batch_size=192, reduction="mean")
    config = OnlineConfig(
        iterations=12, sampling_steps=5, sigma_min=0.05, sigma_max=0.15, ppo=ppo,
        value=ValueConfig(width=64, epochs=4), seed=seed,
    )  # fmt: skip
    learner = OnlineLearner(policy, None, config, RewardConfig(gamma=GAMMA))
    before = roll_out(learner.policy, 10_000, 500, explore=False)[1]
    for iteration in range(config.iterations):
        learner.learn(roll_out(learner.policy, 100 * seed + iteration)[0], None, iteration)
    return before, roll_out(learner.policy, 10_000, 500, explore=False)[1]


def test_online_ppo_raises_the_success_of_an_imperfect_imitation():
    rates = np.array([finetuned(imitation(seed), seed) for seed in range(3)])
    before, after = rates.T
    assert (after > before + 0.1).all(), rates
    assert after.mean() > 0.85, rates
