"""The steps of a training run: read, update, log, judge, save, and stop cleanly when asked to.

Batches of coming training steps, read in threads while the current one trains.
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from data.training.windows import BatchOrder, Integers, WindowDataset
from policies.trainable import Trainable
from robot_rl.learning.descent import Diverged
from robot_rl.learning.imitation import LOWER_RATE, ImitationConfig
from robot_rl.run.checkpoint import load_training_state, load_weights, newest_checkpoint, save_checkpoint
from robot_rl.run.metrics import MetricsLog, Screen


@dataclass
class LogSettings:
    """What to note on the way, in steps; nothing here changes what is learned.

    Attributes:
        every: Between lines of metrics.
        held_out_every: Between measurements of the held-out loss.
        sample_every: Between measurements of sampled chunks on held-out windows, which take much longer.
        held_out_windows: At most this many windows are judged.
        checkpoint_every: Between checkpoints.
        tracker: `tensorboard`, `wandb` or `none`.
    """

    every: int = 100
    held_out_every: int = 500
    sample_every: int = 5_000
    held_out_windows: int = 512
    checkpoint_every: int = 5_000
    tracker: str = "tensorboard"


class Learner(Protocol):
    """What the loop trains, for example an `ImitationLearner`; a step must be a function of state, batch and number."""

    @property
    def config(self) -> ImitationConfig:
        """Steps, batch size, seed and learning rate."""

    @property
    def accelerator(self) -> Accelerator:
        """Device, precision and processes."""

    @property
    def average(self) -> Trainable:
        """The policy that a checkpoint holds."""

    def update(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """One optimiser step; returns the loss, detached, or raises `Diverged`."""

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs besides the average's weights."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""


class Judge(Protocol):
    """What a policy is worth on data that it never learned from, by name of the metric."""

    def quick(self, policy: Trainable) -> dict[str, float]:
        """What is measured often."""

    def thorough(self, policy: Trainable) -> dict[str, float]:
        """What is measured seldom."""


@dataclass(frozen=True)
class TrainingRun:
    """What a run works with.

    Attributes:
        directory: Of the run.
        dataset: Windows to learn from.
        held_out: Windows to judge by, None without any.
        record: What every checkpoint says about itself.
        readers: Threads that read windows.
        log: See `LogSettings`.
    """

    directory: Path
    dataset: WindowDataset
    held_out: Judge | None
    record: Mapping[str, Any]
    readers: int
    log: LogSettings


def train_imitation(learner: Learner, run: TrainingRun, console: Console) -> bool:
    """Trains from the newest checkpoint, or from the beginning, to the last step.

    Interrupted (Ctrl-C, SIGTERM), it finishes the step, saves and returns; a second time it stops at once.

    Returns:
        Whether the last step was reached.
    """
    first = resume(learner, run.directory)
    if first:
        console.print(f"resumed  from step {first}")
    accelerator, config = learner.accelerator, learner.config
    order = BatchOrder(len(run.dataset), config.batch_size, config.seed)
    reader = BatchReader(
        run.dataset,
        order,
        first,
        config.steps,
        accelerator.device,
        threads=run.readers,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    notes = _Notes(learner, run, reader, first, console)
    with reader, notes, StopRequest(accelerator.num_processes == 1) as stop:
        for step in range(first, config.steps):
            try:
                loss = learner.update(reader.take(), step)
            except Diverged as error:
                raise Diverged(f"{error}. {_newest(run.directory)}") from error
            notes.take(step + 1, loss)
            if stop.requested and step + 1 < config.steps:
                notes.save(step + 1)
                console.print(f"stopped  at step {step + 1}, saved; the same command goes on from there")
                return False
    return True


def resume(learner: Learner, directory: Path) -> int:
    """Loads the newest checkpoint of a run. Returns the steps done, 0 without a checkpoint."""
    checkpoint = newest_checkpoint(directory)
    if checkpoint is None:
        return 0
    load_weights(checkpoint, learner.average)
    learner.load_state(load_training_state(checkpoint))
    return int(checkpoint.name)


def _newest(directory: Path) -> str:
    return f"The newest checkpoint is {newest_checkpoint(directory) or 'none'}"


class _Notes:
    """Logs, judges and saves when it is due; only the first of several processes does. A context manager."""

    def __init__(self, learner: Learner, run: TrainingRun, reader: BatchReader, first: int, console: Console) -> None:
        self._learner, self._run, self._reader = learner, run, reader
        self._active = learner.accelerator.is_main_process
        self._steps = learner.config.steps
        self._log = MetricsLog(run.directory, first, run.log.tracker, run.record) if self._active else None
        self._screen = Screen(console, "training", self._steps, first)
        self._losses: list[torch.Tensor] = []
        self._since = time.perf_counter()
        self._waited_before = 0.0

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, error, trace)
        if self._log is not None:
            self._log.__exit__(kind, error, trace)

    def take(self, done: int, loss: torch.Tensor) -> None:
        """Notes a finished step."""
        self._losses.append(loss)
        settings = self._run.log
        if not self._due(done, settings.every, settings.held_out_every, settings.sample_every):
            self._save_if_due(done)
            return
        values = self._measure(done)
        if self._active and self._log is not None:
            values |= self._judge(done)
            self._log.log(done, values)
        self._screen.show(done, "  ".join(f"{name} {value:.4g}" for name, value in values.items()))
        self._save_if_due(done)
        # Judging and saving are not training: they do not count as slow steps.
        self._since, self._waited_before = time.perf_counter(), self._reader.waited_s

    def save(self, done: int) -> None:
        """Writes a checkpoint."""
        if self._active:
            learner = self._learner
            save_checkpoint(self._run.directory, done, learner.average, learner.state(), self._run.record)

    def _due(self, done: int, *every: int) -> bool:
        return done == self._steps or any(each > 0 and done % each == 0 for each in every)

    def _save_if_due(self, done: int) -> None:
        if self._due(done, self._run.log.checkpoint_every):
            self.save(done)

    def _measure(self, done: int) -> dict[str, float]:
        """Numbers of the steps since the last time."""
        loss = float(torch.stack(self._losses).mean())
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} at step {done}: {LOWER_RATE}. {_newest(self._run.directory)}")
        elapsed_s = time.perf_counter() - self._since
        waited_s = self._reader.waited_s - self._waited_before
        config = self._learner.config
        values = {
            "loss": loss,
            "learning_rate": config.learning_rate_at(done - 1),
            "samples_per_second": len(self._losses) * config.batch_size / elapsed_s,
            "data_wait_share": waited_s / elapsed_s,
        }
        self._losses.clear()
        return values

    def _judge(self, done: int) -> dict[str, float]:
        """Numbers of the episodes kept aside, if it is time for them."""
        held_out, settings, values = self._run.held_out, self._run.log, dict[str, float]()
        if held_out is not None and self._due(done, settings.held_out_every):
            values |= held_out.quick(self._learner.average)
        if held_out is not None and self._due(done, settings.sample_every):
            values |= held_out.thorough(self._learner.average)
        return values


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag, so that a step is never cut in two. A context manager.

    Args:
        active: Several processes must stop together, which a flag in one of them cannot do: False leaves signals be.
    """

    def __init__(self, active: bool) -> None:
        self.requested = False
        self._active = active
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if self._active:
            for kind in (signal.SIGINT, signal.SIGTERM):
                try:
                    self._previous[kind] = signal.signal(kind, self._request)
                except ValueError:  # Not the main thread: whoever runs us there handles signals.
                    break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for kind, handler in self._previous.items():
            signal.signal(kind, handler)
        self._previous.clear()


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
