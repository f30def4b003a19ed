"""The recorder's side of the commit process: hands logs over and hears what became of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.archive.lock import WriterLock
from data.archive.schema import DatasetError

EXIT_WAIT_S = 5.0


class CommitFailed(DatasetError):
    """An episode is recorded but not in the dataset; its log is kept."""


@dataclass(frozen=True)
class CommitProgress:
    """How far one episode's commit is.

    Attributes:
        log: The episode's log.
        fraction: 0 to 1; 1 once it is committed.
        episode_id: Its id once it is committed.
        seconds: How long the commit took, once it is committed.
        error: Why it failed, if it did.
    """

    log: Path
    fraction: float
    episode_id: str | None = None
    seconds: float | None = None
    error: str | None = None


class BackgroundCommits:
    """A queue of logs that a separate process works off at the lowest priority."""

    def __init__(
        self,
        url: str,
        lock: WriterLock,
        *,
        durable: bool,
        niceness: int,
        on_progress: Callable[[CommitProgress], None] | None,
    ) -> None:
        self._url = url
        self._lock = lock
        self._durable = durable
        self._niceness = niceness
        self._on_progress = on_progress
        self._changed = threading.Condition()
        self._pending: dict[Path, subprocess.Popen[str]] = {}
        self._failures: list[str] = []
        self._committed: list[str] = []
        self._start()

    def submit(self, log: Path) -> None:
        """Queues a finished log; returns at once."""
        with self._changed:
            if self._process.poll() is not None:
                self._start()
            process = self._process
            self._pending[log] = process
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"log": str(log)}) + "\n")
            process.stdin.flush()
        except OSError:
            # It died between the two lines above; its reader tells what that means for each log.
            return

    def pending(self) -> int:
        """Number of logs not worked off yet."""
        with self._changed:
            return len(self._pending)

    def committed(self) -> list[str]:
        """Ids of the episodes committed so far."""
        with self._changed:
            return list(self._committed)

    def note_failure(self, failure: str) -> None:
        """Adds a failure that happened before the commit to those that `take_failures` returns."""
        with self._changed:
            self._failures.append(failure)

    def take_failures(self) -> list[str]:
        """What went wrong since the last call, each beginning with the name of its log."""
        with self._changed:
            failures, self._failures = self._failures, []
            return failures

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until nothing is pending; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout_s)

    def close(self) -> None:
        """Lets the process end after its last job, without waiting for that job.

        With no job left, the process and the thread that listens to it have ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            return
        if not self.pending():
            self._process.wait(EXIT_WAIT_S)
            self._listener.join(EXIT_WAIT_S)

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = (self._url, self._lock.descriptor, "durable" if self._durable else "fast", self._niceness)
        # Its own session: Ctrl-C and a closed terminal are for the recorder, the commit goes on.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "data.recorder.committer", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(self._lock.descriptor,),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), name="commit events", daemon=True)
        self._listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._hear(json.loads(line))
        code = process.wait()
        with self._changed:
            lost = [log for log, owner in self._pending.items() if owner is process]
        for log in lost:
            reason = f"the commit process ended (exit status {code})"
            self._hear({"event": "failed", "log": str(log), "reason": reason})

    def _hear(self, event: dict[str, Any]) -> None:
        log = Path(event["log"])
        if event["event"] == "progress":
            progress = CommitProgress(log, event["fraction"])
        elif event["event"] == "committed":
            progress = CommitProgress(log, 1.0, event["episode"], event["seconds"])
        else:
            progress = CommitProgress(log, 0.0, error=event["reason"])
        self._tell(progress)
        if event["event"] == "progress":
            return
        with self._changed:
            if progress.error is not None:
                self._failures.append(f"{log.name}: {progress.error}")
            else:
                self._committed.append(str(progress.episode_id))
            del self._pending[log]
            self._changed.notify_all()

    def _tell(self, progress: CommitProgress) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(progress)
        except Exception as error:  # A display that fails must not leave everybody waiting for a commit that is done.
            self._on_progress = None
            self.note_failure(f"{progress.log.name}: showing progress failed: {type(error).__name__}: {error}")
