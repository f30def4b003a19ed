"""`robot-rl train`: from a dataset to a policy that imitates its episodes, in a run directory that can be resumed.

runs/<name>/config.json       what the run learns from and how; a resumed run must agree with it
runs/<name>/metrics.jsonl     one line per logged step
runs/<name>/tensorboard/
runs/<name>/checkpoints/      see `checkpoint.py`
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from rich.console import Console

from data.atomic_file import write_whole
from data.location import Location
from data.statistics import cache_statistics
from data.store import DatasetStore
from data.window_cache import ActionSource, CacheContent, Selection, WindowCache, select_episodes
from data.windows import EpisodeSplit, WindowDataset, split_episodes
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from robot_rl.checkpoint import (
    load_policy,
    newest_checkpoint,
    policy_class,
    policy_config_class,
    read_record,
    repair_last,
    resolve_checkpoint,
)
from robot_rl.imitation import HeldOut, ImitationConfig, ImitationLearner
from robot_rl.metrics import Screen
from robot_rl.session import software_version
from robot_rl.settings import MISSING, load, to_dataclass
from robot_rl.training_loop import LogSettings, TrainingRun, train_imitation
from robot_rl.types import Outcome, RobotRLError, RobotSpec

CONFIG_FILE = "config.json"
SMALL_IMAGE_PX = 128
"""Cameras up to this size are cached as they are, so that one cache serves policies of any image size."""
WAIT_FOR_CACHE = timedelta(hours=4)


@dataclass
class DataSettings:
    """What to learn from.

    Attributes:
        outcomes: Episodes with one of these labels: `success`, `failure`, `aborted`.
        action_source: `applied`, what the robot really did, or `requested`, what it was asked to do.
        held_out_fraction: Share of the episodes kept aside to judge by.
        shortest_fraction: Share of those episodes to keep, the shortest: of several successes, the quickest show most.
        cache: Folder of the window caches; null is `windows` in the dataset's own folder, or in the state folder of
            one in an object store. Caches may be deleted at any time; the next run builds its own again.
    """

    outcomes: list[str] = field(default_factory=lambda: [str(Outcome.SUCCESS)])
    action_source: str = "applied"
    held_out_fraction: float = 0.05
    shortest_fraction: float = 1.0
    cache: str | None = None


@dataclass
class TrainSettings:
    """Settings of `robot-rl train`.

    Attributes:
        dataset: Directory or `s3://` address.
        run: Directory of this run; the same command again resumes it.
        policy: `configs/policy/*.yaml`: the class and its config. Its `streams` may name `cameras`,
            `point_clouds` and `low_dimensional` for all streams of that kind.
        snapshot: Snapshot id or tag of the dataset; null is its newest state.
        initial: Run or checkpoint to start from, with its class, config, weights and statistics; takes the place of
            `policy`. The normaliser is not fitted again: the weights were made for its units.
        freeze_encoder: Leaves the observation encoder as it is, so that critics trained on it stay valid.
        data: See `DataSettings`.
        imitation: See `ImitationConfig`.
        log: See `LogSettings`.
        device: `auto`, `cpu` or `cuda`. Several GPUs: `accelerate launch -m robot_rl.cli train ...`.
        readers: Threads that read windows.
    """

    dataset: str = MISSING
    run: str = MISSING
    policy: dict[str, Any] = MISSING
    snapshot: str | None = None
    initial: str | None = None
    freeze_encoder: bool = False
    data: DataSettings = field(default_factory=DataSettings)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    log: LogSettings = field(default_factory=LogSettings)
    device: str = "auto"
    readers: int = 2


class InitialPolicy(NamedTuple):
    """What a run starts from instead of random weights."""

    checkpoint: Path
    policy: DiffusionPolicy
    fingerprint: str

    @classmethod
    def load(cls, path: str) -> InitialPolicy:
        """The newest checkpoint of a run, or a checkpoint."""
        checkpoint = resolve_checkpoint(Path(path))
        policy = load_policy(checkpoint)
        return cls(checkpoint, policy, policy.fingerprint())


@dataclass(frozen=True)
class Plan:
    """Settings resolved against a dataset: all that decides what is learned.

    Attributes:
        policy_path: Name of the class, as in the yaml.
        policy_config: With the names of streams filled in.
        selection: Episodes.
        content: Of the window cache.
        initial: What the run starts from; None for weights from the seed.
    """

    settings: TrainSettings
    policy_path: str
    policy_config: DiffusionPolicyConfig
    selection: Selection
    content: CacheContent
    initial: InitialPolicy | None = None

    @property
    def spec(self) -> RobotSpec:
        """The robot's."""
        return self.content.spec

    def decisions(self) -> dict[str, Any]:
        """What a resumed run must agree with, as JSON."""
        data = asdict(self.settings.data)
        del data["cache"]
        # Only where it says something, so that runs from before these settings can still be resumed.
        if data["shortest_fraction"] == 1.0:
            del data["shortest_fraction"]
        start: dict[str, Any] = {}
        if self.initial is not None:
            start["initial"] = self.initial.fingerprint
        if self.settings.freeze_encoder:
            start["freeze_encoder"] = True
        return {
            **start,
            "dataset": {"snapshot": self.content.snapshot, "episodes": len(self.selection.ids)},
            "data": data,
            "policy": {"class": self.policy_path, **self.policy_config.to_json()},
            "imitation": asdict(self.settings.imitation),
            "spec": self.spec.to_json(),
        }

    def record(self, policy: DiffusionPolicy) -> dict[str, Any]:
        """What every checkpoint says about itself."""
        start = self.initial
        parent = {} if start is None else {"parent": str(start.checkpoint), "parent_policy": start.fingerprint}
        return {
            "class": self.policy_path,
            "config": self.policy_config.to_json(),
            "spec": policy.spec.to_json(),
            "provenance": {
                **parent,
                "dataset": self.settings.dataset,
                "snapshot": self.content.snapshot,
                "episodes": len(self.selection.ids),
                "software_version": software_version(),
            },
            "training": {"data": asdict(self.settings.data), "imitation": asdict(self.settings.imitation)},
        }


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(TrainSettings, "train", overrides)
    if settings.initial is not None and any(each.startswith("policy") for each in overrides):
        raise RobotRLError(f"initial={settings.initial} brings its own policy: leave policy settings out, or initial")
    return 0 if train(settings) else 130


def train(settings: TrainSettings, *, quiet: bool = False) -> bool:
    """Trains a policy, or goes on with the run that is there.

    Args:
        settings: See `TrainSettings`.
        quiet: Shows nothing.

    Returns:
        Whether the last step was reached; False if the user stopped it.
    """
    settings.imitation.validate()
    accelerator = make_accelerator(settings)
    console = Console(quiet=quiet or not accelerator.is_main_process, soft_wrap=True, markup=False, highlight=False)
    run = Path(settings.run)
    with DatasetStore.open(settings.dataset, snapshot=settings.snapshot) as store:
        plan = make_plan(settings, store)
        require_same_decisions(run, plan.decisions())
        if accelerator.is_main_process:
            repair_last(run)
        if _is_finished(run, settings.imitation.steps):
            console.print(f"{run} has its {settings.imitation.steps} steps already")
            _print_what_next(console, run)
            return True
        console.print(f"dataset  {settings.dataset} at {store.snapshot}: {plan.selection.describe()}")
        cache = open_cache(plan, store, accelerator, console)
    finished = _train(plan, cache, accelerator, console)
    accelerator.end_training()
    return finished


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Device, precision and processes, from the settings and from `accelerate launch`.

    Raises:
        RobotRLError: They are not to be had on this machine.
    """
    if settings.device not in ("auto", "cpu", "cuda"):
        raise RobotRLError(f"device is '{settings.device}', wanted auto, cpu or cuda")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RobotRLError("device=cuda, but torch sees no GPU here: `robot-rl doctor` says why; device=cpu works too")
    try:
        accelerator = Accelerator(
            cpu=settings.device == "cpu",
            mixed_precision=settings.imitation.mixed_precision,
            # Other processes wait while the first builds the window cache.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT_FOR_CACHE)],
        )
    except ValueError as error:
        raise RobotRLError(f"imitation.mixed_precision={settings.imitation.mixed_precision}: {error}") from error
    if settings.imitation.batch_size % accelerator.num_processes:
        raise RobotRLError(
            f"imitation.batch_size is {settings.imitation.batch_size}, which {accelerator.num_processes} processes "
            "cannot share evenly"
        )
    return accelerator


def make_plan(settings: TrainSettings, store: DatasetStore) -> Plan:
    """Resolves the settings against a dataset.

    Raises:
        RobotRLError: They contradict each other or the dataset.
    """
    if settings.data.action_source not in ("applied", "requested"):
        raise RobotRLError(f"data.action_source is '{settings.data.action_source}', wanted applied or requested")
    initial = None
    if settings.initial is None:
        policy_path, policy_config = policy_settings(settings.policy, store.spec)
    else:
        initial = InitialPolicy.load(settings.initial)
        initial.policy.spec.require(store.spec, f"the initial policy {settings.initial}")
        policy_path, policy_config = read_record(initial.checkpoint)["class"], initial.policy.config
    selection = select_episodes(store, [_outcome(name) for name in settings.data.outcomes])
    selection = keep_shortest(store, selection, settings.data.shortest_fraction)
    content = CacheContent(
        store.snapshot,
        store.spec,
        policy_config.streams,
        selection.ids,
        cast(ActionSource, settings.data.action_source),
        image_sizes(store.spec, policy_config),
    )
    return Plan(settings, policy_path, policy_config, selection, content, initial)


def keep_shortest(store: DatasetStore, selection: Selection, fraction: float) -> Selection:
    """The shortest of the selected episodes, at least one, in their order; see `DataSettings`."""
    if not 0.0 < fraction <= 1.0:
        raise RobotRLError(f"data.shortest_fraction is {fraction}, wanted more than 0 and at most 1")
    if fraction == 1.0:
        return selection
    results = {each: store.info(each).result for each in selection.ids}
    by_length = sorted(selection.ids, key=lambda each: (results[each].ticks, each))
    kept = set(by_length[: max(1, round(fraction * len(by_length)))])
    dropped = Counter(results[each].outcome for each in selection.ids if each not in kept)
    return Selection(tuple(each for each in selection.ids if each in kept), dict(dropped + Counter(selection.left_out)))


def policy_settings(settings: Mapping[str, Any], spec: RobotSpec) -> tuple[str, DiffusionPolicyConfig]:
    """The policy's class and its config for a robot, checked.

    Raises:
        RobotRLError: An unknown key or stream, or values that cannot work together.
    """
    values = dict(settings)
    path = str(values.pop("_target_", ""))
    config = cast(DiffusionPolicyConfig, to_dataclass(cast(Any, values), policy_config_class(policy_class(path))))
    groups = {
        "cameras": spec.images,
        "point_clouds": spec.point_clouds,
        "low_dimensional": tuple(name for name in spec.observations if name not in (*spec.images, *spec.point_clouds)),
    }
    expanded = [name for each in config.streams for name in groups.get(each, (each,))]
    config.streams = tuple(dict.fromkeys(expanded))
    config.validate()
    spec.select(config.streams)
    return path, config


def image_sizes(spec: RobotSpec, config: DiffusionPolicyConfig) -> dict[str, tuple[int, int]]:
    """Cameras to shrink when the cache is built: large ones, to the size that the policy shrinks them to anyway."""
    target = config.camera.image_size
    sizes = {name: spec.observations[name].shape[:2] for name in config.streams if name in spec.images}
    return {
        name: target
        for name, size in sizes.items()
        if max(size) > SMALL_IMAGE_PX and size[0] >= target[0] and size[1] >= target[1]
    }


def open_cache(plan: Plan, store: DatasetStore, accelerator: Accelerator, console: Console) -> WindowCache:
    """The window cache, built first if need be by the first process of this machine."""
    root = cache_root(plan.settings.dataset, plan.settings.data.cache)
    episodes = len(plan.selection.ids)
    with Screen(console, "window cache", episodes) as screen, accelerator.local_main_process_first():
        cache = WindowCache.build(store, plan.content, root, lambda done, total: screen.show(done, ""))
    console.print(f"cache    {cache.directory} ({cache.size_bytes() / 1e6:.1f} MB; may be deleted at any time)")
    return cache


def cache_root(dataset: str, chosen: str | None) -> Path:
    """Folder of the window caches; see `DataSettings.cache`."""
    return Location.parse(dataset).state / "windows" if chosen is None else Path(chosen).expanduser()


def require_same_decisions(run: Path, decisions: Mapping[str, Any]) -> None:
    """Refuses to resume a run with other settings or other data than it began with.

    Raises:
        RobotRLError: Names every difference.
    """
    if newest_checkpoint(run) is None:
        return
    if not (run / CONFIG_FILE).exists():
        raise RobotRLError(f"{run} has checkpoints but no {CONFIG_FILE}: choose another run=...")
    refuse_other_decisions(run, decisions)


def refuse_other_decisions(run: Path, decisions: Mapping[str, Any]) -> None:
    """Compares a command's decisions with those that a run's `config.json` holds.

    Raises:
        RobotRLError: Names every difference.
    """
    path = run / CONFIG_FILE
    before, now = _leaves(json.loads(path.read_text())), _leaves(json.loads(json.dumps(decisions)))
    differences = [
        f"{key}: the run has {before.get(key, 'nothing')!r}, this command {now.get(key, 'nothing')!r}"
        for key in [*before, *(key for key in now if key not in before)]
        if before.get(key) != now.get(key)
    ]
    if differences:
        snapshot = before.get("dataset.snapshot")
        hint = f"add snapshot={snapshot} to go on with its data, " if snapshot != now.get("dataset.snapshot") else ""
        raise RobotRLError(
            f"{run} cannot be resumed by this command:\n  "
            + "\n  ".join(differences)
            + f"\n{hint}repeat its settings, or start another run with run=..."
        )


def build_policy(plan: Plan, cache: WindowCache, split: EpisodeSplit) -> DiffusionPolicy:
    """The policy before its first step.

    Weights from the seed and statistics from the training episodes, or both from the policy it starts from.
    """
    if plan.initial is not None:
        plan.initial.policy.encoder.requires_grad_(not plan.settings.freeze_encoder)
        return plan.initial.policy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.settings.imitation.seed)
        policy = policy_class(plan.policy_path)(plan.spec, plan.policy_config)
    policy.set_statistics(cache_statistics(cache, split.training))
    return policy


def _train(plan: Plan, cache: WindowCache, accelerator: Accelerator, console: Console) -> bool:
    """Sets everything up and trains; False if the user stopped it."""
    settings, config = plan.settings, plan.settings.imitation
    run = Path(settings.run)
    split = split_episodes(len(plan.selection.ids), settings.data.held_out_fraction, config.seed)
    policy = build_policy(plan, cache, split)
    millions = sum(parameter.numel() for parameter in policy.parameters()) / 1e6
    console.print(
        f"policy   {plan.policy_path}, {millions:.2f} M parameters, sees {', '.join(plan.policy_config.streams)}\n"
        f"train    {len(split.training)} episodes, {len(split.held_out)} kept aside; {accelerator.device}, "
        f"{accelerator.num_processes} process(es), mixed precision {config.mixed_precision}"
    )
    windows = policy.observation_count, policy.horizon
    held_out = None
    if split.held_out:
        held_out = HeldOut(
            WindowDataset(cache, *windows, split.held_out),
            cache_statistics(cache, split.training),
            windows=settings.log.held_out_windows,
            batch_size=config.batch_size,
            seed=config.seed,
            accelerator=accelerator,
        )
    training = TrainingRun(
        directory=run,
        dataset=WindowDataset(cache, *windows, split.training),
        held_out=held_out,
        record=plan.record(policy),
        readers=settings.readers,
        log=settings.log,
    )
    if accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        write_whole(run / CONFIG_FILE, json.dumps(plan.decisions(), indent=2))
    finished = train_imitation(ImitationLearner(policy, config, accelerator), training, console)
    if finished:
        _print_what_next(console, run)
    return finished


def _is_finished(run: Path, steps: int) -> bool:
    newest = newest_checkpoint(run)
    return newest is not None and int(newest.name) >= steps


def _print_what_next(console: Console, run: Path) -> None:
    console.print(
        f"policy   {run}/checkpoints/last\ncurves   {run}/metrics.jsonl   tensorboard --logdir {run}\n"
        f"next     robot-rl export run={run}"
    )


def _outcome(name: str) -> Outcome:
    try:
        return Outcome(name)
    except ValueError as error:
        raise RobotRLError(f"data.outcomes has '{name}', wanted any of {', '.join(Outcome)}") from error


def _leaves(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, dictionaries opened."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
