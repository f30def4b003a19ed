"""One writer at a time: an advisory lock that the kernel drops when its last holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from data.archive.schema import DatasetError

POLL_S = 0.05


class DatasetLocked(DatasetError):
    """Another process writes to the dataset."""


class WriterLock:
    """The right to write to one dataset.

    The lock belongs to the open file, so a child process that inherits `descriptor` shares it: it is free again when
    both have closed it or died.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, wait_s: float = 0.0) -> Self:
        """Takes the lock, or waits for its holder for a while.

        Args:
            path: The lock file; it is created, with its directory, and never deleted.
            wait_s: How long to wait for another holder [s].

        Raises:
            DatasetLocked: Names the holder and what to do.
            DatasetError: The directory cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise DatasetError(
                f"cannot write to dataset {path.parent}: {error.strerror}; "
                "make the directory writable, or choose another with dataset=<directory>"
            ) from error
        give_up = time.monotonic() + wait_s
        while not _try_lock(descriptor):
            if time.monotonic() >= give_up:
                holder = _describe_holder(descriptor)
                os.close(descriptor)
                raise DatasetLocked(
                    f"dataset {path.parent} is being written by {holder}; "
                    "wait until it ends, stop it, or choose another dataset"
                )
            time.sleep(POLL_S)
        _write_holder(descriptor)
        return cls(path, descriptor)

    @classmethod
    def inherited(cls, path: Path, descriptor: int) -> Self:
        """The lock of a parent process that passed its descriptor on."""
        return cls(path, descriptor)

    def release(self) -> None:
        """Closes this process's handle; safe to call more than once."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(descriptor: int) -> None:
    since = datetime.now(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    # The note is for people; a full disk must not keep anybody from deleting episodes.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _describe_holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError):
        return "another process"
