"""Runs of `robot-rl train` that take a second."""

from pathlib import Path

import accelerate
import torch

from data.archive.store import DatasetStore
from data.training.window_cache import WindowCache
from data.training.windows import WindowDataset
from policies.diffusion import DiffusionPolicy
from robot_rl.commands.train.main import cache_root, main
from robot_rl.commands.train.plan import TrainSettings, make_plan
from robot_rl.learning.imitation import ImitationConfig, ImitationLearner
from robot_rl.run.training_loop import LogSettings, TrainingRun
from tests.robot_rl.toy_dataset import SPEC

ROOT = Path(__file__).parents[4]
SMALL = [
    "policy.streams=[state]",
    "policy.observation_count=2",
    "policy.horizon=4",
    "policy.mlp.width=16",
    "policy.mlp.blocks=1",
]
SHORT = ["imitation.steps=24", "imitation.batch_size=32", "imitation.warmup_steps=5", "log.tracker=none", "log.every=4"]
OFTEN = ["log.checkpoint_every=3", "device=cpu"]


def train(dataset: str, run: Path, *more: str) -> int:
    return main([f"dataset={dataset}", f"run={run}", *SMALL, *SHORT, *OFTEN, *more])


def assert_same_tensors(one, other) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_tensors(one[key], other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert_same_tensors(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def prepared(dataset: str, directory: Path, kind: type[ImitationLearner]) -> tuple[ImitationLearner, TrainingRun]:
    settings = TrainSettings(dataset=dataset, run=str(directory))
    settings.policy = {"_target_": "policies.diffusion.DiffusionPolicy", "streams": ["state"], "mlp": {"width": 16}}
    with DatasetStore.open(dataset) as store:
        plan = make_plan(settings, store)
        cache = WindowCache.build(store, plan.content, cache_root(dataset, None))
    torch.manual_seed(0)
    policy = DiffusionPolicy(SPEC, plan.policy_config)
    policy.set_statistics({"state": {"min": [-1] * 3, "max": [1] * 3}, "action": {"min": [-1] * 2, "max": [1] * 2}})
    config = ImitationConfig(steps=20, batch_size=16, warmup_steps=3)
    directory.mkdir()
    log = LogSettings(every=5, checkpoint_every=6, tracker="none")
    run = TrainingRun(directory, WindowDataset(cache, 2, 8), None, plan.record(policy), 2, log)
    return kind(policy, config, accelerate.Accelerator(cpu=True)), run
