"""Where a training run's numbers go: `metrics.jsonl`, TensorBoard or Weights & Biases, and the screen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import whole_lines, write_whole

METRICS_FILE = "metrics.jsonl"
TRACKERS = ("tensorboard", "wandb", "none")


class Tracker(Protocol):
    """Draws curves."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the numbers of one step."""

    def close(self) -> None:
        """Completes what was logged."""


class TensorBoard:
    """Event files in `<run>/tensorboard`."""

    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run logged beyond its last checkpoint happens again: `purge_step` hides the first time.
        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the same name in the project `robot-rl`."""

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise RobotRLError(
                "tracker=wandb needs the package wandb, which is optional: `pip install wandb` and `wandb login`, or "
                "use tracker=tensorboard"
            ) from error
        # The same directory is the same run, so that a resumed one goes on with its curves.
        identity = f"{run.name}-{hashlib.sha256(str(run.absolute()).encode()).hexdigest()[:8]}"
        self._run = wandb.init(project="robot-rl", name=run.name, id=identity, resume="allow", config=dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class MetricsLog:
    """Writes each logged step as one line of `metrics.jsonl` and hands it to the tracker. A context manager.

    Args:
        run: The run's directory.
        step: Steps done so far; lines of later ones, left by a killed run, are removed.
        tracker: One of `TRACKERS`.
        settings: Of the run, for the tracker.
    """

    def __init__(self, run: Path, step: int, tracker: str, settings: Mapping[str, Any]) -> None:
        self._tracker = _tracker(tracker, run, step, settings)
        path = run / METRICS_FILE
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files."""
        self._file.close()
        if self._tracker is not None:
            self._tracker.close()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the numbers of one step at once."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._tracker is not None:
            self._tracker.log(step, values)


def read_metrics(run: Path) -> list[dict[str, float]]:
    """Every logged step of a run, in order; a line cut off by a kill is left out. [] if there are none."""
    return [json.loads(line) for line in whole_lines(run / METRICS_FILE)]


def _tracker(name: str, run: Path, step: int, settings: Mapping[str, Any]) -> Tracker | None:
    if name == "none":
        return None
    if name == "tensorboard":
        return TensorBoard(run, step)
    if name == "wandb":
        return WeightsAndBiases(run, settings)
    raise RobotRLError(f"tracker is '{name}', wanted one of {', '.join(TRACKERS)}")


class Screen:
    """A progress bar in a terminal, a line now and then elsewhere. A context manager.

    Args:
        console: Where to.
        what: Is being done.
        total: Steps in all.
        first: Steps done before.
    """

    LINES = 10
    """Lines in all where there is no terminal."""

    def __init__(self, console: Console, what: str, total: int, first: int = 0) -> None:
        self._console, self._what, self._total = console, what, total
        self._next_line = first + max(1, total // self.LINES)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(what, total=total, completed=first, detail="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, detail: str) -> None:
        """Moves on to `done` and shows some numbers beside it."""
        self._progress.update(self._task, completed=done, detail=detail)
        if not self._console.is_terminal and (done >= self._next_line or done == self._total):
            self._console.print(f"{self._what} {done}/{self._total}  {detail}")
            self._next_line = done + max(1, self._total // self.LINES)
