"""Which rows of an episode make one training sample, and how a batch of samples is read.

A window belongs to one control tick: the observations up to it and the actions from it on. Row 0 of `action` is for
the newest observation's tick, as it is when the policy runs.

Legend: `T` ticks of all cached episodes end to end, `E` episodes, `B` batch, `n` observations per window,
`H` chunk length, `A` action dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data.training.window_cache import WindowCache
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray

Integers = npt.NDArray[np.int64]


class WindowRows(NamedTuple):
    """Where a batch of windows lies among all cached ticks.

    Attributes:
        observation: Rows to read as observations, oldest first. Shape (B, n).
        action: Rows to read as actions; beyond the episode's end its last row is repeated. Shape (B, H).
        valid: False for those repeated rows. Shape (B, H).
    """

    observation: Integers
    action: Integers
    valid: npt.NDArray[np.bool_]


class WindowIndex:
    """One window per tick of the chosen episodes; no window crosses an episode's end.

    Args:
        episode_ends: Row after the last one of each episode, ascending. Shape (E,).
        observation_count: n, observations per window.
        horizon: H, actions per window.
        episodes: Which episodes give windows; None is all.
    """

    def __init__(
        self,
        episode_ends: npt.ArrayLike,
        observation_count: int,
        horizon: int,
        episodes: Sequence[int] | Integers | None = None,
    ) -> None:
        if observation_count < 1 or horizon < 1:
            raise RobotRLError(
                f"a window of {observation_count} observations and {horizon} actions: both must be at least 1"
            )
        ends = np.asarray(episode_ends, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])
        chosen = np.arange(len(ends)) if episodes is None else np.asarray(episodes, dtype=np.int64)
        lengths = (ends - starts)[chosen]
        self._start = np.repeat(starts[chosen], lengths)
        self._end = np.repeat(ends[chosen], lengths)
        self._tick = np.concatenate([np.arange(starts[e], ends[e]) for e in chosen] or [np.zeros(0, dtype=np.int64)])
        self._before = np.arange(1 - observation_count, 1)
        self._after = np.arange(horizon)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._tick)

    def rows(self, indices: npt.ArrayLike) -> WindowRows:
        """Rows of some windows. Before an episode's start its first observation is repeated.

        Args:
            indices: Window numbers. Shape (B,).
        """
        which = np.asarray(indices, dtype=np.int64)
        tick, start, end = (each[which, None] for each in (self._tick, self._start, self._end))
        observation = np.maximum(tick + self._before, start)
        action = tick + self._after
        return WindowRows(observation, np.minimum(action, end - 1), action < end)


class WindowDataset:
    """Windows of cached episodes, read a batch at a time by fancy indexing.

    Args:
        cache: The cached episodes.
        observation_count: n, observations per window.
        horizon: H, actions per window.
        episodes: Which cached episodes give windows; None is all.
    """

    def __init__(
        self,
        cache: WindowCache,
        observation_count: int,
        horizon: int,
        episodes: Sequence[int] | Integers | None = None,
    ) -> None:
        self.cache = cache
        self.index = WindowIndex(cache.episode_ends, observation_count, horizon, episodes)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.index)

    def batch(self, indices: npt.ArrayLike) -> dict[str, AnyArray]:
        """Reads windows.

        Args:
            indices: Window numbers. Shape (B,).

        Returns:
            `obs/<stream>` (B, n, *shape): images uint8, everything else float32, in robot units; `action` (B, H, A)
            float32; `valid` (B, H) bool, False beyond the episode's end.
        """
        rows = self.index.rows(indices)
        batch: dict[str, AnyArray] = {
            f"obs/{name}": self.cache.read(name, rows.observation) for name in self.cache.streams
        }
        batch["action"] = self.cache.read_actions(rows.action)
        batch["valid"] = rows.valid
        return batch


@dataclass(frozen=True)
class EpisodeSplit:
    """Cached episodes to learn from and to keep aside, as positions in the cache, ascending."""

    training: tuple[int, ...]
    held_out: tuple[int, ...]


def split_episodes(episode_count: int, held_out_fraction: float, seed: int) -> EpisodeSplit:
    """Keeps whole episodes aside, chosen by `seed`; at least one if the fraction is above 0 and there are two.

    Whole episodes, because windows of one episode overlap and would leak from one side to the other.
    """
    if not 0.0 <= held_out_fraction < 1.0:
        raise RobotRLError(f"held-out fraction is {held_out_fraction}, wanted 0 (none) or more and less than 1")
    wanted = 0 if held_out_fraction == 0 else max(1, round(held_out_fraction * episode_count))
    shuffled = np.random.default_rng(seed).permutation(episode_count)
    held_out = shuffled[: min(wanted, episode_count - 1)] if episode_count > 1 else shuffled[:0]
    training = np.setdiff1d(np.arange(episode_count), held_out)
    return EpisodeSplit(tuple(training.tolist()), tuple(sorted(held_out.tolist())))


class BatchOrder:
    """Which windows each training step reads: a fresh shuffle per pass, computed from (seed, step) alone.

    Nothing is iterated, so there is no iterator state to save: a resumed run asks for step 1000 and gets what an
    uninterrupted one would.

    Args:
        window_count: Number of windows.
        batch_size: Windows per step.
        seed: Of the shuffles.
    """

    def __init__(self, window_count: int, batch_size: int, seed: int) -> None:
        if window_count < 1:
            raise RobotRLError("no windows to train on: the chosen episodes hold no ticks")
        self.window_count = window_count
        self.batch_size = batch_size
        self._seed = seed
        self._shuffles: dict[int, Integers] = {}

    def indices(self, step: int) -> Integers:
        """Windows of one step, counted from 0. Shape (batch_size,)."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        passes, offsets = np.divmod(positions, self.window_count)
        chosen = np.empty(self.batch_size, dtype=np.int64)
        for each in np.unique(passes):
            here = passes == each
            chosen[here] = self._shuffle(int(each))[offsets[here]]
        return chosen

    def _shuffle(self, which: int) -> Integers:
        if which not in self._shuffles:
            generator: Any = np.random.default_rng([self._seed, which])
            self._shuffles = {key: kept for key, kept in self._shuffles.items() if key == which - 1}
            self._shuffles[which] = generator.permutation(self.window_count)
        return self._shuffles[which]
