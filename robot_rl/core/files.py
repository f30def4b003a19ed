"""Files that hold all of their new text or all of their old one.

Folders that appear under their name only when everything in them is written.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".writing"


def write_whole(path: Path, text: str) -> Path:
    """Replaces a file's text in one step; a process killed at any moment leaves it old or new.

    Args:
        path: File to write; its parent is made too.
        text: Written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that is renamed to it when the block ends without an error.

    A process killed before that leaves nothing under the final name; what it leaves under a temporary one is removed
    by the next call beside it. If `final` has appeared meanwhile, this copy is dropped.

    Args:
        final: Folder to make; its parent is made too.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final.parent)
    partial = final.parent / f"{PREFIX}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial.mkdir()
    try:
        yield partial
        for path in (*partial.iterdir(), partial):
            _sync(path)
        try:
            os.rename(partial, final)
        except OSError:
            if not final.exists():
                raise
        _sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    """Returns when the file or folder is on its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    """Deletes what processes killed on this machine have left."""
    for path in parent.glob(f"{PREFIX}-{socket.gethostname()}-*"):
        process = int(path.name.split("-")[-2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            continue
