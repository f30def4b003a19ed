"""`robot-rl distill`: from a many-step policy and observations to a one-step policy, in a run that can be resumed.

The run directory is laid out as that of `robot-rl train`, so that `eval`, `export` and `deploy` take it alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from data.archive.store import DatasetStore
from data.training.statistics import cache_statistics
from data.training.window_cache import WindowCache
from data.training.windows import WindowDataset, split_episodes
from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy
from robot_rl.commands.train.main import make_accelerator, open_cache
from robot_rl.commands.train.plan import DataSettings, Plan, TrainSettings, make_plan
from robot_rl.config.settings import MISSING, load
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.core.files import write_whole
from robot_rl.core.version import software_version
from robot_rl.learning.distillation import ConsistencyLearner, DistillationConfig, TeacherDistance
from robot_rl.run.checkpoint import load_policy, newest_checkpoint, read_record, repair_last, resolve_checkpoint
from robot_rl.run.identity import CONFIG_FILE, require_same_identity
from robot_rl.run.training_loop import LogSettings, TrainingRun, train_imitation

STUDENT = f"{ConsistencyPolicy.__module__}.{ConsistencyPolicy.__qualname__}"


def _kept() -> DataSettings:
    return DataSettings(outcomes=[str(Outcome.SUCCESS), str(Outcome.FAILURE)])


@dataclass
class DistillSettings:
    """Settings of `robot-rl distill`.

    Attributes:
        policy: The teacher: a run directory or one checkpoint.
        dataset: Directory or `s3://` address, of the teacher's robot; its observations are what both are shown.
        run: Directory of this run; the same command again resumes it.
        snapshot: Snapshot id or tag of the dataset; null is its newest state.
        sampling_steps: The teacher's denoising steps; null for its own.
        data: See `DataSettings`; failed episodes show as much as others do.
        distillation: See `DistillationConfig`.
        log: See `LogSettings`.
        device: `auto`, `cpu` or `cuda`.
        readers: Threads that read windows.
    """

    policy: str = MISSING
    dataset: str = MISSING
    run: str = MISSING
    snapshot: str | None = None
    sampling_steps: int | None = None
    data: DataSettings = field(default_factory=_kept)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    log: LogSettings = field(default_factory=LogSettings)
    device: str = "auto"
    readers: int = 2

    def training(self, student: ConsistencyPolicy) -> TrainSettings:
        """The settings that training has too."""
        return TrainSettings(
            dataset=self.dataset,
            run=self.run,
            policy={"_target_": STUDENT, **student.config.to_json()},
            snapshot=self.snapshot,
            data=self.data,
            imitation=self.distillation,
            log=self.log,
            device=self.device,
            readers=self.readers,
        )


@dataclass(frozen=True)
class Teacher:
    """A policy to distil, and where it came from."""

    policy: DiffusionPolicy
    checkpoint: Path
    provenance: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON; the fingerprint tells one teacher from another, wherever it lies."""
        return {"checkpoint": str(self.checkpoint), "fingerprint": self.policy.fingerprint()}


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    return 0 if distill(load(DistillSettings, "distill", overrides)) else 130


def distill(settings: DistillSettings) -> bool:
    """Makes a student, or goes on with the run that is there.

    Returns:
        Whether the last step was reached; False if the user stopped it.
    """
    settings.distillation.validate()
    teacher = open_teacher(settings)
    student = ConsistencyPolicy.from_teacher(teacher.policy)
    training = settings.training(student)
    accelerator = make_accelerator(training)
    console = Console(quiet=not accelerator.is_main_process, soft_wrap=True, markup=False, highlight=False)
    run = Path(settings.run)
    with DatasetStore.open(settings.dataset, snapshot=settings.snapshot) as store:
        require_same_robot(teacher.policy, store)
        plan = make_plan(training, store)
        require_same_identity(run, identity(plan, teacher), _of_distillation(plan.defaults()))
        if accelerator.is_main_process:
            repair_last(run)
        newest = newest_checkpoint(run)
        if newest is not None and int(newest.name) >= settings.distillation.steps:
            console.print(f"{run} has its {settings.distillation.steps} steps already")
            return True
        console.print(f"dataset  {settings.dataset} at {store.snapshot}: {plan.selection.describe()}")
        cache = open_cache(plan, store, accelerator, console)
    console.print(f"teacher  {teacher.checkpoint}, {teacher.policy.config.sampling_steps} steps")
    learner = ConsistencyLearner(student, teacher.policy, settings.distillation, accelerator)
    finished = _train(plan, settings, teacher, learner, cache, console)
    accelerator.end_training()
    return finished


def open_teacher(settings: DistillSettings) -> Teacher:
    """The policy to distil.

    Raises:
        RobotRLError: It acts in one step already, or cannot be read.
    """
    checkpoint = resolve_checkpoint(Path(settings.policy)).resolve()
    policy, provenance = load_policy(checkpoint), dict(read_record(checkpoint)["provenance"])
    if isinstance(policy, ConsistencyPolicy):
        origin = provenance.get("teacher", {}).get("checkpoint", "the policy it was made from")
        raise RobotRLError(f"{settings.policy} is a one-step student already: distil its teacher, policy={origin}")
    steps = settings.sampling_steps or policy.config.sampling_steps
    if steps < 2:
        raise RobotRLError(
            f"{settings.policy} acts in {steps} step, so there is nothing to distil: sampling_steps=10 makes it a "
            "teacher of 10"
        )
    return Teacher(policy.with_sampling_steps(steps), checkpoint, provenance)


def require_same_robot(teacher: DiffusionPolicy, store: DatasetStore) -> None:
    """Refuses a dataset of another robot than the teacher's.

    Raises:
        SpecMismatch: A stream that the teacher sees, or the action, is not as the teacher knows it.
    """
    seen = store.spec.select(teacher.config.streams)
    ours, theirs = (each.without_speed_bounds().to_json() for each in (teacher.spec, seen))
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        raise SpecMismatch(
            f"the dataset is of another robot than the teacher: {', '.join(different)} differ "
            f"('{store.spec.name}', the teacher's is '{teacher.spec.name}'). Name a dataset of the teacher's robot"
        )


def identity(plan: Plan, teacher: Teacher) -> dict[str, Any]:
    """What a resumed run must agree with, as JSON."""
    return _of_distillation(plan.identity()) | {"teacher": {"fingerprint": teacher.policy.fingerprint()}}


def record(plan: Plan, settings: DistillSettings, teacher: Teacher, student: ConsistencyPolicy) -> dict[str, Any]:
    """What every checkpoint says about itself."""
    return {
        "class": STUDENT,
        "config": student.config.to_json(),
        "spec": student.spec.to_json(),
        "provenance": {
            "dataset": settings.dataset,
            "snapshot": plan.content.snapshot,
            "episodes": len(plan.selection.ids),
            "software_version": software_version(),
            "teacher": {**teacher.document(), "provenance": teacher.provenance},
        },
        "training": {"data": asdict(settings.data), "distillation": asdict(settings.distillation)},
    }


def judge(
    learner: ConsistencyLearner,
    cache: WindowCache,
    training: Sequence[int],
    held_out: Sequence[int],
    settings: DistillSettings,
) -> TeacherDistance | None:
    """Measures the student on the episodes kept aside, if there are any."""
    if not held_out:
        return None
    policy = learner.average
    return TeacherDistance(
        learner.teacher,
        settings.distillation.sigma_max,
        dataset=WindowDataset(cache, policy.observation_count, policy.horizon, held_out),
        statistics=cache_statistics(cache, training),
        windows=settings.log.held_out_windows,
        batch_size=settings.distillation.batch_size,
        seed=settings.distillation.seed,
        accelerator=learner.accelerator,
    )


def _of_distillation(document: dict[str, Any]) -> dict[str, Any]:
    """A plan's document, with what it calls imitation by its name here."""
    return {"distillation" if key == "imitation" else key: value for key, value in document.items()}


def _train(
    plan: Plan,
    settings: DistillSettings,
    teacher: Teacher,
    learner: ConsistencyLearner,
    cache: WindowCache,
    console: Console,
) -> bool:
    """Sets the run up and trains; False if the user stopped it."""
    run, student = Path(settings.run), learner.average
    split = split_episodes(len(plan.selection.ids), settings.data.held_out_fraction, settings.distillation.seed)
    held_out = judge(learner, cache, split.training, split.held_out, settings)
    if learner.accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        write_whole(run / CONFIG_FILE, json.dumps(identity(plan, teacher), indent=2))
    work = TrainingRun(
        run,
        WindowDataset(cache, student.observation_count, student.horizon, split.training),
        held_out,
        record(plan, settings, teacher, student),
        settings.readers,
        settings.log,
    )
    finished = train_imitation(learner, work, console)
    if finished:
        _report(console, run, learner.average, held_out)
    return finished


def _report(console: Console, run: Path, student: ConsistencyPolicy, held_out: TeacherDistance | None) -> None:
    if held_out is not None:
        shares = "  ".join(f"{value:.3f}" for value in held_out.per_dimension(student).tolist())
        console.print(f"distance {shares}  from the teacher's chunks, per action dimension, in its standard deviations")
    console.print(f"policy   {run}/checkpoints/last, one step\nnext     robot-rl export run={run}")
