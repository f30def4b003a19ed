"""The report of `robot-rl finetune`: success while exploring, over the iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.reports.machine import environment_facts
from robot_rl.reports.page import write_report
from robot_rl.reports.summary import LearningCurve, RunSummary, StageResult, dataset_facts
from robot_rl.run.metrics import METRICS_FILE, read_metrics
from robot_rl.run.phases import Phase

ROWS = 6
"""Groups of iterations in the table."""


def write_finetune_report(settings: FinetuneSettings, directory: Path, robot: str, phases: Sequence[Phase]) -> Path:
    """Writes `report.html` and `summary.json` from what the run has logged. Returns the report."""
    lines = read_metrics(directory)
    stages = [StageResult(each.name, each.seconds, what=_facts(each.facts)) for each in phases]
    groups = np.array_split(np.arange(len(lines)), min(ROWS, len(lines))) if lines else []
    stages += [_row([lines[index] for index in group]) for group in groups]
    summary = RunSummary(
        title="Online reinforcement learning",
        robot=robot,
        task=settings.task.name,
        size="",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=tuple(stages),
        dataset=dataset_facts(str(directory / "dataset")),
        curves=(
            LearningCurve("value network", directory / METRICS_FILE, {"value_loss": "value loss"}),
            LearningCurve("imitation of the operator", directory / METRICS_FILE, {"imitation_loss": "imitation loss"}),
        ),
        next_commands=(
            (f"robot-rl eval policy={directory} task.name={settings.task.name}", "measure it without exploring"),
            (f"robot-rl export run={directory}", "write an ONNX bundle"),
        ),
        environment=environment_facts(),
        notes=(
            "Iterations count successes while exploring and without the operator's help, so they are lower than the "
            "policy's own success: `robot-rl eval` measures that, on seeds of its own.",
            "The policy is the newest iteration's; no episode chose it.",
        ),
    )
    return write_report(directory, summary)


def _facts(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if isinstance(value, (int, float)))


def _row(lines: Sequence[Mapping[str, float]]) -> StageResult:
    """Some consecutive iterations as one row."""

    def total(name: str) -> float:
        return sum(line.get(name, 0.0) for line in lines)

    first, last = int(lines[0]["step"]), int(lines[-1]["step"])
    what = "exploring, without help"
    if total("helped_episodes"):
        share = total("operator_ticks") / max(1.0, total("ticks"))
        what += f"; {total('successes'):.0f} with help, {total('takeovers'):.0f} takeovers, {share:.0%} of the ticks"
    if total("undone"):
        what += f"; {total('undone'):.0f} updates undone"
    return StageResult(
        f"iteration {first}" if first == last else f"iterations {first} to {last}",
        total("collect_seconds") + total("update_seconds"),
        int(total("unaided_successes")),
        int(total("collected")),
        what=what,
        environment_steps=int(total("ticks")),
        checkpoint=f"{last:08d}",
    )
