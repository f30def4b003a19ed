"""A run is resumed by the command that began it, or not at all.

Its identity is every setting, dataset and policy that decides what it makes, as JSON; the run keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_rl.core.errors import RobotRLError
from robot_rl.core.targets import TARGET, current_name
from robot_rl.run.checkpoint import newest_checkpoint

CONFIG_FILE = "config.json"
"""In the run directory: its identity."""


def require_same_identity(run: Path, identity: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuses to resume a training run with other settings or other data than it began with.

    Args:
        run: Its directory.
        identity: This command's.
        defaults: See `refuse_another_identity`.

    Raises:
        RobotRLError: Names every difference.
    """
    if newest_checkpoint(run) is None:
        return
    if not (run / CONFIG_FILE).exists():
        raise RobotRLError(f"{run} has checkpoints but no {CONFIG_FILE}: choose another run=...")
    refuse_another_identity(run, identity, defaults)


def refuse_another_identity(run: Path, identity: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
    """Compares a command's identity with the one that a run's `config.json` holds.

    Args:
        run: Its directory.
        identity: This command's.
        defaults: Laid out as `identity` is, as far as known. A setting that the run knows nothing of came later than
            the run; at its default it changes nothing.

    Raises:
        RobotRLError: Names every difference.
    """
    path = run / CONFIG_FILE
    before, now = _leaves(json.loads(path.read_text())), _leaves(json.loads(json.dumps(identity)))
    added = {key for key, value in _leaves(json.loads(json.dumps(defaults or {}))).items() if now.get(key) == value}
    added -= before.keys()
    differences = [
        f"{key}: the run has {before.get(key, 'nothing')!r}, this command {now.get(key, 'nothing')!r}"
        for key in [*before, *(key for key in now if key not in before)]
        if before.get(key) != now.get(key) and key not in added
    ]
    if differences:
        snapshot = before.get("dataset.snapshot")
        hint = f"add snapshot={snapshot} to go on with its data, " if snapshot != now.get("dataset.snapshot") else ""
        raise RobotRLError(
            f"{run} cannot be resumed by this command:\n  "
            + "\n  ".join(differences)
            + f"\n{hint}repeat its settings, or start another run with run=..."
        )


def _leaves(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, dictionaries opened; a class by the name that it has now."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        value = current_name(value) if key == TARGET and isinstance(value, str) else value
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
