"""The stages of a run in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from robot_rl.reports.summary import Role, StageResult

COLUMNS = ("stage", "successes", "episodes", "95 % interval", "robot ticks", "seconds")


def stage_table(stages: Sequence[StageResult], title: str | None = None) -> Table:
    """A row for each stage; what was not judged has empty cells."""
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in stages:
        judged = stage.episodes > 0
        table.add_row(
            f"{stage.name} (for comparison)" if stage.role is Role.BASELINE else stage.name,
            str(stage.successes) if judged else "",
            str(stage.episodes) if judged else "",
            f"{stage.interval.low:.2f} to {stage.interval.high:.2f}" if judged else "",
            f"{stage.environment_steps:,}" if stage.environment_steps else "",
            f"{stage.seconds:.1f}",
        )
    return table
