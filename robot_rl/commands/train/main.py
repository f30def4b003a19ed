"""`robot-rl train`: from a dataset to a policy that imitates its episodes, in a run directory that can be resumed.

runs/<name>/config.json       what the run learns from and how; a resumed run must agree with it
runs/<name>/metrics.jsonl     one line per logged step
runs/<name>/tensorboard/
runs/<name>/checkpoints/      see `checkpoint.py`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from rich.console import Console

from data.archive.location import Location
from data.archive.store import DatasetStore
from data.training.statistics import cache_statistics
from data.training.window_cache import WindowCache
from data.training.windows import EpisodeSplit, WindowDataset, split_episodes
from policies.diffusion import DiffusionPolicy
from policies.trainable import require_trainable
from robot_rl.commands.train.plan import Plan, TrainSettings, make_plan
from robot_rl.config.settings import load
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import write_whole
from robot_rl.learning.imitation import HeldOut, ImitationLearner
from robot_rl.run.checkpoint import newest_checkpoint, policy_class, repair_last
from robot_rl.run.identity import CONFIG_FILE, require_same_identity
from robot_rl.run.metrics import Screen
from robot_rl.run.training_loop import TrainingRun, train_imitation

WAIT_FOR_CACHE = timedelta(hours=4)


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
        require_same_identity(run, plan.identity(), plan.defaults())
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


def build_policy(plan: Plan, cache: WindowCache, split: EpisodeSplit) -> DiffusionPolicy:
    """The policy before its first step.

    Weights from the seed and statistics from the training episodes, or both from the policy it starts from.
    """
    if plan.initial is not None:
        plan.initial.policy.encoder.requires_grad_(not plan.settings.freeze_encoder)
        return plan.initial.policy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.settings.imitation.seed)
        made = policy_class(plan.policy_path)(plan.spec, plan.policy_config)
    policy = cast(DiffusionPolicy, require_trainable(made))
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
        write_whole(run / CONFIG_FILE, json.dumps(plan.identity(), indent=2))
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
