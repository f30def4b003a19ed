"""Records episodes: the control tick hands over, a thread compresses and logs, a process commits.

    tick -> append() -> queue -> recording thread: encode, one write to the log -> acknowledged
                                 end(): last record -> commit process: log -> one transaction -> log deleted

Nothing that the control tick calls waits for the encoder, the disk or the network. If the thread falls behind by
`queue_s` seconds or the disk fails, the next call raises and what was acknowledged stays in the log.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from data.archive.location import Location
from data.archive.lock import WriterLock
from data.archive.schema import DatasetError
from data.archive.store import DatasetStore
from data.recorder.background_commits import BackgroundCommits, CommitFailed, CommitProgress
from data.recorder.log import SUFFIX, LogHead, LogWriter
from data.recorder.recording import Recording
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Step
from robot_rl.core.specs import RobotSpec

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class RecorderSettings:
    """How an `EpisodeWriter` treats disk and memory.

    Attributes:
        queue_s: How far encoding and writing may fall behind the control tick before recording fails [s]. Two
            480x640 cameras at 30 Hz are 55 MB of memory per second of it.
        sync_s: How often the log is forced to the disk, hence the most that a power loss can take [s]; None for
            never. A killed process loses nothing that was acknowledged, whatever this says.
        min_free_bytes: An episode does not begin with less free space than this.
        lock_wait_s: How long to wait for the commits of a recorder that just ended [s].
        durable: Whether a log is kept until its episode survives a power loss.
        niceness: Of the commit process: enough to let the control loop go first, not so much that a trainer beside it
            starves it. At 19 the operator waited up to 35 s for a commit on a busy machine.
    """

    queue_s: float = 4.0
    sync_s: float | None = 1.0
    min_free_bytes: int = 256 * MEGABYTE
    lock_wait_s: float = 10.0
    durable: bool = True
    niceness: int = 5


class EpisodeWriter:
    """An `EpisodeSink` that keeps episodes in a dataset. A context manager; leaving it waits for the commits."""

    def __init__(
        self,
        url: str,
        spec: RobotSpec,
        codecs: Mapping[str, str] | None = None,
        *,
        options: RecorderSettings | None = None,
        on_progress: Callable[[CommitProgress], None] | None = None,
        new_uuid: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """Nothing is touched before the context is entered.

        Args:
            url: The dataset, made if it is not there.
            spec: The robot.
            codecs: As for `DatasetStore.create`.
            options: How fast and how safe it records.
            on_progress: Told about commits, from another thread.
            new_uuid: Names the recordings.
        """
        self._url = url
        self._spec = spec
        self._wanted_codecs = codecs
        self._options = options or RecorderSettings()
        self._on_progress = on_progress
        self._new_uuid = new_uuid
        self._location = Location.parse(url)
        self._lock: WriterLock | None = None
        self._commits: BackgroundCommits | None = None
        self._running: Recording | None = None
        self._ending: list[Recording] = []
        self._discarded: list[Recording] = []

    def __enter__(self) -> Self:
        """Takes the dataset's lock and starts the commit process.

        Raises:
            SpecMismatch: The dataset holds another robot.
            DatasetLocked: Another recorder is at work.
            DatasetError: The dataset cannot be written.
        """
        lock = WriterLock.acquire(self._location.lock_path, self._options.lock_wait_s)
        # On failure it gives the lock back.
        store = DatasetStore.create(self._url, self._spec, self._wanted_codecs, lock=lock)
        self._codecs = store.codecs
        self._lock = lock
        self._commits = BackgroundCommits(
            self._url,
            lock,
            durable=self._options.durable,
            niceness=self._options.niceness,
            on_progress=self._on_progress,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keeps a running episode as aborted, waits for every commit and gives the lock back.

        Raises:
            CommitFailed: An episode is not in the dataset; not raised over another error.
        """
        try:
            if self._running is not None:
                self._running.abort("interrupted" if kind is None else f"interrupted: {kind.__name__}: {error}")
                self._ending.append(self._running)
                self._running = None
            self._drain(None)
            # A thread that the interpreter's end meets in the middle of a codec would abort the process.
            for recording in self._discarded:
                recording.join(None)
        finally:
            self._close()
        if error is None:
            self._raise_failures()

    @property
    def acknowledged(self) -> int:
        """Ticks of the running episode that no death of this process can take away any more."""
        return self._running.acknowledged if self._running is not None else 0

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """Starts an episode.

        Raises:
            SpecMismatch: `spec` is not this dataset's.
            CommitFailed: An earlier episode could not be committed.
            DatasetError: Too little space, or the log cannot be made.
        """
        commits = self._entered()
        if self._running is not None:
            raise DatasetError("an episode is running: end() or discard() it before the next begin()")
        self._spec_must_equal(spec)
        self._raise_failures()
        self._require_space()
        name = self._new_uuid()
        log = LogWriter(self._location.journal / f"{name}{SUFFIX}", LogHead(name, spec, header, self._codecs))
        limit = math.ceil(self._options.queue_s * spec.control_hz)
        self._ending = [recording for recording in self._ending if not recording.done]
        self._discarded = [recording for recording in self._discarded if not recording.done]
        self._running = Recording(
            log,
            queue_ticks=limit,
            sync_s=self._options.sync_s,
            on_finished=commits.submit,
            on_failed=commits.note_failure,
            after=self._ending[-1] if self._ending else None,
        )

    def append(self, step: Step) -> None:
        """Takes one step and returns in well under a millisecond.

        Raises:
            RecordingFailed: This step does not fit the spec, or an earlier one could not be written. It is not
                recorded; those acknowledged are kept.
        """
        self._episode().append(step)

    def end(self, result: EpisodeResult) -> None:
        """Lets the log be finished and committed in the background; the next episode can begin at once.

        An episode that ended before its first tick is not kept. After a failure of the recording the acknowledged
        ticks are kept as an aborted episode.

        Raises:
            RecordingFailed: `result.ticks` is not the number of steps taken.
        """
        recording = self._episode()
        if result.ticks == recording.ticks == 0:
            self.discard()
            return
        recording.end(result)
        self._running = None
        self._ending.append(recording)

    def discard(self) -> None:
        """Throws the running episode away."""
        recording = self._episode()
        recording.discard()
        self._running = None
        self._discarded.append(recording)

    def pending(self) -> int:
        """Episodes that have ended and are not committed yet."""
        return sum(not recording.done for recording in self._ending) + self._entered().pending()

    def committed(self) -> list[str]:
        """Ids of the episodes committed by this writer so far."""
        return self._entered().committed()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for the commits of all ended episodes.

        Returns:
            Whether nothing is pending any more.

        Raises:
            CommitFailed: An episode is not in the dataset; its log is kept.
        """
        drained = self._drain(timeout_s)
        self._raise_failures()
        return drained

    def _entered(self) -> BackgroundCommits:
        if self._commits is None:
            raise DatasetError(f"the recorder of {self._url} is not open: use it in a with statement")
        return self._commits

    def _episode(self) -> Recording:
        if self._running is None:
            raise DatasetError("no episode is running: begin() one first")
        return self._running

    def _spec_must_equal(self, spec: RobotSpec) -> None:
        if spec != self._spec:
            DatasetStore.open(self._url).require_spec(spec)

    def _require_space(self) -> None:
        try:
            self._location.journal.mkdir(parents=True, exist_ok=True)
            disk = os.statvfs(self._location.journal)
        except OSError as error:
            raise DatasetError(f"cannot record into {self._location.journal}: {error.strerror}") from error
        free = disk.f_bavail * disk.f_frsize
        if free < self._options.min_free_bytes:
            raise DatasetError(
                f"only {free // MEGABYTE} MB free for {self._location.journal}, an episode needs "
                f"{self._options.min_free_bytes // MEGABYTE} MB to begin: free space on its disk"
            )

    def _drain(self, timeout_s: float | None) -> bool:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for recording in self._ending:
            recording.join(_remaining(deadline))
        done = all(recording.done for recording in self._ending)
        return self._entered().wait(_remaining(deadline)) and done

    def _raise_failures(self) -> None:
        failures = self._entered().take_failures()
        if failures:
            raise CommitFailed(
                f"{len(failures)} recorded episode(s) could not be committed whole:\n  "
                + "\n  ".join(failures)
                + f"\nnothing acknowledged is lost: logs stay in {self._location.journal} until they are committed, "
                f"which the next `robot-rl collect dataset={self._url}` offers to do"
            )

    def _close(self) -> None:
        if self._commits is not None:
            self._commits.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _remaining(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
