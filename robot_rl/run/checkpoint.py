"""Checkpoints: written whole or not at all, and enough by themselves to act or to train on.

runs/<name>/checkpoints/00002000/
policy.json          class, config, spec, dataset and snapshot, training settings, software version
weights.safetensors  the weights to act with (averaged over training), statistics included
training_state.pt    what an exact resume needs; kept in the newest checkpoint only
runs/<name>/checkpoints/last -> 00002000
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from policies.diffusion import DiffusionPolicy
from policies.trainable import Trainable, require_trainable
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import atomic_directory
from robot_rl.core.specs import RobotSpec
from robot_rl.core.targets import current_name

FORMAT = "robot-rl checkpoint"
VERSION = 1
POLICY_FILE = "policy.json"
WEIGHTS_FILE = "weights.safetensors"
STATE_FILE = "training_state.pt"
CHECKPOINTS = "checkpoints"
LAST = "last"
POLICY_PACKAGE = "policies"
PACKAGES_VARIABLE = "ROBOT_RL_POLICY_PACKAGES"
"""Names the packages of your own, separated by commas, that policies may come from besides ours."""


class CheckpointError(RobotRLError):
    """A checkpoint is missing, damaged, or made by other software."""


def policy_class(path: str) -> type[nn.Module]:
    """The class that a checkpoint or a yaml file names.

    Only our own policies are imported and those of packages that the user allowed by `ROBOT_RL_POLICY_PACKAGES`: a file
    from somewhere else must not choose what code runs.

    Args:
        path: For example `policies.diffusion.DiffusionPolicy`.

    Raises:
        CheckpointError: It lies elsewhere, does not exist or is no `torch.nn.Module`.
    """
    module, _, name = current_name(path).rpartition(".")
    package = module.split(".")[0]
    named = [each.strip() for each in os.environ.get(PACKAGES_VARIABLE, "").split(",")]
    if package not in (POLICY_PACKAGE, *filter(None, named)):
        raise CheckpointError(
            f"policy class '{path}' is not in the package '{POLICY_PACKAGE}': refused. If you trust it, allow its "
            f"package: {PACKAGES_VARIABLE}={','.join([*filter(None, named), package or '<package>'])}"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"no policy class '{path}' ({error}): was it made by a newer version?") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise CheckpointError(f"policy class '{path}' is no torch.nn.Module, as policies/trainable.py asks for")
    return found


def policy_config_class(policy: type[nn.Module]) -> Any:
    """The dataclass that a policy class takes as its `config`.

    Raises:
        CheckpointError: Its constructor does not say.
    """
    hints = get_type_hints(policy.__init__)
    if "config" not in hints:
        raise CheckpointError(
            f"policy class {policy.__name__} does not say what its config is: wanted "
            "`def __init__(self, spec: RobotSpec, config: MyConfig) -> None`, with a dataclass MyConfig"
        )
    return hints["config"]


def save_checkpoint(
    run: Path, step: int, acting: Trainable, training_state: Mapping[str, Any], record: Mapping[str, Any]
) -> Path:
    """Writes a checkpoint and points `last` to it; a kill at any moment leaves the one before usable.

    Args:
        run: The run's directory.
        step: Training steps done.
        acting: Policy whose weights act.
        training_state: What `load_training_state` gives back.
        record: What `policy.json` says besides the format and the step.
    """
    folder = run / CHECKPOINTS
    directory = folder / f"{step:08d}"
    if not directory.exists():
        try:
            with atomic_directory(directory) as partial:
                document = {"format": FORMAT, "version": VERSION, "step": step, **record}
                (partial / POLICY_FILE).write_text(json.dumps(document, indent=2))
                weights = {key: value.detach().cpu().contiguous() for key, value in acting.state_dict().items()}
                save_file(weights, partial / WEIGHTS_FILE)
                # Written for its owner only; who may read the run may read its weights.
                (partial / WEIGHTS_FILE).chmod((partial / POLICY_FILE).stat().st_mode)
                torch.save(dict(training_state), partial / STATE_FILE)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot write checkpoint {directory}: {error}. The one before is untouched; free some room and start "
                "the same command again"
            ) from error
    _point_last_to(directory)
    for older in _whole_checkpoints(run):
        if older != directory:
            (older / STATE_FILE).unlink(missing_ok=True)
    return directory


def repair_last(run: Path) -> None:
    """Points `last` to the newest checkpoint: a process killed right after writing one had no time to."""
    newest = newest_checkpoint(run)
    if newest is not None:
        _point_last_to(newest)


def newest_checkpoint(run: Path) -> Path | None:
    """The checkpoint with the most steps, or None; a folder that is there under its number is whole."""
    whole = _whole_checkpoints(run)
    return whole[-1] if whole else None


def load_training_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given, tensors on the CPU.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    path = checkpoint / STATE_FILE
    try:
        return cast(dict[str, Any], torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}. Delete {checkpoint} if an older checkpoint should be acted with, or train "
            "anew under another run=..."
        ) from error


def load_weights(checkpoint: Path, into: Trainable | nn.Module) -> None:
    """Fills a module with the weights to act with.

    Raises:
        CheckpointError: They are missing, damaged or of another shape.
    """
    path = checkpoint / WEIGHTS_FILE
    try:
        into.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint that a run directory, its `checkpoints` or a checkpoint itself stands for; the newest of many.

    Raises:
        CheckpointError: There is none.
    """
    if (path / POLICY_FILE).exists():
        return path
    run = path.parent if path.name == CHECKPOINTS else path
    found = newest_checkpoint(run)
    if found is None:
        raise CheckpointError(f"no checkpoint in {path}: make one with `robot-rl train dataset=... run={run}`")
    return found


def read_record(path: str | Path) -> dict[str, Any]:
    """What `policy.json` says of a run's newest checkpoint or of a checkpoint.

    Raises:
        CheckpointError: There is none, or other software wrote it.
    """
    file = resolve_checkpoint(Path(path)) / POLICY_FILE
    try:
        document = cast(dict[str, Any], json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from error
    found = document.get("format"), document.get("version")
    if found != (FORMAT, VERSION):
        raise CheckpointError(
            f"{file} says {found[0]!r} version {found[1]!r}, this software reads {FORMAT!r} {VERSION}"
        )
    return document


def load_policy(path: str | Path, device: str | torch.device = "cpu") -> DiffusionPolicy:
    """The policy of a checkpoint, ready to act.

    Args:
        path: A run directory, its `checkpoints` directory (either means the newest), or one checkpoint.
        device: Where its weights go.

    Raises:
        CheckpointError: Nothing there, or it cannot be read.
        NotTrainable: Its class lacks something that learning needs.
    """
    checkpoint = resolve_checkpoint(Path(path))
    record = read_record(checkpoint)
    kind = policy_class(record["class"])
    config = policy_config_class(kind).from_json(record["config"])
    policy = kind(RobotSpec.from_json(record["spec"]), config)
    load_weights(checkpoint, policy)
    return cast(DiffusionPolicy, require_trainable(policy).to(device).eval())


def _whole_checkpoints(run: Path) -> list[Path]:
    """Ascending by step."""
    return sorted(path for path in (run / CHECKPOINTS).glob("[0-9]*") if path.name.isdigit() and path.is_dir())


def _point_last_to(directory: Path) -> None:
    """Replaces the link in one step; relative, so that a run can be moved."""
    link = directory.parent / LAST
    temporary = directory.parent / f".{LAST}-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(directory.name)
    os.replace(temporary, link)
