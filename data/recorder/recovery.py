"""Turns logs into episodes: at the end of an episode, and after a crash.

A log is deleted only once its episode is committed and on the disk, so a crash at any moment leaves the log, the
episode, or both; the recording's uuid tells the last case apart, and no episode is ever stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.archive.layout import Progress
from data.archive.location import Location
from data.archive.lock import WriterLock
from data.archive.store import DatasetStore
from data.recorder.log import SUFFIX, LogReader, LogWithoutHead
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Outcome

DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class LeftLog:
    """A log that no running recorder owns.

    Attributes:
        path: Where it is.
        header: What was known when its episode began; None if not even that can be read.
        ticks: How many whole ticks it holds.
        result: The episode's own result if it came to its end, else the one it would be recovered under.
        finished: Whether it came to its end and only the commit is missing.
        problem: What keeps the rest of the file from being read, if anything.
    """

    path: Path
    header: EpisodeHeader | None
    ticks: int
    result: EpisodeResult | None
    finished: bool
    problem: str | None


@dataclass(frozen=True)
class Recovered:
    """What became of one log. `episode_id` is None when it held no tick; `kept` is set when bytes were left unread."""

    log: LeftLog
    episode_id: str | None
    kept: Path | None


def recoverable(url: str, *, wait_s: float = 0.0) -> list[LeftLog]:
    """Logs left behind by a crash or by a commit that failed, oldest first.

    Args:
        url: The dataset.
        wait_s: How long to wait for a recorder that is just finishing [s].

    Raises:
        DatasetLocked: A recorder is running: the logs are its own.
    """
    location = Location.parse(url)
    if not location.journal.is_dir():
        return []
    with WriterLock.acquire(location.lock_path, wait_s):
        return _left_logs(location)


def recover(
    url: str,
    logs: Sequence[LeftLog] | None = None,
    *,
    wait_s: float = 0.0,
    progress: Callable[[LeftLog, float], None] | None = None,
) -> list[Recovered]:
    """Commits left logs: finished ones under their own result, the others as aborted and truncated.

    Args:
        url: The dataset.
        logs: Which; None for all.
        wait_s: How long to wait for a recorder that is just finishing [s].
        progress: Told the log at work and the fraction of it that is done.

    Raises:
        DatasetError: A commit failed, for example on a full disk; the log stays for another try.
    """
    location = Location.parse(url)
    if not location.journal.is_dir():
        return []
    done = []
    with DatasetStore.open(url, writable=True, wait_s=wait_s) as store:
        for log in _left_logs(location) if logs is None else logs:
            # Whoever waited for the lock may find that the last holder committed it.
            if log.path.exists():
                done.append(_recover_one(store, log, progress))
    return done


def commit_log(store: DatasetStore, log: LogReader, progress: Progress, *, durable: bool = True) -> str:
    """Commits a log's episode and returns its id; the log is not touched.

    Args:
        store: Writable.
        log: Any log; one without a result becomes an aborted episode.
        progress: Told the fraction done.
        durable: Whether to wait until the commit survives a power loss.
    """
    store.append_encoded(log.episode(log.result or aborted(log)), progress=progress)
    if durable:
        store.sync()
    return store.newest_id


def aborted(log: LogReader) -> EpisodeResult:
    """The result of an episode whose recorder died."""
    rewards = log.rewards
    reason = f"the recorder died at tick {len(log)}" + (f"; {log.problem}" if log.problem and not log.torn else "")
    return EpisodeResult(
        outcome=Outcome.ABORTED,
        terminated=False,
        truncated=True,
        reason=reason,
        ticks=len(log),
        reward_sum=float(rewards.sum(dtype="float64")),
        reward_max=float(rewards.max()) if len(rewards) else 0.0,
    )


def _left_logs(location: Location) -> list[LeftLog]:
    logs = [_look_at(path) for path in sorted(location.journal.glob(f"*{SUFFIX}"))]
    return sorted(logs, key=lambda log: log.header.started_at if log.header else "")


def _look_at(path: Path) -> LeftLog:
    try:
        with LogReader(path) as log:
            result = log.result or aborted(log)
            return LeftLog(path, log.head.header, len(log), result, log.result is not None, log.problem)
    except LogWithoutHead as error:
        return LeftLog(path, None, 0, None, False, None if error.torn else str(error))


def _recover_one(store: DatasetStore, left: LeftLog, progress: Callable[[LeftLog, float], None] | None) -> Recovered:
    if left.header is None:
        return Recovered(left, None, _retire(left.path, damaged=left.problem is not None))
    with LogReader(left.path) as log:
        damaged = log.problem is not None and not log.torn
        if len(log) == 0 and log.result is None:
            return Recovered(left, None, _retire(left.path, damaged))
        episode_id = store.id_of(log.head.uuid)
        if episode_id is None:
            episode_id = commit_log(store, log, lambda fraction: progress(left, fraction) if progress else None)
        else:
            store.sync()
    return Recovered(left, episode_id, _retire(left.path, damaged))


def _retire(path: Path, damaged: bool) -> Path | None:
    """Deletes a log, or moves it aside if some of its bytes could not be read."""
    if not damaged:
        path.unlink()
        return None
    return path.rename(path.with_suffix(DAMAGED_SUFFIX))
