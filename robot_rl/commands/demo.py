"""`robot-rl demo`: the whole story on the simulated arm, by the same commands a user types.

Imperfect demonstrations -> imitation -> improve -> finetune with a simulated operator -> distill -> ONNX.
Every policy is judged on the same unseen layouts; none of them is chosen by that.
"""

from __future__ import annotations

import json
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

from robot_rl.commands import distill
from robot_rl.commands.collect import CollectSettings, collect_episodes
from robot_rl.commands.evaluate import EvalSettings, evaluate
from robot_rl.commands.export import ExportSettings, export
from robot_rl.commands.finetune.main import finetune
from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.commands.improve.main import improve
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.commands.train.main import main as train
from robot_rl.config.settings import load
from robot_rl.core.decision import GATE_FILE, read_decisions
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.reports.machine import environment_facts
from robot_rl.reports.page import write_report
from robot_rl.reports.summary import LearningCurve, Role, RunSummary, StageResult, dataset_facts

MARKER = ".robot-rl-demo"
"""Only a directory with this file in it is ever replaced."""


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        demonstrations: Episodes to begin with.
        steps: Of imitation.
        episodes: Judged, of every policy.
        improve: Settings of `robot-rl improve`.
        finetune: Settings of `robot-rl finetune`.
        distill: Settings of `robot-rl distill`.
    """

    demonstrations: int
    steps: int
    episodes: int
    improve: tuple[str, ...]
    finetune: tuple[str, ...]
    distill: tuple[str, ...]


SIZES = {
    "quick": Size(
        demonstrations=40,
        steps=1_500,
        episodes=20,
        improve=(
            "rollouts=20",
            "critic.steps=600",
            "dynamics.steps=400",
            "offline.batches=100",
            "imitation.steps=200",
            "second_estimator=false",
        ),
        finetune=("iterations=4", "episodes_per_iteration=20", "critic.steps=500"),
        distill=("distillation.steps=800",),
    ),
    "full": Size(
        demonstrations=100,
        steps=3_000,
        episodes=100,
        improve=(
            "rollouts=60",
            "fitted_q.steps=300",
        ),
        finetune=("iterations=10", "episodes_per_iteration=50"),
        distill=("distillation.steps=2000",),
    ),
}
ROBOTS = ("metaworld", "pusht")


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
    """One run of the demo: each stage says the command it stands for, runs it, and adds its rows to the table."""

    settings: DemoSettings
    console: Console

    def __post_init__(self) -> None:
        """Names the places."""
        self.size = SIZES[self.settings.size]
        self.output = Path(self.settings.output)
        self.dataset, self.imitation = self.output / "dataset", self.output / "imitation"
        self.improved, self.finetuned = self.output / "improve", self.output / "finetune"
        self.student = self.output / "one-step"
        self.stages: list[StageResult] = []
        self.evaluation: dict[str, Any] = {}
        self._robot = f"robot={self.settings.robot}"
        self._workers = f"workers={os.cpu_count() or 1}"
        self._judged = 100_000 + self.settings.seed

    def collect(self) -> None:
        """Demonstrations by a scripted operator who is no better than people are."""
        overrides = [
            self._robot,
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
            f"run={self.imitation}",
            f"imitation.steps={self.size.steps}",
            f"imitation.seed={self.settings.seed}",
        ]
        begun = self._announce("train", overrides)
        train(overrides)
        self.stages.append(StageResult("training", time.perf_counter() - begun, what=f"{self.size.steps} steps"))

    def improve(self) -> None:
        """Two rounds of offline RL behind the gate, beside imitation alone on the same budget; all of them judged."""
        overrides = [
            self._robot,
            f"policy={self.imitation}",
            f"dataset={self.dataset}",
            f"run={self.improved}",
            "rounds=2",
            *self.size.improve,
            f"seed={self.settings.seed}",
            f"evaluate.episodes={self.size.episodes}",
            f"evaluate.seed={self._judged}",
            "evaluate.film=0",
            self._workers,
        ]
        self._announce("improve", overrides)
        improve(load(ImproveSettings, "improve", overrides), self.console)
        rows = [StageResult.from_json(row) for row in _summary(self.improved)["stages"]]
        self.stages += [row for row in rows if row.role is not Role.DEMONSTRATIONS]

    def finetune(self) -> None:
        """Online RL while a simulated operator watches and takes over."""
        overrides = [
            self._robot,
            "operator=corrector",
            f"policy={self.improved}",
            f"dataset={self.improved / 'dataset'}",
            f"run={self.finetuned}",
            *self.size.finetune,
            "reward.intervention_penalty=1",
            f"seed={400_000 + self.settings.seed}",
            self._workers,
        ]
        begun = self._announce("finetune", overrides)
        finetune(load(FinetuneSettings, "finetune", overrides), self.console)
        seconds = time.perf_counter() - begun
        collected = [StageResult.from_json(row) for row in _summary(self.finetuned)["stages"]]
        self._judge(
            "online, with interventions",
            self.finetuned,
            seconds,
            "the newest iteration",
            sum(row.environment_steps or 0 for row in collected),
        )

    def distill(self) -> None:
        """The same policy in one step, as the ONNX bundle that a robot's computer runs."""
        overrides = [
            f"policy={self.finetuned}",
            f"dataset={self.finetuned / 'dataset'}",
            f"run={self.student}",
            *self.size.distill,
        ]
        begun = self._announce("distill", overrides)
        distill.main(overrides)
        overrides = [f"run={self.student}"]
        self._announce("export", overrides)
        export(load(ExportSettings, "export", overrides))
        seconds = time.perf_counter() - begun
        self._judge("one step, ONNX without torch", self.student / "bundle", seconds, "the last one", None, film=4)

    def report(self) -> Path:
        """summary.json and report.html."""
        improved = _summary(self.improved)
        bundle = self.student / "bundle"
        video = self.student / "eval" / "eval.mp4"
        summary = RunSummary(
            title="From demonstrations to a one-step policy on the robot",
            robot=self.evaluation["robot"],
            task=self.evaluation["task"],
            size=self.settings.size,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            stages=tuple(self.stages),
            dataset=dataset_facts(str(self.dataset)),
            latency_ms={"one step, onnxruntime, one thread": self.evaluation["latencies"]},
            curves=(
                LearningCurve("imitation", self.imitation / "metrics.jsonl"),
                LearningCurve("one step", self.student / "metrics.jsonl"),
            ),
            gate_decisions=tuple(read_decisions(self.improved / GATE_FILE)),
            diagnostics=improved["diagnostics"],
            video=video if video.exists() else None,
            next_commands=(
                (f"robot-rl data ls {self.finetuned / 'dataset'}", "demonstrations, rollouts and corrections"),
                (f"robot-rl deploy policy={bundle} episodes=3", "run the policy in real time"),
                (
                    f"robot-rl finetune policy={self.finetuned} run=runs/mine operator=keyboard",
                    "correct it yourself",
                ),
                ("robot-rl collect dataset=datasets/mine operator=keyboard", "drive yourself"),
                ("robot-rl doctor", "what this machine has and lacks"),
            ),
            environment=environment_facts(),
            notes=(
                f"All policies were judged on the same {self.size.episodes} layouts, which nothing was learned from "
                "and which chose nothing. The control arm imitates its successes again on the same number of rollouts.",
                *improved["notes"],
            ),
        )
        return write_report(self.output, summary)

    def _judge(
        self, name: str, policy: Path, seconds: float, checkpoint: str, ticks: int | None, film: int = 0
    ) -> None:
        overrides = [
            self._robot,
            f"policy={policy}",
            f"output={policy if policy.name != 'bundle' else policy.parent}/eval",
            f"episodes={self.size.episodes}",
            f"seed={self._judged}",
            f"video_episodes={film}",
            self._workers,
        ]
        self._announce("eval", overrides)
        self.evaluation = evaluate(load(EvalSettings, "eval", overrides), self.console)
        self.stages.append(
            StageResult(
                name,
                seconds,
                self.evaluation["successes"],
                self.evaluation["episodes"],
                what="closed loop, unseen layouts",
                environment_steps=ticks,
                checkpoint=checkpoint,
            )
        )

    def _announce(self, command: str, overrides: Sequence[str]) -> float:
        self.console.rule(f"[bold]{command}", align="left")
        self.console.print(f"$ robot-rl {command} {' '.join(overrides)}", soft_wrap=True, highlight=False)
        return time.perf_counter()


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(DemoSettings, "demo", overrides)
    for name, value, allowed in (("size", settings.size, SIZES), ("robot", settings.robot, ROBOTS)):
        if value not in allowed:
            raise RobotRLError(f"{name}={value}: wanted {' or '.join(allowed)}")
    begun = time.perf_counter()
    console = Console(soft_wrap=True)
    claim(Path(settings.output))
    demo = Demo(settings, console)
    for stage in (demo.collect, demo.train, demo.improve, demo.finetune, demo.distill):
        stage()
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


def _summary(run: Path) -> dict[str, Any]:
    """What a command's report says, for programs."""
    return dict(json.loads((run / "summary.json").read_text()))


def _print_result(demo: Demo, report: Path, seconds: float) -> None:
    table = Table(title=f"{demo.evaluation['task']}, size {demo.settings.size}, {seconds / 60:.1f} min")
    for column in ("stage", "successes", "episodes", "95 % interval", "robot ticks", "seconds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in demo.stages:
        judged = stage.episodes > 0
        table.add_row(
            f"{stage.name} (for comparison)" if stage.role is Role.BASELINE else stage.name,
            str(stage.successes) if judged else "",
            str(stage.episodes) if judged else "",
            f"{stage.interval.low:.2f} to {stage.interval.high:.2f}" if judged else "",
            f"{stage.environment_steps:,}" if stage.environment_steps else "",
            f"{stage.seconds:.1f}",
        )
    demo.console.print(table)
    latency = demo.evaluation["latency_ms"]
    video = demo.student / "eval" / "eval.mp4"
    demo.console.print(
        f"latency per chunk  p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms (one step, ONNX, one thread)\n"
        f"report             {report}\n"
        f"video              {video if video.exists() else 'none: see above'}\n"
        f"dataset            {demo.finetuned / 'dataset'}\n"
        f"policy             {demo.student / 'bundle'}",
        highlight=False,
    )
