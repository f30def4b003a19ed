"""What happens to episodes on a bad disk: run in a process of its own, on a file system of its own.

`python -m tests.data.recorder.storage_faults <scenario> <directory>`; a failed assertion is a failed test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.archive.schema import DatasetError
from data.archive.store import DatasetStore
from data.recorder.background_commits import CommitFailed
from data.recorder.recording import RecordingFailed
from data.recorder.recovery import recover, recoverable
from data.recorder.writer import EpisodeWriter, RecorderSettings
from robot_rl.core.episode import Outcome
from tests.data.recordings import LOSSLESS, SPEC, difference, episode, header, prefix, result, steps

OPTIONS = RecorderSettings(sync_s=0.05, min_free_bytes=0, niceness=0)


def _mount(directory: Path, size_kb: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", directory], check=True)


def _remount(directory: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", directory], check=True)


def _record(writer: EpisodeWriter, seed: int, ticks: int) -> None:
    writer.begin(SPEC, header(seed))
    for step in steps(seed, ticks):
        writer.append(step)
    writer.end(result(ticks))


def _append_until_it_fails(writer: EpisodeWriter, seed: int, ticks: int, words: str) -> int:
    """Appends until the disk refuses; returns how many ticks were acknowledged."""

    def append_all() -> None:
        for step in steps(seed, ticks):
            writer.append(step)
            time.sleep(0.0005)

    writer.begin(SPEC, header(seed))
    with pytest.raises(RecordingFailed, match=f"^[^\n]*{words}[^\n]*$"):
        append_all()
    return writer.acknowledged


def _leave_free(directory: Path, free_kb: int) -> None:
    """Fills the disk with ballast up to what is to stay free."""
    ballast = directory / "ballast"
    ballast.unlink(missing_ok=True)
    disk = os.statvfs(directory)
    size = disk.f_bavail * disk.f_frsize - free_kb * 1024
    if size > 0:
        ballast.write_bytes(bytes(size))


def disk_full_while_recording(directory: Path) -> None:
    """The disk fills up in the middle of an episode; later there is space again."""
    _mount(directory, 4096)
    url, ticks = str(directory / "set"), 8000
    # Whether the last record still finds room is chance; if it does, its commit does not.
    with contextlib.suppress(CommitFailed), EpisodeWriter(url, SPEC, LOSSLESS, options=OPTIONS) as writer:
        _record(writer, 0, 50)
        assert writer.wait(60)
        _leave_free(directory, 400)
        acknowledged = _append_until_it_fails(writer, 1, ticks, "No space left on device; free space on its disk")
        assert acknowledged > 100
        writer.end(result(1))
    assert DatasetStore.open(url).episode_ids() == ["000000"]
    _leave_free(directory, 2500)
    (left,) = recoverable(url)
    assert left.ticks == acknowledged
    (recovered,) = recover(url)
    _check_aborted(url, recovered.episode_id, 1, ticks, acknowledged)
    assert difference(DatasetStore.open(url).read("000000"), episode(0, 50)) is None


def _check_aborted(url: str, episode_id: str | None, seed: int, ticks: int, acknowledged: int) -> None:
    assert episode_id is not None
    read = DatasetStore.open(url).read(episode_id)
    assert len(read) == acknowledged
    assert (read.result.outcome, read.result.truncated) == (Outcome.ABORTED, True)
    assert difference(read, prefix(episode(seed, ticks), acknowledged, read.result)) is None


def disk_full_while_committing(directory: Path) -> None:
    """The disk has space for the log but not for the transaction, down to the last kilobyte."""
    _mount(directory, 8192)
    url = str(directory / "set")
    with EpisodeWriter(url, SPEC, LOSSLESS, options=OPTIONS) as writer:
        _record(writer, 0, 50)
        assert writer.wait(60)
        writer.begin(SPEC, header(1))
        for step in steps(1, 400):
            writer.append(step)
        while writer.acknowledged < 400:
            time.sleep(0.001)
        _leave_free(directory, 8)
        writer.end(result(400))
        with pytest.raises(CommitFailed, match="No space left on device"):
            writer.wait(60)
        with pytest.raises(DatasetError, match="0 MB free"):
            _begin_with_space_required(url, writer)
    free_kb = 0
    while recoverable(url):
        assert recoverable(url)[0].result == result(400)
        _leave_free(directory, free_kb)
        free_kb += 40
        if free_kb < 200:
            with pytest.raises(DatasetError, match="No space left on device"):
                recover(url)
        else:
            with contextlib.suppress(DatasetError):
                recover(url)
        assert difference(DatasetStore.open(url).read("000000"), episode(0, 50)) is None
    assert difference(DatasetStore.open(url).read("000001"), episode(1, 400)) is None
    assert DatasetStore.open(url).episode_ids() == ["000000", "000001"]


def _begin_with_space_required(url: str, writer: EpisodeWriter) -> None:
    writer._options = dataclasses.replace(OPTIONS, min_free_bytes=1 << 20)
    writer.begin(SPEC, header(2))


def read_only(directory: Path) -> None:
    """The file system was mounted read-only."""
    _mount(directory, 4096)
    url = str(directory / "set")
    with EpisodeWriter(url, SPEC, LOSSLESS, options=OPTIONS) as writer:
        _record(writer, 0, 20)
    _remount(directory, "ro")
    check_read_only(url, "Read-only file system")


def check_read_only(url: str, words: str) -> None:
    """A dataset that cannot be written can be read, and whoever wants to write is told why not."""
    for attempt in (
        lambda: EpisodeWriter(url, SPEC, options=OPTIONS).__enter__(),
        lambda: DatasetStore.open(url, writable=True),
        lambda: DatasetStore.create(url, SPEC),
        lambda: DatasetStore.create(f"{url}/other", SPEC),
    ):
        with pytest.raises(DatasetError, match=f"cannot write to dataset {url}.*{words}; make the directory writable"):
            attempt()
    assert difference(DatasetStore.open(url).read("000000"), episode(0, 20)) is None


def file_size_limit(directory: Path) -> None:
    """A quota instead of a full disk; needs no privilege."""
    url, ticks = str(directory / "set"), 8000
    with EpisodeWriter(url, SPEC, LOSSLESS, options=OPTIONS) as writer:
        _record(writer, 0, 50)
        assert writer.wait(60)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        acknowledged = _append_until_it_fails(writer, 1, ticks, "File too large; check its disk")
        assert acknowledged > 100
        writer.end(result(1))
    assert DatasetStore.open(url).episode_ids() == ["000000"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (recovered,) = recover(url)
    _check_aborted(url, recovered.episode_id, 1, ticks, acknowledged)


SCENARIOS = {
    each.__name__: each for each in (disk_full_while_recording, disk_full_while_committing, read_only, file_size_limit)
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
