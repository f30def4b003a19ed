"""Range and spread of what a policy learns from; its normaliser is fitted on them.

Legend: `N` ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from data.training.window_cache import WindowCache
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray

ROWS_AT_ONCE = 65_536
ELEMENTS_AT_ONCE = 8_000_000
"""A tick of a point cloud holds thousands of numbers."""

Reader = Callable[[npt.NDArray[np.int64]], AnyArray]
"""From rows (N,) to their values (N, *shape)."""

Statistics = dict[str, dict[str, AnyArray]]
"""Stream name or `action` to `min`, `max`, `mean`, `std` (each of one value's shape) and `count` (N, a scalar).

The points of a cloud are in no order, so their statistics are those of one point, over all of them: of shape (D,).
"""


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
    return {name: _describe(read, rows, cache.is_point_cloud(name)) for name, read in readers.items()}


def _describe(read: Reader, rows: npt.NDArray[np.int64], over_points: bool) -> dict[str, AnyArray]:
    """Reads a part at a time, and again for the spread, which is then exact."""
    at_once = min(ROWS_AT_ONCE, max(1, ELEMENTS_AT_ONCE // max(1, read(rows[:1]).size)))
    parts = np.array_split(rows, -(-len(rows) // at_once))
    axis = (0, 1) if over_points else 0
    values = len(rows) * (read(rows[:1]).shape[1] if over_points else 1)
    mean = np.sum([read(part).sum(axis=axis, dtype=np.float64) for part in parts], axis=0) / values
    squares = [np.square(read(part) - mean).sum(axis=axis) for part in parts]
    return {
        "min": np.min([read(part).min(axis=axis) for part in parts], axis=0),
        "max": np.max([read(part).max(axis=axis) for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(np.sum(squares, axis=0) / values),
        "count": np.array(len(rows)),
    }
