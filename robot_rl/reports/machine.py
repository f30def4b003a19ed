"""Names and versions of what a run ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES_TOLD = ("numpy", "torch", "onnxruntime", "diffusers", "zarr", "icechunk", "mujoco", "metaworld", "gym-pusht")


def environment_facts(root: Path = Path("/")) -> dict[str, str]:
    """Versions and machine for a report: no names of hosts or people, no paths."""
    facts = {"robot-rl": installed_version("robot_rl") or "", "Python": platform.python_version()}
    facts["System"] = f"{system_name(root)}, {platform.machine()}"
    facts["Processor"] = f"{processor_model(root)}, {len(os.sched_getaffinity(0))} cores used"
    facts |= {name: installed_version(name) or "" for name in PACKAGES_TOLD}
    return {name: value for name, value in facts.items() if value}


def installed_version(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def system_name(root: Path = Path("/")) -> str:
    """The distribution's name and release."""
    for line in _lines(root / "etc/os-release"):
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def processor_model(root: Path = Path("/")) -> str:
    """The processor's name as Linux tells it."""
    for line in _lines(root / "proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
