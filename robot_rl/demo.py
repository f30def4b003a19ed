"""`robot-rl demo`: collect, train, export and evaluate on the simulated arm by the same commands a user types."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from robot_rl import train
from robot_rl.dataset_facts import dataset_facts
from robot_rl.evaluate import EvalSettings, evaluate
from robot_rl.export_command import ExportSettings, export
from robot_rl.machine_facts import environment_facts
from robot_rl.operate import CollectSettings, collect_episodes
from robot_rl.report import write_report
from robot_rl.settings import load
from robot_rl.summary import DemoSummary, LearningCurve, Role, StageResult
from robot_rl.types import Outcome, RobotRLError

MARKER = ".robot-rl-demo"
"""Only a directory with this file in it is ever replaced."""


@dataclass(frozen=True)
class Size:
    """How much of everything: demonstrations, training steps, evaluated episodes."""

    demonstrations: int
    steps: int
    episodes: int


SIZES = {"quick": Size(40, 1_500, 20), "full": Size(100, 3_000, 100)}


@dataclass
class DemoSettings:
    """Settings of `robot-rl demo`.

    Attributes:
        output: Directory of everything it makes; an earlier demo there is replaced.
        size: `full` or `quick`.
        robot: `metaworld` or `pusht`.
        seed: Of demonstrations, training and evaluation.
    """

    output: str = "runs/demo"
    size: str = "full"
    robot: str = "metaworld"
    seed: int = 0


@dataclass
class Demo:
    """One run of the demo: each stage says the command it stands for, runs it, and adds its row to the table."""

    settings: DemoSettings
    console: Console

    def __post_init__(self) -> None:
        """Names the places."""
        self.size = SIZES[self.settings.size]
        self.output = Path(self.settings.output)
        self.dataset, self.run = self.output / "dataset", self.output / "imitation"
        self.stages: list[StageResult] = []
        self.evaluation: dict[str, Any] = {}

    def collect(self) -> None:
        """Demonstrations by a scripted operator who is no better than people are."""
        overrides = [
            f"robot={self.settings.robot}",
            f"dataset={self.dataset}",
            f"episodes={self.size.demonstrations}",
            f"seed={self.settings.seed}",
        ]
        begun = self._announce("collect", overrides)
        results = collect_episodes(load(CollectSettings, "collect", overrides), Console(quiet=True)).results
        successes = sum(result.outcome is Outcome.SUCCESS for result in results)
        self.stages.append(
            StageResult(
                "demonstrations",
                time.perf_counter() - begun,
                successes,
                len(results),
                Role.DEMONSTRATIONS,
                "scripted operator with bias, noise and hesitation",
                sum(result.ticks for result in results),
            )
        )

    def train(self) -> None:
        """A diffusion policy by imitation of the successes."""
        overrides = [
            f"dataset={self.dataset}",
            f"run={self.run}",
            f"imitation.steps={self.size.steps}",
            f"imitation.seed={self.settings.seed}",
        ]
        begun = self._announce("train", overrides)
        train.main(overrides)
        self.stages.append(StageResult("training", time.perf_counter() - begun, what=f"{self.size.steps} steps"))

    def export(self) -> None:
        """The ONNX bundle, checked against torch."""
        overrides = [f"run={self.run}"]
        begun = self._announce("export", overrides)
        export(load(ExportSettings, "export", overrides))
        self.stages.append(StageResult("export", time.perf_counter() - begun, what="ONNX, agrees with torch"))

    def evaluate(self) -> None:
        """Closed loop on layouts that no demonstration showed."""
        overrides = [
            f"robot={self.settings.robot}",
            f"policy={self.run / 'bundle'}",
            f"episodes={self.size.episodes}",
            f"seed={100_000 + self.settings.seed}",
            f"workers={os.cpu_count() or 1}",
        ]
        begun = self._announce("eval", overrides)
        self.evaluation = evaluate(load(EvalSettings, "eval", overrides), self.console)
        self.stages.append(
            StageResult(
                "imitation policy",
                time.perf_counter() - begun,
                self.evaluation["successes"],
                self.evaluation["episodes"],
                what="closed loop, ONNX without torch, unseen layouts",
                environment_steps=sum(row["ticks"] for row in self.evaluation["rows"]),
                checkpoint="the last one",
            )
        )

    def report(self) -> Path:
        """summary.json and report.html."""
        video = self.run / "eval" / "eval.mp4"
        bundle = self.run / "bundle"
        summary = DemoSummary(
            title="From demonstrations to a policy on the robot",
            robot=self.evaluation["robot"],
            task=self.evaluation["task"],
            size=self.settings.size,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            stages=tuple(self.stages),
            dataset=dataset_facts(str(self.dataset)),
            latency_ms={"onnxruntime, one thread": self.evaluation["latencies"]},
            curves=(LearningCurve("imitation", self.run / "metrics.jsonl"),),
            video=video if video.exists() else None,
            next_commands=(
                (f"robot-rl data ls {self.dataset}", "look at the demonstrations"),
                (f"robot-rl deploy policy={bundle} episodes=3", "run the policy in real time"),
                ("robot-rl collect dataset=datasets/mine operator=keyboard", "drive yourself"),
                ("robot-rl doctor", "what this machine has and lacks"),
            ),
            environment=environment_facts(),
        )
        return write_report(self.output, summary)

    def _announce(self, command: str, overrides: Sequence[str]) -> float:
        self.console.rule(f"[bold]{command}", align="left")
        self.console.print(f"$ robot-rl {command} {' '.join(overrides)}", soft_wrap=True, highlight=False)
        return time.perf_counter()


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(DemoSettings, "demo", overrides)
    if settings.size not in SIZES:
        raise RobotRLError(f"size={settings.size}: wanted {' or '.join(SIZES)}")
    begun = time.perf_counter()
    console = Console(soft_wrap=True)
    claim(Path(settings.output))
    demo = Demo(settings, console)
    demo.collect()
    demo.train()
    demo.export()
    demo.evaluate()
    report = demo.report()
    _print_result(demo, report, time.perf_counter() - begun)
    return 0


def claim(output: Path) -> None:
    """An empty directory for the demo; an earlier demo in it goes.

    Raises:
        RobotRLError: Something else is there.
    """
    if output.exists() and any(output.iterdir()):
        if not (output / MARKER).exists():
            raise RobotRLError(f"{output} holds something that is not a demo: choose another with output=...")
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()


def _print_result(demo: Demo, report: Path, seconds: float) -> None:
    table = Table(title=f"{demo.evaluation['task']}, size {demo.settings.size}, {seconds / 60:.1f} min")
    for column in ("stage", "successes", "episodes", "95 % interval", "seconds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in demo.stages:
        judged = stage.episodes > 0
        table.add_row(
            stage.name,
            str(stage.successes) if judged else "",
            str(stage.episodes) if judged else "",
            f"{stage.interval.low:.2f} to {stage.interval.high:.2f}" if judged else "",
            f"{stage.seconds:.1f}",
        )
    demo.console.print(table)
    latency = demo.evaluation["latency_ms"]
    video = demo.run / "eval" / "eval.mp4"
    demo.console.print(
        f"latency per chunk  p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms (ONNX, one thread)\n"
        f"report             {report}\n"
        f"video              {video if video.exists() else 'none: see above'}\n"
        f"dataset            {demo.dataset}\n"
        f"policy             {demo.run / 'bundle'}",
        highlight=False,
    )
