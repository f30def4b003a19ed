"""Runs of `robot-rl improve` on a tiny world, and what is in them."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.run.checkpoint import load_policy
from tests.robot_rl.toy_improve import improve_settings

QUIET = Console(quiet=True)


def short(imitation: str, dataset: str, run: Path, **more):
    """One round, no rollouts before it, no control arm, no evaluation."""
    changes = {"rounds": 1, "first_rollouts": False, "control": "none", **more}
    settings = improve_settings(imitation, dataset, run, **changes)
    settings.evaluate.episodes = 0
    return settings


def infos_of(url: str | Path):
    with DatasetStore.open(str(url)) as store:
        return [store.info(each) for each in store.episode_ids()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(run).state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
