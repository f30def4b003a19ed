"""A `.npy` file that grows, for arrays whose length is known only at the end."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from robot_rl.core.specs import AnyArray


class NpyAppender:
    """Writes rows to a `.npy` file as they come; a context manager, after which the file is readable.

    Args:
        path: File to create.
        row_shape: Shape of one row.
        dtype: Rows are converted to it.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.length = 0
        self._row_shape = row_shape
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes the final length into the header, unless something failed."""
        if kind is not None:
            with contextlib.suppress(OSError):  # A full disk fails again here; the first error is the one to show.
                self._file.close()
            return
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def append(self, rows: AnyArray) -> None:
        """Adds rows of shape (N, *row_shape)."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} for an array of rows of shape {self._row_shape}")
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.length += len(rows)

    def _write_header(self) -> None:
        """Same size for any length: numpy leaves room for the first axis to grow."""
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.length, *self._row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
