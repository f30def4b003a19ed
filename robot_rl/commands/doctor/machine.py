"""Checks of the machine itself: processor, memory, disk, timing, cameras, input devices, terminal.

Every check takes the root of the file system it reads (`/` unless a test made one), so that a machine with a slow
governor or without permissions can be built from files.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robot_rl.commands.doctor.findings import Finding, ProbeFailed, Status, run_probe
from robot_rl.reports.machine import processor_model

MIN_MEMORY_GB = 4.0
MIN_FREE_GB = 5.0
MIN_WRITE_MB_PER_S = 40.0
"""Ten times what two 480x640 cameras at 30 Hz need as JPEG 90."""
WRITE_TEST_MB = 64
MAX_LATENESS_P99_MS = 2.0
"""A fifth of a 100 Hz tick."""
CAMERA_TIMEOUT_S = 30.0
LOWEST_RATE_SHARE = 0.9
"""A camera below this share of its reported rate is called slow."""

REALTIME_REMEDY = (
    "sudo groupadd -f realtime && sudo usermod -aG realtime $USER && "
    "echo '@realtime - rtprio 80' | sudo tee /etc/security/limits.d/90-realtime.conf, then log in again"
)


def processor(root: Path = Path("/")) -> Finding:
    """Cores that this process may use, and the frequency governor."""
    cores = len(os.sched_getaffinity(0))
    model = processor_model(root)
    governor_file = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor = governor_file.read_text().strip() if governor_file.exists() else ""
    detail = f"{cores} cores, {model}, governor {governor or 'not adjustable here'}"
    if governor in {"powersave", "conservative"}:
        return Finding("processor", Status.WARN, detail, "sudo cpupower frequency-set --governor performance")
    if cores < 2:
        return Finding("processor", Status.WARN, detail, "two cores or more keep inference off the control tick's core")
    return Finding("processor", Status.OK, detail)


def memory(root: Path = Path("/")) -> Finding:
    """Memory that can still be had."""
    fields = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
    total_gb, free_gb = (int(fields[key].split()[0]) * 1024 / 1e9 for key in ("MemTotal", "MemAvailable"))
    detail = f"{free_gb:.1f} of {total_gb:.1f} GB available"
    if free_gb < MIN_MEMORY_GB:
        return Finding("memory", Status.WARN, detail, f"close programs; training wants {MIN_MEMORY_GB:g} GB")
    return Finding("memory", Status.OK, detail)


def disk(directory: Path, test_mb: int = WRITE_TEST_MB) -> Finding:
    """Free space and sustained write speed where datasets go. The directory itself is not created."""
    place = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.is_dir())
    free_gb = shutil.disk_usage(place).free / 1e9
    remedy = f"choose another disk: robot-rl doctor directory=/path (now {directory})"
    if not os.access(place, os.W_OK):
        return Finding("disk", Status.MISSING, f"{place} is read-only for this user", remedy)
    if free_gb * 1000 < 2 * test_mb:
        return Finding("disk", Status.MISSING, f"{free_gb:.2f} GB free for {directory}", remedy)
    speed = _write_speed_mb_per_s(place, test_mb)
    detail = f"{free_gb:.0f} GB free for {directory}, {speed:.0f} MB/s written and synced"
    if free_gb < MIN_FREE_GB or speed < MIN_WRITE_MB_PER_S:
        return Finding("disk", Status.WARN, detail, remedy)
    return Finding("disk", Status.OK, detail)


def _write_speed_mb_per_s(place: Path, test_mb: int) -> float:
    """Speed of writing random bytes, since some file systems compress, until the disk says that it has them."""
    block = np.random.default_rng(0).bytes(1_000_000)
    path = place / f".robot-rl-write-test-{os.getpid()}"
    try:
        start_s = time.monotonic()
        with path.open("wb") as file:
            for _ in range(test_mb):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return test_mb / (time.monotonic() - start_s)
    finally:
        path.unlink(missing_ok=True)


def timing(ask: Callable[[], Mapping[str, Any]], root: Path = Path("/")) -> Finding:
    """Lateness of a control loop that does nothing, hence what the machine itself adds.

    Args:
        ask: The answer of `robot_rl.commands.doctor.probes.timing_facts`.
        root: File system to read.
    """
    facts = ask()
    source_file = root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
    source = source_file.read_text().strip() if source_file.exists() else "unknown"
    detail = (
        f"{facts['hz']:g} Hz deadlines for {facts['seconds']:g} s: late by p50 {facts['p50_ms']:.3f}, "
        f"p99 {facts['p99_ms']:.3f}, max {facts['max_ms']:.3f} ms, {facts['missed']} missed; clock source {source}"
    )
    if facts["missed"] or facts["p99_ms"] > MAX_LATENESS_P99_MS:
        return Finding("timing", Status.WARN, detail, "stop other programs; permit real-time scheduling (next line)")
    return Finding("timing", Status.OK, detail)


def realtime(ask: Callable[[], Mapping[str, Any]] | None = None) -> Finding:
    """Whether SCHED_FIFO may be had, which keeps ticks on time while the machine is busy."""
    facts = ask() if ask else run_probe("robot_rl.commands.doctor.probes", ["realtime"], timeout_s=30)
    if facts["permitted"]:
        return Finding("real-time scheduling", Status.OK, "SCHED_FIFO permitted")
    detail = "SCHED_FIFO not permitted (ulimit -r is 0); simulation needs none, a real arm on a busy machine does"
    return Finding("real-time scheduling", Status.WARN, detail, REALTIME_REMEDY)


def capture_devices(root: Path = Path("/")) -> list[str]:
    """Video devices that deliver pictures; a USB camera's second node holds only metadata."""
    nodes = sorted((root / "dev").glob("video*"), key=lambda node: (len(node.name), node.name))
    index_files = [root / "sys/class/video4linux" / node.name / "index" for node in nodes]
    return [
        str(node)
        for node, index in zip(nodes, index_files, strict=True)
        if not index.exists() or index.read_text().strip() == "0"
    ]


def cameras(root: Path = Path("/"), ask: Callable[[str], Mapping[str, Any]] | None = None) -> Finding:
    """True rate of every V4L2 camera, all open at once, since cameras on one USB hub share its bandwidth."""
    devices = capture_devices(root)
    if not devices:
        detail = "none under /dev/video*; the simulated robots need none"
        return Finding("cameras", Status.MISSING, detail, "plug one in; in a container pass --device /dev/video0")
    with ThreadPoolExecutor(len(devices)) as pool:
        results = list(pool.map(lambda device: _camera(device, ask or _ask_camera), devices))
    worst = max((status for _, status, _ in results), key=list(Status).index)
    remedies = dict.fromkeys(remedy for _, _, remedy in results if remedy)
    return Finding("cameras", worst, "; ".join(text for text, _, _ in results), "; ".join(remedies))


def _ask_camera(device: str) -> Mapping[str, Any]:
    return run_probe("robot_rl.commands.doctor.probes", ["camera", device], CAMERA_TIMEOUT_S)


def _camera(device: str, ask: Callable[[str], Mapping[str, Any]]) -> tuple[str, Status, str]:
    """One camera in words, with its status and remedy."""
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device}: no permission", Status.WARN, "sudo usermod -aG video $USER, then log in again"
    try:
        facts = ask(device)
    except ProbeFailed as error:
        return f"{device}: {error}", Status.WARN, "unplug and replug it; look at: sudo dmesg | tail"
    if not facts["opened"]:
        return f"{device}: cannot be opened", Status.WARN, f"is another program using it? sudo fuser -v {device}"
    if facts["fps"] is None:
        return f"{device}: opens but delivers no frames", Status.WARN, "try another USB port, directly on the machine"
    width, height = facts["size"]
    reported, true = facts["reported_fps"], facts["fps"]
    text = f"{device}: {width}x{height}, {true:.1f} Hz measured, {reported:.1f} reported, worst gap "
    text += f"{facts['worst_gap_ms']:.0f} ms"
    if true < LOWEST_RATE_SHARE * reported:
        remedy = f"more light or a fixed exposure: v4l2-ctl -d {device} -c auto_exposure=1; one camera per USB hub"
        return text, Status.WARN, remedy
    return text, Status.OK, ""


class InputDevice(NamedTuple):
    """A device that an operator could drive with.

    Attributes:
        kind: `gamepad` or `SpaceMouse`.
        name: Its own name.
        path: Its device file.
        is_readable: Whether this user may read it.
        remedy: What permits it.
    """

    kind: str
    name: str
    path: Path
    is_readable: bool
    remedy: str


def input_devices(devices: Sequence[InputDevice]) -> Finding:
    """Gamepads and SpaceMice, and whether this user may read them.

    Args:
        devices: Those that are plugged in.
    """
    if not devices:
        detail = "no gamepad or SpaceMouse; the keyboard in a terminal needs none"
        return Finding("input devices", Status.MISSING, detail, "plug one in")
    detail = "; ".join(
        f"{each.kind} {each.name}, {each.path}: {'readable' if each.is_readable else 'no permission'}"
        for each in devices
    )
    locked = [each for each in devices if not each.is_readable]
    if locked:
        remedies = "; ".join(dict.fromkeys(f"{each.kind}: {each.remedy}" for each in locked))
        return Finding("input devices", Status.WARN, detail, remedies)
    return Finding("input devices", Status.OK, detail)


def terminal(environment: Mapping[str, str], is_terminal: bool, size: Sequence[int], encoding: str) -> Finding:
    """Whether a person can drive from this terminal.

    Args:
        environment: Environment variables.
        is_terminal: Whether standard input and output are one.
        size: Columns and rows.
        encoding: Of standard output.
    """
    if not is_terminal:
        detail = "standard input or output is no terminal; nobody can drive by keyboard from here"
        return Finding("terminal", Status.WARN, detail, "run it in a terminal; over SSH: ssh -t")
    columns, rows = size
    colour = environment.get("COLORTERM", "") or "256 colours or fewer"
    detail = f"{environment.get('TERM', 'TERM unset')}, {columns}x{rows}, {encoding}, {colour}"
    if "utf" not in encoding.lower():
        return Finding("terminal", Status.WARN, detail, "export LANG=C.UTF-8")
    if columns < 80 or rows < 24:
        return Finding("terminal", Status.WARN, detail, "enlarge the window to 80x24 or more")
    return Finding("terminal", Status.OK, detail)
