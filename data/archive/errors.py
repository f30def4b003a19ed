"""Turns what Icechunk, zarr and the file system raise into one line that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import icechunk
from zarr.errors import BaseZarrError

from data.archive.schema import DatasetError

STORAGE_ERRORS = (icechunk.IcechunkError, BaseZarrError, OSError, KeyError, TypeError, ValueError, RuntimeError)
"""What the layers below raise for a damaged or unreachable file; codecs raise the plain ones."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns a storage layer's error into a `DatasetError` that says what failed and why.

    Args:
        what: What was being done, for example `cannot read episode 000003 of dataset datasets/peg`.

    Raises:
        DatasetError: Anything that the storage layers raised; errors of ours pass unchanged.
    """
    try:
        yield
    except STORAGE_ERRORS as error:
        raise DatasetError(f"{what}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """The root cause in one line, without Icechunk's call trace."""
    text = str(error).strip()
    if not text:
        return type(error).__name__
    first = text.splitlines()[0].strip().removeprefix("x ")
    if isinstance(error, KeyError):
        return f"{first} is missing: the dataset is damaged or was written by another program"
    causes = [line.split("->", 1)[1].strip() for line in text.splitlines() if line.lstrip("|` ").startswith("->")]
    last = causes[-1] if causes else first
    return first if last in first or first.startswith("object store error") else f"{first}: {last}"
