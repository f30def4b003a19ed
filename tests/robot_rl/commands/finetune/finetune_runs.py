"""Short runs of `robot-rl finetune` on the toy robot, and what lies in their directories."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.learning.denoising_ppo import PpoConfig
from robot_rl.learning.offline.critic import CriticConfig
from robot_rl.learning.online.learner import OnlineConfig
from robot_rl.learning.online.value_learner import ValueConfig
from robot_rl.run.checkpoint import load_policy, save_checkpoint
from robot_rl.sessions.parallel import EpisodeCollector
from robot_rl.sessions.setup import TaskSettings
from tests.robot_rl.toy_reach import LIMITS, ReachRobot, StraightPolicy, reach_policy

EPISODES = 4


def settings(place: Path, operator=None, robot=None, **given) -> FinetuneSettings:
    """Two iterations of four episodes on the toy."""
    online = OnlineConfig(
        iterations=2,
        episodes_per_iteration=EPISODES,
        warmup_iterations=0,
        sampling_steps=4,
        sigma_min=0.1,
        sigma_max=0.5,
        ppo=PpoConfig(clip=0.2, epochs=2, batch_size=16, learning_rate=3e-4),
        value=ValueConfig(width=16, batch_size=16, epochs=2),
        imitation_batch_size=8,
        distillation_steps=2,
    )
    return FinetuneSettings(
        robot={"_target_": "tests.robot_rl.toy_reach.ReachRobot", **(robot or {})},
        limits=dict(LIMITS),
        operator={"_target_": "tests.robot_rl.toy_reach.GuidingOperator", **(operator or {})},
        task=TaskSettings("reach", 20),
        **{
            "policy": str(place / "start"),
            "run": str(place / "run"),
            "online": online,
            "critic": CriticConfig(steps=30, width=16, batch_size=16),
            "tracker": "none",
            **given,
        },
    )


def save_start(place: Path) -> None:
    policy = reach_policy(gain=1.5)
    kind = type(policy)
    record = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "config": policy.config.to_json(),
        "spec": policy.spec.to_json(),
        "provenance": {},
    }
    save_checkpoint(place / "start", 1, policy, {}, record)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def record_dataset(url: Path, succeed: bool = True, fail: bool = True) -> str:
    """Episodes of a policy that goes straight to the goal, cut short where they are to fail."""
    cases = [(20, range(4))] * succeed + [(1, range(50, 54))] * fail
    with DatasetStore.create(str(url), ReachRobot().spec) as store:
        for max_ticks, seeds in cases:
            session = settings(Path("."))
            session.task.max_ticks = max_ticks
            with EpisodeCollector(session) as collector:
                for each in collector.collect(StraightPolicy(), seeds):
                    store.append(each.episode)
    return str(url)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(run).state_dict()


def stored(run: Path):
    with DatasetStore.open(str(run / "dataset")) as store:
        return [store.read(each) for each in store.episode_ids()]
