"""Batches of coming training steps, read in threads while the current one trains."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from data.windows import BatchOrder, Integers, WindowDataset


class BatchReader:
    """One process's share of the batches of consecutive steps. A context manager.

    Threads, not processes: reading is copying out of mapped memory, which runs beside Python, and a batch then needs
    no second copy to get here.

    Args:
        dataset: The windows.
        order: Which windows each step reads.
        first_step: The first step that will be asked for.
        last_step: The step after the last one.
        device: Where batches go.
        threads: Batches read at the same time.
        process: This process's number.
        processes: How many share each batch.

    Attributes:
        waited_s: Time `take` has spent waiting [s].
    """

    def __init__(
        self,
        dataset: WindowDataset,
        order: BatchOrder,
        first_step: int,
        last_step: int,
        device: torch.device,
        *,
        threads: int = 2,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.waited_s = 0.0
        self._dataset, self._order, self._device = dataset, order, device
        self._process, self._processes = process, processes
        self._next, self._last = first_step, last_step
        self._ahead = 2 * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="windows")
        self._pending: deque[Future[dict[str, Tensor]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops reading."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self) -> dict[str, Tensor]:
        """The next step's batch on the device, keys as `WindowDataset.batch`."""
        start = time.perf_counter()
        self._look_ahead()
        batch = self._pending.popleft().result()
        self.waited_s += time.perf_counter() - start
        self._look_ahead()
        return {key: value.to(self._device, non_blocking=True) for key, value in batch.items()}

    def _look_ahead(self) -> None:
        while len(self._pending) < self._ahead and self._next < self._last:
            # Here, not in the thread: the order keeps the current shuffle, and is not meant for several threads.
            share = self._order.indices(self._next)[self._process :: self._processes]
            self._pending.append(self._pool.submit(self._read, share))
            self._next += 1

    def _read(self, indices: Integers) -> dict[str, Tensor]:
        batch = {key: torch.from_numpy(value) for key, value in self._dataset.batch(indices).items()}
        if self._device.type == "cuda":
            batch = {key: value.pin_memory() for key, value in batch.items()}
        return batch
