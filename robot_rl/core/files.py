"""What a process that is killed at any moment leaves behind.

A file holds all of its new content or all of its old one, a folder appears under its name only when everything in it
is written, and of a file that grows line by line at most the last line is cut off.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PREFIX = ".writing"


def write_whole(path: Path, text: str) -> Path:
    """Replaces a file's text in one step; a process killed at any moment leaves it old or new.

    Args:
        path: File to write; its parent is made too.
        text: Written as UTF-8.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes `path`'s name, and place, when the block ends without an error.

    Args:
        path: File to write; its parent is made too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Adds a line and waits until the disk holds it; half a line left by a kill is cut off first.

    Args:
        path: File of lines; it and its parent are made.
        line: Without its end; written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[bytes]:
    """Every line of a file without its end; a last one cut off by a kill is left out. [] without a file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


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
            sync(path)
        try:
            os.rename(partial, final)
        except OSError:
            if not final.exists():
                raise
        sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on their disk.

    Raises:
        OSError: The disk failed.
    """
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
