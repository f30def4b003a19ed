"""The process that turns finished logs into transactions, so that no control tick and no operator waits for it.

Started by `BackgroundCommits` as `python -m data.recorder.committer <url> <lock descriptor> durable|fast <niceness>`.
It reads one JSON object per line, `{"log": <path>}`, and writes one per event: `progress` with a fraction, `committed`
with the episode's id, or `failed` with the reason; a failed log stays where it is. It ends when its input does, after
the last job: a recorder that dies does not take the commits with it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

PROGRESS_S = 0.1


def serve(url: str, lock_descriptor: int, durable: bool, jobs: TextIO, events: TextIO) -> None:
    """Commits one log per line of `jobs`."""
    # Imported here, after the niceness is set: the storage library's threads inherit it.
    from data.archive.location import Location
    from data.archive.lock import WriterLock
    from data.archive.store import DatasetStore

    store: DatasetStore | None = None
    for line in jobs:
        path = Path(json.loads(line)["log"])
        try:
            if store is None:
                lock = WriterLock.inherited(Location.parse(url).lock_path, os.dup(lock_descriptor))
                store = DatasetStore.open(url, writable=True, lock=lock)
            _commit(store, path, durable, events)
        except Exception as error:
            # Whatever happened to this job, the next one gets its chance, from the state on disk.
            store = None
            _tell(events, event="failed", log=str(path), reason=f"{error}" or type(error).__name__)


def _commit(store: Any, path: Path, durable: bool, events: TextIO) -> None:
    from data.recorder.log import LogReader
    from data.recorder.recovery import commit_log

    began = last = time.monotonic()

    def progress(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_S:
            last = time.monotonic()
            _tell(events, event="progress", log=str(path), fraction=fraction)

    with LogReader(path) as log:
        episode_id = commit_log(store, log, progress, durable=durable)
    path.unlink()
    _tell(events, event="committed", log=str(path), episode=episode_id, seconds=time.monotonic() - began)


def _tell(events: TextIO, **event: Any) -> None:
    try:
        print(json.dumps(event), file=events, flush=True)
    except BrokenPipeError:
        # The recorder died; its episodes are still worth committing.
        return


if __name__ == "__main__":
    os.nice(int(sys.argv[4]))
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "durable", sys.stdin, sys.stdout)
    # A recorder that died leaves a closed pipe that Python would complain about on its way out.
    os._exit(0)
