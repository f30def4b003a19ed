"""Range and spread of what a policy learns from; its normaliser is fitted on them.

Legend: `N` ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from data.window_cache import WindowCache
from robot_rl.types import AnyArray, RobotRLError

ROWS_AT_ONCE = 65_536

Reader = Callable[[npt.NDArray[np.int64]], AnyArray]
"""From rows (N,) to their values (N, *shape)."""

Statistics = dict[str, dict[str, AnyArray]]
"""Stream name or `action` to `min`, `max`, `mean`, `std` (each of one value's shape) and `count` (N, a scalar)."""


def cache_statistics(cache: WindowCache, episodes: Sequence[int]) -> Statistics:
    """Statistics of the low-dimensional streams and the action over every tick of some cached episodes.

    Cameras have none: their range is that of uint8.

    Args:
        cache: The episodes.
        episodes: Positions in the cache; those kept aside must not be among them.

    Raises:
        RobotRLError: The episodes hold no ticks.
    """
    rows = cache.episode_rows(episodes)
    if len(rows) == 0:
        raise RobotRLError("no ticks to compute statistics from")
    readers: dict[str, Reader] = {name: partial(cache.read, name) for name in cache.streams if not cache.is_image(name)}
    readers["action"] = cache.read_actions
    return {name: _describe(read, rows) for name, read in readers.items()}


def _describe(read: Reader, rows: npt.NDArray[np.int64]) -> dict[str, AnyArray]:
    """Reads a part at a time, and again for the spread, which is then exact."""
    parts = np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE))
    mean = np.sum([read(part).sum(axis=0, dtype=np.float64) for part in parts], axis=0) / len(rows)
    squares = [np.square(read(part) - mean).sum(axis=0) for part in parts]
    return {
        "min": np.min([read(part).min(axis=0) for part in parts], axis=0),
        "max": np.max([read(part).max(axis=0) for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(np.sum(squares, axis=0) / len(rows)),
        "count": np.array(len(rows)),
    }
