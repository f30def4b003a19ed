"""Checks of the software: Python, packages against the pinned lock, torch and its GPU, onnxruntime, video."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.commands.doctor.findings import Finding, ProbeFailed, Status, run_probe
from robot_rl.core.errors import RobotRLError
from robot_rl.core.version import SOURCE_ROOT
from robot_rl.reports.machine import installed_version

OLDEST_PYTHON = (3, 11)
TORCH_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 60.0
NAMES_SHOWN = 5

Ask = Callable[[], Mapping[str, Any]]


def python(running: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Whether this Python is new enough."""
    wanted = ".".join(map(str, OLDEST_PYTHON))
    detail = ".".join(map(str, running))
    if running[:2] < OLDEST_PYTHON:
        remedy = f"install Python {wanted} or newer, then: make env PYTHON=python{wanted}"
        return Finding("Python", Status.MISSING, f"{detail}, wanted {wanted} or newer", remedy)
    inside = "in a virtual environment" if sys.prefix != sys.base_prefix else "not in a virtual environment"
    return Finding("Python", Status.OK, f"{detail}, {inside}")


def pinned_versions(path: Path) -> dict[str, str]:
    """Package name to version of every `name==version` line whose marker holds on this machine.

    Raises:
        RobotRLError: The file holds a line that pins nothing.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    pins = {}
    for raw in path.read_text().splitlines():
        line = raw.split("#")[0].split(" --")[0].strip()
        if not line or line.startswith("-"):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise RobotRLError(f"{path.name} holds a line that is no requirement: {line!r}") from None
        exact = [each.version for each in requirement.specifier if each.operator == "=="]
        if len(exact) != 1:
            raise RobotRLError(f"{path.name} does not pin {requirement.name}: {line!r}, wanted {requirement.name}==...")
        if requirement.marker is None or requirement.marker.evaluate():
            pins[requirement.name] = exact[0]
    return pins


def packages(
    directory: Path = SOURCE_ROOT, installed: Callable[[str], str | None] = installed_version, only_needed: bool = True
) -> Finding:
    """Installed packages against `requirements.txt` (what runs), or `requirements.lock` (what was tested).

    Args:
        directory: Where the two files lie.
        installed: Version of a package, None if absent.
        only_needed: Judge what robot-rl cannot run without; False judges the versions of everything.
    """
    name, file = ("packages", "requirements.txt") if only_needed else ("tested versions", "requirements.lock")
    path = directory / file
    if not path.exists():
        return Finding(name, Status.OK, f"no {file} beside the package, as in a plain install; not compared")
    pins = pinned_versions(path)
    found = {package: installed(package) for package in pins}
    absent = [package for package, has in found.items() if has is None]
    differing = {package: has for package, has in found.items() if has and not _is(has, pins[package])}
    other = [f"{package} {has} (pinned {pins[package]})" for package, has in differing.items()]
    remedy = "make env, or: pip install --no-deps -r requirements.lock"
    if absent:
        return Finding(name, Status.MISSING if only_needed else Status.WARN, f"absent: {_some(absent)}", remedy)
    if other:
        return Finding(name, Status.WARN, f"other than pinned: {_some(other)}", remedy)
    return Finding(name, Status.OK, f"all {len(pins)} of {file} as pinned")


def _is(found: str, pinned: str) -> bool:
    """Whether a version is the pinned one; torch's `+cpu` and the like are builds of the same version."""
    return found == pinned or found.startswith(f"{pinned}+")


def _some(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def torch(ask: Ask | None = None) -> Finding:
    """Whether torch loads and multiplies."""
    remedy = "make env, or: pip install torch"
    try:
        facts = ask() if ask else run_probe("robot_rl.commands.doctor.probes", ["torch"], TORCH_TIMEOUT_S)
    except ProbeFailed as error:
        return Finding("torch", Status.MISSING, f"{error}", remedy)
    where = ", ".join(facts["devices"]) or f"CPU with {facts['threads']} threads"
    detail = f"{facts['version']} on {where}"
    if not facts["devices"]:
        return Finding("torch", Status.OK, detail)
    return Finding("torch", Status.OK, f"{detail} (CUDA {facts['cuda_build']})")


def gpu(ask: Ask | None = None, root: Path = Path("/")) -> Finding:
    """Whether training can use a GPU, and if not, which of driver and torch build is in the way."""
    has_driver = (root / "proc/driver/nvidia/version").exists()
    facts = ask() if ask else run_probe("robot_rl.commands.doctor.probes", ["torch"], TORCH_TIMEOUT_S)
    if facts["devices"]:
        return Finding("GPU", Status.OK, ", ".join(facts["devices"]))
    if not has_driver:
        detail = "no NVIDIA driver; small policies train in minutes on a CPU, large U-Nets and cameras do not"
        remedy = "with an NVIDIA card: sudo ubuntu-drivers install (Ubuntu) or apt install nvidia-driver (Debian)"
        return Finding("GPU", Status.MISSING, detail, remedy)
    if facts["cuda_build"] is None:
        detail = f"the driver is there but torch {facts['version']} is a CPU build"
        remedy = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
        return Finding("GPU", Status.WARN, detail, remedy)
    detail = f"driver and torch's CUDA {facts['cuda_build']} build are there, but torch sees no GPU"
    return Finding("GPU", Status.WARN, detail, "compare the CUDA version that nvidia-smi shows; look at: sudo dmesg")


def onnxruntime(ask: Ask | None = None) -> Finding:
    """Whether exported policies can run, and on what."""
    try:
        facts = ask() if ask else run_probe("robot_rl.commands.doctor.probes", ["onnxruntime"], PROBE_TIMEOUT_S)
    except ProbeFailed as error:
        return Finding("onnxruntime", Status.MISSING, f"{error}", "make env, or: pip install onnxruntime")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in facts["providers"])
    return Finding("onnxruntime", Status.OK, f"{facts['version']} with {providers}")


def video(ask: Ask | None = None) -> Finding:
    """Whether reports can hold a video."""
    try:
        facts = ask() if ask else run_probe("robot_rl.commands.doctor.probes", ["video"], PROBE_TIMEOUT_S)
    except ProbeFailed as error:
        return Finding("video", Status.WARN, f"{error}", "pip install av (its wheel brings libx264)")
    return Finding("video", Status.OK, f"av {facts['version']} with {facts['encoder']}")
