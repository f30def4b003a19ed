"""`robot-rl export`: a trained run becomes an ONNX bundle that runs without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from robot_rl.config.settings import MISSING, load


@dataclass
class ExportSettings:
    """Settings of `robot-rl export`.

    Attributes:
        run: Run directory, or one checkpoint in it.
        output: Where the bundle goes; empty is `bundle/` in the run.
        sampling_steps: Denoising steps in the graph; None for the policy's own.
        replace: Whether an older bundle may be overwritten.
    """

    run: str = MISSING
    output: str = ""
    sampling_steps: int | None = None
    replace: bool = False


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(ExportSettings, "export", overrides)
    bundle = export(settings)
    console = Console()
    console.print(f"{bundle}: model.onnx, spec.json, parity.npz; ONNX and torch agree")
    console.print(f"evaluate: robot-rl eval policy={bundle}\nrun:      robot-rl deploy policy={bundle}")
    return 0


def export(settings: ExportSettings) -> Path:
    """Writes the bundle and returns its directory.

    Raises:
        CheckpointError: There is no checkpoint in the run.
        ExportFailed: The directory is taken, or ONNX and torch disagree.
    """
    from policies.export import export_bundle
    from robot_rl.run.checkpoint import load_policy, read_record, resolve_checkpoint

    checkpoint = resolve_checkpoint(Path(settings.run))
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
    directory = Path(settings.output) if settings.output else run / "bundle"
    record = read_record(checkpoint)
    export_bundle(
        load_policy(checkpoint),
        directory,
        provenance={"checkpoint": checkpoint.name, **record["provenance"]},
        sampling_steps=settings.sampling_steps,
        replace=settings.replace,
    )
    return directory
