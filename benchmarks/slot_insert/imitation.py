"""Imitation from episodes in memory: the library's windows, order and learner without a dataset on disk.

Legend: `B` batch, `N` observations per window, `H` chunk length, `M` windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.slot_insert.robot import SPEC, STREAM
from data.training.windows import BatchOrder, WindowIndex
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from robot_rl.core.episode import Episode
from robot_rl.learning.imitation import ImitationConfig, ImitationLearner


class MemoryWindows:
    """Windows of episodes in memory, each tick's once.

    Args:
        episodes: At least one.
        observation_count: N.
        horizon: H.
    """

    def __init__(self, episodes: Sequence[Episode], observation_count: int, horizon: int) -> None:
        ends = np.cumsum([len(each) for each in episodes])
        self._index = WindowIndex(ends, observation_count, horizon)
        self._state = np.concatenate([each.per_tick(STREAM) for each in episodes])
        self._action = np.concatenate([each.applied for each in episodes])

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, indices: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Keys and shapes as `WindowDataset.batch`."""
        rows = self._index.rows(indices)
        return {
            f"obs/{STREAM}": torch.from_numpy(self._state[rows.observation]),
            "action": torch.from_numpy(self._action[rows.action]),
            "valid": torch.from_numpy(rows.valid),
        }

    def statistics(self) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
        """Range of the stream and of the action, for the normaliser."""
        arrays = {STREAM: self._state, "action": self._action}
        return {name: {"min": values.min(axis=0), "max": values.max(axis=0)} for name, values in arrays.items()}


def new_policy(episodes: Sequence[Episode], config: DiffusionPolicyConfig, seed: int) -> DiffusionPolicy:
    """An untrained policy whose normaliser knows the episodes' range; it is fitted once for the whole method."""
    torch.manual_seed(seed)
    policy = DiffusionPolicy(SPEC, config)
    policy.set_statistics(MemoryWindows(episodes, config.observation_count, config.horizon).statistics())
    return policy


def imitate(policy: DiffusionPolicy, episodes: Sequence[Episode], config: ImitationConfig) -> DiffusionPolicy:
    """What a policy becomes by imitating episodes: the average of its weights, in evaluation mode."""
    windows = MemoryWindows(episodes, policy.observation_count, policy.horizon)
    learner = ImitationLearner(policy, config, Accelerator(cpu=True))
    order = BatchOrder(len(windows), config.batch_size, config.seed)
    for step in range(config.steps):
        learner.update(windows.batch(order.indices(step)), step)
    return learner.average
