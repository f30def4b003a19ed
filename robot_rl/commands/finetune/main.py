"""`robot-rl finetune`: online RL on the robot, with an operator who may take over.

runs/<name>/config.json        what the command decided; the same command again resumes the run
runs/<name>/dataset/           the dataset it began with, then every episode it ran
runs/<name>/critic/            the first value network, if it was trained on the dataset
runs/<name>/checkpoints/       one per iteration, with all that an exact resume needs
runs/<name>/student/           the one-step policy that was distilled on the way, if any
runs/<name>/chains/            in real time, what a stopped or killed iteration needs to go on
runs/<name>/metrics.jsonl      one line per iteration
runs/<name>/report.html        and summary.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from data.archive.store import DatasetStore
from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy
from policies.value import ValueNetwork
from robot_rl.commands.finetune.batches import Batches, batches_for
from robot_rl.commands.finetune.loop import FinetuneLoop, Progress
from robot_rl.commands.finetune.report import write_finetune_report
from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.config.settings import load
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec
from robot_rl.core.version import software_version
from robot_rl.learning.distillation import distillation_loss
from robot_rl.learning.encoded_imitation import EncodedWindows, encoded_windows
from robot_rl.learning.offline.critic import train_critic
from robot_rl.learning.online.learner import OnlineLearner
from robot_rl.learning.transitions import NoSignal, encode_episodes, require_signal
from robot_rl.reports.summary import write_json
from robot_rl.run.checkpoint import load_policy, load_training_state, newest_checkpoint, repair_last
from robot_rl.run.dataset import copy_demonstrations, demonstrations_of, labelled_episodes, require_same_robot
from robot_rl.run.phases import StageRun, checkpoint_to_improve

DATASET, CRITIC, DEMONSTRATIONS = "dataset", "critic", "demonstrations"
VALUE_FILE = "value.pt"


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(FinetuneSettings, "finetune", overrides)
    finished = finetune(settings, Console(soft_wrap=True, highlight=False))
    return 0 if finished else 130


def finetune(settings: FinetuneSettings, console: Console) -> bool:
    """Improves a policy on the robot, or goes on with the run that is there; writes the report.

    Returns:
        False if a person stopped the session before the last iteration.

    Raises:
        RobotRLError: Settings, dataset, policy and robot do not fit together; raised before anything moves.
    """
    settings = settings.resolve()
    require_device(settings.device)
    checkpoint = checkpoint_to_improve(settings.policy)
    policy = load_policy(checkpoint, settings.device)
    directory = Path(settings.run)
    batches = batches_for(settings, directory / DATASET, console)
    policy.spec.require(batches.spec, f"policy {settings.policy}")
    # Refuses what cannot explore, such as a one-step policy, before anything is written.
    _exploring(settings, policy)
    run = _begin(settings, policy, batches.spec, console)
    snapshot = str(run.phases[0].facts["snapshot"])
    learner = build_learner(settings, policy, _first_value(settings, policy, snapshot, run))
    loop = FinetuneLoop(
        settings, learner, directory, _record(settings, learner, checkpoint), _demonstrations(settings, policy, run)
    )
    progress = _resume(loop, snapshot, console)
    if progress.iteration < settings.online.iterations:
        finished = _iterate(loop, batches, progress, console)
    else:
        finished = True
        console.print(f"{directory} has its {settings.online.iterations} iterations already")
    report = write_finetune_report(settings, directory, batches.spec.name, run.phases)
    console.print(f"policy   {directory}/checkpoints/last\nreport   {report}")
    return finished


def _iterate(loop: FinetuneLoop, batches: Batches, progress: Progress, console: Console) -> bool:
    try:
        with batches:
            return loop.run(batches, progress, console)
    except KeyboardInterrupt:
        console.print(f"stopped  after iteration {progress.iteration}; the same command goes on from there")
        return False


def require_device(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        RobotRLError: Says what is.
    """
    if device not in ("cpu", "cuda"):
        raise RobotRLError(f"device is '{device}', wanted cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise RobotRLError("device=cuda, but torch sees no GPU here: `robot-rl doctor` says why; device=cpu works too")


def build_learner(settings: FinetuneSettings, policy: DiffusionPolicy, value: ValueNetwork | None) -> OnlineLearner:
    """The learner before its first iteration; a function of the settings' seed."""
    student, distillation = None, None
    # A value network made from scratch draws its weights from torch's own generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.online.seed)
        if settings.student:
            student, distillation = ConsistencyPolicy.from_teacher(_exploring(settings, policy)), distillation_loss
        return OnlineLearner(policy, value, settings.online, settings.reward, student, distillation)


def _exploring(settings: FinetuneSettings, policy: DiffusionPolicy) -> DiffusionPolicy:
    config = settings.online
    return policy.with_exploration(config.sampling_steps, config.sigma_min, config.sigma_max)


def _begin(settings: FinetuneSettings, policy: DiffusionPolicy, spec: RobotSpec, console: Console) -> StageRun:
    """The run's directory and its own dataset, with the demonstrations in it if there are any."""
    directory, fingerprint = Path(settings.run), policy.fingerprint()
    if settings.dataset is None:
        run = StageRun(directory, settings.identity(None, fingerprint, spec.to_json()), console)

        def empty(_: Path) -> dict[str, Any]:
            with DatasetStore.create(str(directory / DATASET), spec, settings.codecs) as store:
                return {"snapshot": store.snapshot, "copied": {}, "left_out": {}}

        run.phase(DEMONSTRATIONS, empty)
        return run
    with DatasetStore.open(settings.dataset, snapshot=settings.snapshot) as source:
        require_same_robot(source, spec)
        _require_both_outcomes(settings, source)
        run = StageRun(directory, settings.identity(source, fingerprint, spec.to_json()), console)
        run.phase(DEMONSTRATIONS, lambda _: copy_demonstrations(source, directory / DATASET, spec))
    return run


def _require_both_outcomes(settings: FinetuneSettings, source: DatasetStore) -> None:
    """Refuses, before anything is written, a dataset that the first value network could not learn from."""
    outcomes = [info.result.outcome for info in demonstrations_of(source)]
    if settings.begins_with_iql and settings.reward.source == "outcome" and len(set(outcomes)) == 1:
        ended = "succeeded" if outcomes[0] is Outcome.SUCCESS else "failed"
        raise NoSignal(
            f"all {len(outcomes)} episodes {ended} in dataset {source.url}, but value=iql learns from successes and "
            "failures: record some of the other kind, or begin without it (value=scratch)"
        )


def _first_value(
    settings: FinetuneSettings, policy: DiffusionPolicy, snapshot: str, run: StageRun
) -> ValueNetwork | None:
    """The value network of IQL critics on the dataset; None for one from scratch.

    Raises:
        NoSignal: All its episodes ended alike.
        RobotRLError: The critic is not to be trusted.
    """
    if not settings.begins_with_iql:
        return None

    def work(directory: Path) -> dict[str, Any]:
        episodes = labelled_episodes(run.directory / DATASET, snapshot, policy.spec)
        with torch.no_grad():
            transitions = encode_episodes(policy, episodes, settings.reward)
        require_signal(transitions)
        critic, report = train_critic(transitions, settings.critic, settings.device)
        if report.problem is not None:
            raise RobotRLError(
                f"the first value network is not to be trusted: {report.problem}. Train it longer (critic.steps), or "
                "begin without it (value=scratch)"
            )
        write_json(directory / "report.json", report.to_json())
        torch.save(critic.value.state_dict(), directory / VALUE_FILE)
        return {"rank_correlation": report.rank_correlation, "transitions": len(transitions)}

    directory = run.phase(CRITIC, work).directory
    value = ValueNetwork(policy.encoder.output_size, settings.critic.width, settings.critic.blocks)
    value.load_state_dict(torch.load(directory / VALUE_FILE, weights_only=True))
    return value.to(settings.device)


def _demonstrations(settings: FinetuneSettings, policy: DiffusionPolicy, run: StageRun) -> EncodedWindows | None:
    """The dataset's successes to imitate besides, if that is wanted."""
    if settings.online.demonstration_weight == 0:
        return None
    episodes = labelled_episodes(run.directory / DATASET, str(run.phases[0].facts["snapshot"]), policy.spec)
    return encoded_windows(policy, (each for each in episodes if each.result.outcome is Outcome.SUCCESS))


def _record(settings: FinetuneSettings, learner: OnlineLearner, checkpoint: Path) -> Mapping[str, Any]:
    """What every checkpoint says about itself, but for its snapshot."""
    return {
        "spec": learner.policy.spec.to_json(),
        "provenance": {
            "dataset": str(Path(settings.run) / DATASET),
            "parent": str(checkpoint),
            "rule": "the newest iteration's; no episode chose it",
            "software_version": software_version(),
        },
        "training": {"online": asdict(settings.online), "reward": asdict(settings.reward)},
    }


def _resume(loop: FinetuneLoop, snapshot: str, console: Console) -> Progress:
    """Goes back to the newest checkpoint, or begins."""
    checkpoint = newest_checkpoint(loop.directory)
    if checkpoint is None:
        return Progress(snapshot=snapshot)
    repair_last(loop.directory)
    progress = loop.load(checkpoint, load_training_state(checkpoint))
    console.print(f"resumed  after iteration {progress.iteration}")
    return progress
