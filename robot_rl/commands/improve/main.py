"""`robot-rl improve`: iterated offline RL on a policy, every update gated, beside imitation with the same budget.

runs/<name>/dataset/           the demonstrations, then the rollouts of every round
runs/<name>/start/             the policy to improve, acting with noise in every denoising step
runs/<name>/round-1/...        critic, dynamics, offline, rollouts, imitation, imitation-gate: a product each
runs/<name>/control/...        success-only re-imitation, no RL; its policy in control/checkpoints
runs/<name>/gate.jsonl         every decision of the gate
runs/<name>/checkpoints/       the final policy, for eval, export, distill and finetune
runs/<name>/evaluation/        episodes that report and never choose
runs/<name>/report.html        and summary.json
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.commands.evaluate import EvalSettings, evaluate
from robot_rl.commands.improve.report import ControlRecord, Improved, Judged, write_improve_report
from robot_rl.commands.improve.round import RoundRecord, run_round
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.commands.improve.steps import Branch, Steps
from robot_rl.config.settings import load
from robot_rl.core.decision import GATE_FILE
from robot_rl.core.files import write_whole
from robot_rl.run.checkpoint import load_policy
from robot_rl.run.dataset import copy_demonstrations, demonstrations_of, require_same_robot
from robot_rl.run.phases import StageRun, checkpoint_to_improve
from robot_rl.sessions.live import scene_for

DATASET, START, CONTROL = "dataset", "start", "control/"
RULE = (
    "the gate's reference after its last decision, unless the rollouts that followed took it back; no episode of the "
    "evaluation chose it"
)


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(ImproveSettings, "improve", overrides)
    improve(settings, Console(soft_wrap=True, highlight=False))
    return 0


def improve(settings: ImproveSettings, console: Console) -> Path:
    """Improves a policy, or goes on with the run that is there.

    Returns:
        The report.

    Raises:
        RobotRLError: Settings, dataset, policy and robot do not fit together; raised before anything is written.
    """
    scene = scene_for(settings, settings.realtime, settings.workers)
    settings = settings.resolve(scene.realtime)
    checkpoint = checkpoint_to_improve(settings.policy)
    policy = load_policy(checkpoint)
    directory = Path(settings.run)
    robot_spec = scene.robot.spec
    policy.spec.require(robot_spec, f"policy {settings.policy}")
    with DatasetStore.open(settings.dataset, snapshot=settings.snapshot) as source:
        require_same_robot(source, robot_spec)
        settings.refuse_seen_seeds([info.header.seed for info in demonstrations_of(source)], "demonstrations")
        defaults = dataclasses.asdict(ImproveSettings())
        run = StageRun(directory, settings.identity(source, policy.fingerprint()), console, defaults)
        copied = run.phase("demonstrations", lambda _: copy_demonstrations(source, directory / DATASET, robot_spec))
    with Steps(settings, run, console) as steps:
        start = _start(steps, checkpoint, copied.facts["snapshot"])
        branch, rounds = _rounds(steps, start)
        control = _control(steps, start, rounds)
        _finish(steps, directory, branch, checkpoint, RULE)
        judged = _evaluate(steps, checkpoint, rounds, control)
    facts = Improved(settings, directory, robot_spec.name, copied, rounds, control, judged)
    return write_improve_report(facts, console)


def _start(steps: Steps, checkpoint: Path, snapshot: str) -> Branch:
    """The policy to improve, made to explore, so that every policy of the run denoises alike."""
    config, dataset = steps.settings.offline, steps.run.directory / DATASET

    def work(directory: Path) -> dict[str, str]:
        policy = load_policy(checkpoint)
        exploring = policy.with_exploration(config.sampling_steps, config.sigma_min, config.sigma_max)
        provenance = {
            "dataset": str(dataset),
            "snapshot": snapshot,
            "parent": str(checkpoint),
            "parent_policy": policy.fingerprint(),
            "rule": "the policy to improve, with noise in every denoising step",
        }
        steps.save_policy(directory, exploring, provenance)
        return {"fingerprint": exploring.fingerprint()}

    return Branch("", dataset, snapshot, steps.run.phase(START, work).directory)


def _rounds(steps: Steps, branch: Branch) -> tuple[Branch, list[RoundRecord]]:
    settings, records = steps.settings, list[RoundRecord]()
    first_seeds = settings.rollout_seeds(settings.rounds, settings.rounds + 1)
    for number in range(settings.rounds):
        branch, record = run_round(steps, number, branch, settings.rollout_seeds(number, number + 1), first_seeds)
        records.append(record)
        # From the products: whatever a kill left half written, or wrote twice, is put right.
        lines = [json.dumps(each.to_json()) + "\n" for done in records for each in done.decisions]
        write_whole(steps.run.directory / GATE_FILE, "".join(lines))
    return branch, records


def _control(steps: Steps, start: Branch, rounds: Sequence[RoundRecord]) -> ControlRecord | None:
    """The same number of episodes and of steps of imitation, without reinforcement learning."""
    settings, run = steps.settings, steps.run
    if settings.control == "none":
        return None
    since, ticks = len(run.phases), 0
    branch = dataclasses.replace(start, name=CONTROL)
    if settings.control == "own":
        branch = dataclasses.replace(branch, dataset=run.directory / CONTROL / DATASET)
        with DatasetStore.open(str(start.dataset), snapshot=start.snapshot) as source:
            copied = run.phase(
                f"{CONTROL}demonstrations", lambda _: copy_demonstrations(source, branch.dataset, source.spec)
            )
        branch = dataclasses.replace(branch, snapshot=copied.facts["snapshot"])
    for number, record in enumerate(rounds):
        snapshot = record.rollouts["snapshot"]
        if settings.control == "own":
            seeds = [*settings.rollout_seeds(number, number + 1)]
            if record.began_with_rollouts:
                seeds += settings.rollout_seeds(settings.rounds, settings.rounds + 1)
            facts = steps.collect(f"round-{number + 1}/rollouts", branch, seeds).facts
            snapshot, ticks = facts["snapshot"], ticks + facts["ticks"]
        branch = dataclasses.replace(branch, snapshot=snapshot)
        imitated = steps.imitate(f"round-{number + 1}/imitation", branch, number)
        if imitated is not None:
            branch = dataclasses.replace(branch, policy=imitated.directory)
    _finish(steps, run.directory / CONTROL, branch, start.policy, "the last one: success-only re-imitation, no gate")
    return ControlRecord(branch.policy, ticks, sum(phase.seconds for phase in run.phases[since:]))


def _finish(steps: Steps, directory: Path, branch: Branch, parent: Path, rule: str) -> None:
    """The branch's policy as a run that every other command takes."""
    provenance = {
        "dataset": str(branch.dataset),
        "snapshot": branch.snapshot,
        "parent": str(parent),
        "parent_policy": load_policy(parent).fingerprint(),
        "chosen": str(branch.policy),
        "rule": rule,
    }
    steps.save_policy(directory, load_policy(branch.policy), provenance, steps.settings.rounds)


def _evaluate(
    steps: Steps, checkpoint: Path, rounds: Sequence[RoundRecord], control: ControlRecord | None
) -> dict[str, Judged]:
    """Success of every policy on the same episodes; a policy that two rounds share is run once."""
    settings = steps.settings
    if not settings.evaluate.seeds:
        return {}
    policies = {"imitation": checkpoint, **{f"round {each.number}": each.policy for each in rounds}}
    if control is not None:
        policies["control"] = control.policy
    final, judged = rounds[-1].policy, dict[str, Judged]()
    for name, policy in policies.items():
        inside = policy.is_relative_to(steps.run.directory)
        key = "-".join(policy.relative_to(steps.run.directory).parts) if inside else "imitation"

        def work(directory: Path, policy: Path = policy) -> dict[str, int]:
            film = settings.evaluate.film if policy == final else 0
            own = {"policy": str(policy), "output": str(directory), "workers": settings.workers, "film": film}
            document = evaluate(EvalSettings.within(settings, settings.evaluate, **own), steps.console)
            return {"successes": document["successes"], "episodes": document["episodes"]}

        phase = steps.run.phase(f"evaluation/{key}", work)
        judged[name] = Judged(phase.facts["successes"], phase.facts["episodes"], phase.directory, phase.seconds)
    return judged
