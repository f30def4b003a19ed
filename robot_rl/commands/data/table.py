"""What `robot-rl data ls` shows: one row an episode, and a summary of the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from data.archive.store import DatasetStore
from robot_rl.core.episode import Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S, ArraySpec

STYLES = {str(Outcome.SUCCESS): "green", str(Outcome.FAILURE): "red", str(Outcome.ABORTED): "yellow"}


@dataclass(frozen=True)
class Row:
    """One episode of the table.

    Attributes:
        operator_share: Fraction of ticks that an operator drove, 0 to 1.
        bytes: Size before the archive's own compression.
        damage: Why the episode cannot be read; everything else is then empty.
    """

    id: str
    task: str = ""
    outcome: str = ""
    ticks: int = 0
    seconds: float = 0.0
    operator_share: float = 0.0
    seed: int = 0
    operator: str = ""
    started_at: str = ""
    bytes: int = 0
    damage: str = ""


def read_row(store: DatasetStore, episode_id: str) -> Row:
    """The row of an episode, from its attributes and its ticks but none of its frames."""
    try:
        info = store.info(episode_id)
        ticks = store.read(episode_id, [])
    except RobotRLError as error:
        return Row(episode_id, damage=str(error))
    span_ns = int(ticks.stamps_ns[-1] - ticks.stamps_ns[0]) + store.spec.tick_ns if len(ticks) else 0
    return Row(
        id=episode_id,
        task=info.header.task,
        outcome=str(info.result.outcome),
        ticks=info.result.ticks,
        seconds=span_ns / NS_PER_S,
        operator_share=float(np.mean(ticks.source == Source.OPERATOR)) if len(ticks) else 0.0,
        seed=info.header.seed,
        operator=info.header.operator,
        started_at=info.header.started_at,
        bytes=info.bytes,
    )


def table(store: DatasetStore, rows: Sequence[Row]) -> Group:
    """The table with the robot above it and the totals below."""
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name, justify in COLUMNS.items():
        # Where the terminal is narrow, rich shortens the columns that may wrap and leaves the others whole.
        grid.add_column(name, justify=justify, no_wrap=name not in SHORTENED, overflow="ellipsis")
    for row in rows:
        grid.add_row(*_cells(row))
    return Group(Text("\n".join(_about(store))), Text(), grid, Text(), Text("\n".join(summary(store, rows))))


COLUMNS: dict[str, Any] = {
    "id": "left",
    "task": "left",
    "outcome": "left",
    "ticks": "right",
    "seconds": "right",
    "driven by": "left",
    "seed": "right",
    "operator": "left",
    "when": "left",
    "size": "right",
}
SHORTENED = ("task", "operator", "when")


def _cells(row: Row) -> list[Text]:
    if row.damage:
        return [Text(row.id), Text("-"), Text("damaged", style="bold red"), *[Text("-")] * (len(COLUMNS) - 3)]
    return [
        Text(row.id),
        Text(row.task, no_wrap=True),
        Text(row.outcome, style=STYLES.get(row.outcome, "")),
        Text(str(row.ticks)),
        Text(f"{row.seconds:.1f}"),
        Text(driven_by(row.operator_share)),
        Text(str(row.seed) if row.seed >= 0 else "-"),
        Text(row.operator or "-", no_wrap=True),
        Text(row.started_at[:16].replace("T", " ") or "-", no_wrap=True),
        Text(size_words(row.bytes)),
    ]


def driven_by(operator_share: float) -> str:
    """Who drove: `operator`, `policy`, or the operator's share where both did."""
    if operator_share in (0.0, 1.0):
        return "operator" if operator_share else "policy"
    return f"operator {max(1, min(99, round(100 * operator_share)))} %"


def _about(store: DatasetStore) -> list[str]:
    spec = store.spec
    streams = [
        f"  {name}: {_array_words(stream)}" + (f", {store.codecs[name]}" if name in store.codecs else "")
        for name, stream in spec.observations.items()
    ]
    return [f"{store.url}: {spec.name} at {spec.control_hz:g} Hz", *streams, f"  action: {_array_words(spec.action)}"]


def _array_words(spec: ArraySpec) -> str:
    shape = " x ".join(map(str, spec.shape)) or "1"
    return f"{shape} {spec.dtype} [{spec.unit}]"


def summary(store: DatasetStore, rows: Sequence[Row]) -> list[str]:
    """The totals: episodes by outcome, hours, size, and where in its history the dataset stands."""
    outcomes = Counter(row.outcome for row in rows if not row.damage)
    counts = [f"{outcomes[str(outcome)]} {outcome}" for outcome in Outcome if outcomes[str(outcome)]]
    damaged = sum(1 for row in rows if row.damage)
    if damaged:
        counts.append(f"{damaged} damaged (robot-rl data verify {store.url} says more)")
    seconds, size = sum(row.seconds for row in rows), sum(row.bytes for row in rows)
    episodes = f"{len(rows)} episode{'' if len(rows) == 1 else 's'}"
    tags = [name for name, snapshot in store.tags().items() if snapshot == store.snapshot]
    return [
        episodes + (f" ({', '.join(counts)})" if counts else "") + f", {time_words(seconds)}, {size_words(size)}",
        f"snapshot {store.snapshot}" + (f", tagged {', '.join(tags)}" if tags else ""),
    ]


def as_document(store: DatasetStore, rows: Sequence[Row]) -> dict[str, Any]:
    """The same for machines."""
    return {
        "url": store.url,
        "snapshot": store.snapshot,
        "tags": store.tags(),
        "spec": store.spec.to_json(),
        "codecs": dict(store.codecs),
        "episodes": [asdict(row) for row in rows],
    }


def size_words(size: float) -> str:
    """Bytes as a person reads them."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def time_words(seconds: float) -> str:
    """A duration as a person reads it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"
