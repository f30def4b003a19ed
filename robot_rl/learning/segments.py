"""Where an episode is cut into segments, the pieces that learning takes it in: a decision's, an operator's, a window.

A segment is the ticks from one on to before another. The state that an episode's last action led to is not recorded: a
segment may hold that action only where nothing follows the episode, and there it terminates. Elsewhere the last tick's
observation is the last state to bootstrap from, and the action taken there begins and ends no segment.

Legend: `T` ticks of the episode, `m` segments.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Source
from robot_rl.core.errors import RobotRLError

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Segments(NamedTuple):
    """The segments of one episode, in order of their first ticks. All shapes (m,)."""

    kept: Integers
    """Index of each among the first ticks that were asked for; the others have no known consequence."""
    start: Integers
    """First tick."""
    end: Integers
    """First tick after it, at most `T`."""
    terminated: Flags
    """It ends with the last action of an episode that nothing follows."""
    cut: Flags
    """It ends otherwise, and none begins there: bootstrap, but look no further."""
    taken_over: Flags
    """It ends where another driver takes over."""


def segment(
    source: npt.NDArray[np.uint8],
    start: npt.ArrayLike,
    ends: bool,
    *,
    driver: Source | None = None,
    rows: int | None = None,
) -> Segments:
    """Cuts an episode.

    Args:
        source: Who drove, see `robot_rl.core.episode.Source`. Shape (T,).
        start: First ticks, ascending.
        ends: Whether nothing follows the episode's last action.
        driver: Whose segments: they end where somebody else takes over, and those that would begin at a tick of
            somebody else's are left out. None for everybody's, whoever takes over.
        rows: Ticks of a segment at most; None for all until the next one begins.

    Raises:
        RobotRLError: The first ticks do not ascend, or lie outside the episode.
    """
    length, start = len(source), np.asarray(start, dtype=np.int64)
    if len(start) and (start[0] < 0 or start[-1] >= length or (np.diff(start) <= 0).any()):
        raise RobotRLError(
            f"segments at ticks {start.tolist()} of an episode of {length}: wanted ascending, from 0 to less"
        )
    last = length if ends else max(length - 1, 0)
    foreign = np.zeros(length, dtype=bool) if driver is None else np.asarray(source) != driver
    kept = np.flatnonzero((start < last) & ~foreign[start])
    start = start[kept]
    takeovers = np.append(np.flatnonzero(foreign), length)
    takeover = takeovers[np.searchsorted(takeovers, start)]
    following = np.append(start[1:], length)[: len(start)]
    end = np.minimum(np.minimum(following if rows is None else start + rows, takeover), last)
    terminated = np.logical_and(ends, end == length)
    goes_on = (end == following) & (following < length)
    return Segments(kept, start, end, terminated, ~goes_on & ~terminated, (end == takeover) & (takeover < length))


def regular_starts(source: npt.NDArray[np.uint8], driver: Source, rows: int) -> Integers:
    """First ticks of segments of so many rows, counted anew from every tick at which a driver takes over."""
    ticks, drives = np.arange(len(source)), np.asarray(source) == driver
    takes_over = drives & ~np.append(False, drives[:-1])
    since = ticks - np.maximum.accumulate(np.where(takes_over, ticks, 0))
    return np.flatnonzero(drives & (since % rows == 0))
