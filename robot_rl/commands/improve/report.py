"""What `robot-rl improve` has to show: every stage beside the control arm, and every decision of the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from robot_rl.commands.improve.round import RoundRecord
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.core.episode import Outcome
from robot_rl.reports.machine import environment_facts
from robot_rl.reports.page import write_report
from robot_rl.reports.summary import LearningCurve, Role, RunSummary, StageResult, dataset_facts
from robot_rl.run.phases import Phase


class Judged(NamedTuple):
    """Episodes of one policy."""

    successes: int
    episodes: int
    directory: Path
    seconds: float


class ControlRecord(NamedTuple):
    """The control arm's last policy, the robot ticks it consumed and its time [s]."""

    policy: Path
    ticks: int
    seconds: float


@dataclass(frozen=True)
class Improved:
    """All that the report is made of.

    Attributes:
        settings: Of the run.
        directory: Of the run.
        robot: Its name.
        demonstrations: The phase that copied them.
        rounds: In order.
        control: None without a control arm.
        judged: Name (`imitation`, `round 1`, `control`) to episodes; {} without an evaluation.
    """

    settings: ImproveSettings
    directory: Path
    robot: str
    demonstrations: Phase
    rounds: Sequence[RoundRecord]
    control: ControlRecord | None
    judged: Mapping[str, Judged]


def write_improve_report(facts: Improved, console: Console) -> Path:
    """Writes summary.json and report.html, and shows the table. Returns the report's path."""
    stages = stages_of(facts)
    video = (
        facts.judged[last].directory / "eval.mp4" if (last := f"round {len(facts.rounds)}") in facts.judged else None
    )
    run = facts.directory
    summary = RunSummary(
        title="Offline RL on recorded data, every update gated",
        robot=facts.robot,
        task=facts.settings.task.name,
        size=f"{facts.settings.rounds} rounds of {facts.settings.rollouts} rollouts",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=stages,
        dataset=dataset_facts(str(run / "dataset")),
        curves=tuple(
            LearningCurve(f"imitation again, round {each.number}", run / f"round-{each.number}/imitation/metrics.jsonl")
            for each in facts.rounds
            if (run / f"round-{each.number}/imitation/metrics.jsonl").exists()
        ),
        gate_decisions=tuple(decision for each in facts.rounds for decision in each.decisions),
        diagnostics={name: rows for each in facts.rounds for name, rows in diagnostics_of(each).items()},
        video=video if video is not None and video.exists() else None,
        next_commands=(
            (f"robot-rl deploy policy={run}", "run the policy in real time")
            if facts.settings.realtime
            else (f"robot-rl eval policy={run} episodes=100", "judge the policy on more episodes"),
            (f"robot-rl export run={run}", "an ONNX bundle of it"),
            (f"robot-rl data ls {run / 'dataset'}", "look at the demonstrations and rollouts"),
        ),
        environment=environment_facts(),
        notes=notes_of(facts),
    )
    report = write_report(run, summary)
    _show(console, stages, report, run)
    return report


def stages_of(facts: Improved) -> tuple[StageResult, ...]:
    """A row for the demonstrations, the imitation, each round and the control arm."""
    copied: Mapping[str, int] = facts.demonstrations.facts["copied"]
    stages = [
        StageResult(
            "demonstrations",
            facts.demonstrations.seconds,
            copied.get(str(Outcome.SUCCESS), 0),
            sum(copied.values()),
            Role.DEMONSTRATIONS,
            _left_out(facts.demonstrations.facts["left_out"]),
        ),
        _stage(facts, "imitation", 0.0, what="the policy to improve", checkpoint=facts.settings.policy),
    ]
    for each in facts.rounds:
        accepted = Counter(decision.accept for decision in each.decisions)
        stages.append(
            _stage(
                facts,
                f"round {each.number}",
                each.seconds,
                what=f"{accepted[True]} of {len(each.decisions)} updates accepted; {rollouts_in_words(each)}",
                environment_steps=each.ticks,
                checkpoint=f"{each.policy.relative_to(facts.directory)}, the gate's reference after its last decision",
            )
        )
    if facts.control is not None:
        stages.append(control_stage(facts, facts.control))
    return tuple(stages)


def control_stage(facts: Improved, control: ControlRecord) -> StageResult:
    """The control arm's row."""
    own = facts.settings.control == "own"
    data = "rollouts of its own, as many" if own else "the same grown data"
    return _stage(
        facts,
        "control",
        control.seconds,
        role=Role.BASELINE,
        what=f"success-only imitation again, no RL; {data}, as many steps",
        environment_steps=control.ticks if own else None,
        checkpoint=f"{control.policy.relative_to(facts.directory)}, the last one",
    )


def _stage(facts: Improved, name: str, seconds: float, **more: Any) -> StageResult:
    judged = facts.judged.get(name)
    if judged is None:
        return StageResult(name, seconds, **more)
    return StageResult(name, seconds + judged.seconds, judged.successes, judged.episodes, **more)


def rollouts_in_words(record: RoundRecord) -> str:
    """How the policy did while it explored."""
    outcomes: Mapping[str, int] = record.rollouts["outcomes"]
    successes = outcomes.get(str(Outcome.SUCCESS), 0)
    aborted = outcomes.get(str(Outcome.ABORTED), 0)
    told = f"{successes} of {record.rollouts['episodes']} rollouts succeeded while exploring"
    return f"{told}, {aborted} aborted and left out" if aborted else told


def diagnostics_of(record: RoundRecord) -> dict[str, dict[str, str]]:
    """What is known of a round's critic and transition model."""
    found: dict[str, dict[str, str]] = {}
    critic, model = record.critic, record.dynamics
    if critic:
        rank = critic["rank_correlation"]
        found[f"critic, round {record.number}"] = {
            "Possible returns": _range(critic["return_range"]),
            "V": _range(critic["v_range"]),
            "Q": _range(critic["q_range"]),
            "Values in range": f"{critic['share_in_range']:.1%}",
            "Rank correlation": "not known"
            if rank is None
            else f"{rank:.2f}, of V at the start with held-out outcomes",
            "Held-out episodes": str(critic["held_out_episodes"]),
            "Verdict": critic["problem"] or "nothing speaks against it",
        }
    if model:
        errors = ", ".join(f"{error:.2g} after {chunks}" for chunks, error in model["error_by_horizon"].items())
        still = ", ".join(f"{error:.2g} after {chunks}" for chunks, error in model["nothing_changes"].items())
        auc = model["termination_auc"]
        found[f"transition model, round {record.number}"] = {
            "Error over chunks": errors,
            "If nothing changed": still,
            "Endings told apart": "not known" if auc is None else f"{auc:.2f} (area under the curve)",
            "Reward error": f"{model['reward_error']:.3g}",
            "Held-out episodes": str(model["held_out_episodes"]),
        }
    return found


def notes_of(facts: Improved) -> tuple[str, ...]:
    """Sentences without which the figures could be misread."""
    notes = [remark for each in facts.rounds for remark in each.remarks]
    notes.append(
        "The policy of each round is the gate's reference after its last decision. Episodes of the evaluation have "
        "seeds of their own, were never learned from, and chose nothing."
    )
    if facts.control is None:
        notes.append("There was no control arm: what more data alone would have brought is not known.")
    if not facts.judged:
        notes.append(
            "No policy was evaluated, because episodes in real time need a person: robot-rl deploy judges the result."
            if facts.settings.realtime
            else "No policy was evaluated (evaluate.episodes=0)."
        )
    return tuple(notes)


def _left_out(left_out: Mapping[str, int]) -> str:
    gone = ", ".join(f"{count} {outcome}" for outcome, count in left_out.items())
    return f"left out: {gone}" if gone else ""


def _range(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.3g} to {bounds[1]:.3g}"


def _show(console: Console, stages: Sequence[StageResult], report: Path, run: Path) -> None:
    table = Table()
    for column in ("stage", "successes", "episodes", "95 % interval", "robot ticks", "seconds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in stages:
        judged = stage.episodes > 0
        table.add_row(
            stage.name,
            str(stage.successes) if judged else "",
            str(stage.episodes) if judged else "",
            f"{stage.interval.low:.2f} to {stage.interval.high:.2f}" if judged else "",
            "" if stage.environment_steps is None else str(stage.environment_steps),
            f"{stage.seconds:.1f}",
        )
    console.print(table)
    console.print(f"report   {report}\npolicy   {run}/checkpoints/last\nnext     robot-rl export run={run}")
