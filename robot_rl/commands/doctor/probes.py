"""Questions that may crash, hang or take long, each asked in a process of its own.

    python -m robot_rl.commands.doctor.probes <name>

The answer is one JSON object on the last line of standard output, which `findings.run_probe` reads.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robot_rl.commands.doctor.findings import write_answer
from robot_rl.core.clock import HostClock, TickGrid, prompt_thread
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S

TIMING_HZ = 100.0

WARM_UP_FRAMES = 5
"""Drivers deliver their first frames late or in a burst."""


def torch_facts() -> dict[str, Any]:
    """Version and accelerators of torch, with one small product on the first to prove that it works."""
    import torch

    devices = []
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    square = torch.ones(64, 64, device="cuda" if devices else "cpu")
    if float((square @ square).sum()) != 64.0**3:
        raise RuntimeError("torch multiplies two matrices wrongly on this device")
    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "devices": devices,
        "threads": torch.get_num_threads(),
    }


def onnxruntime_facts() -> dict[str, Any]:
    """Version and execution providers of onnxruntime."""
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def video_facts() -> dict[str, Any]:
    """Whether PyAV can write H.264."""
    import av

    return {"version": av.__version__, "encoder": av.codec.Codec("libx264", "w").name}


def realtime_facts() -> dict[str, Any]:
    """Whether this user may ask for real-time scheduling; tried, because limits and capabilities both decide."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return {"permitted": False}
    return {"permitted": True}


def timing_facts(seconds: str = "2", clock: Clock | None = None) -> dict[str, Any]:
    """Lateness of an idle loop at 100 Hz, in a process in which no other thread runs."""
    with prompt_thread():
        clock = clock or HostClock()
        period_ns = round(NS_PER_S / TIMING_HZ)
        grid = TickGrid(clock, period_ns, clock.now_ns() + period_ns)
        ticks = [grid.wait() for _ in range(max(1, round(TIMING_HZ * float(seconds))))]
    late_ms = np.array([tick.lateness_ns for tick in ticks]) / 1e6
    p50, p99 = np.percentile(late_ms, [50, 99])
    worst = {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(late_ms.max())}
    return {"hz": TIMING_HZ, "seconds": float(seconds), **worst, "missed": sum(tick.missed for tick in ticks)}


def measured_rate(read: Callable[[], bool], frames: int, timeout_s: float, now_ns: Callable[[], int]) -> dict[str, Any]:
    """How often a camera really delivers, whatever it reports.

    Args:
        read: Waits for the next frame; whether one came.
        frames: How many to time, after a few to warm up.
        timeout_s: Stop timing after this long [s].
        now_ns: A monotonic clock [ns].

    Returns:
        `frames` timed, `fps` measured and `worst_gap_ms`, or None for the last two if fewer than two came.
    """
    start_ns = now_ns()
    arrivals_ns: list[int] = []
    while len(arrivals_ns) < frames + WARM_UP_FRAMES and now_ns() - start_ns < timeout_s * 1e9:
        if not read():
            break
        arrivals_ns.append(now_ns())
    timed_ns = arrivals_ns[WARM_UP_FRAMES:]
    if len(timed_ns) < 2 or timed_ns[-1] == timed_ns[0]:
        return {"frames": len(timed_ns), "fps": None, "worst_gap_ms": None}
    gaps_ns = [later - earlier for earlier, later in itertools.pairwise(timed_ns)]
    fps = len(gaps_ns) * 1e9 / (timed_ns[-1] - timed_ns[0])
    return {"frames": len(timed_ns), "fps": round(fps, 2), "worst_gap_ms": round(max(gaps_ns) / 1e6, 1)}


def camera_facts(device: str, frames: str = "60", timeout_s: str = "6") -> dict[str, Any]:
    """Size, reported rate and true rate of a V4L2 camera."""
    import cv2

    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    try:
        if not capture.isOpened():
            return {"opened": False}
        reported = capture.get(cv2.CAP_PROP_FPS)
        size = [int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))]
        rate = measured_rate(lambda: bool(capture.read()[0]), int(frames), float(timeout_s), time.monotonic_ns)
        return {"opened": True, "size": size, "reported_fps": reported, **rate}
    finally:
        capture.release()


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "torch": torch_facts,
    "onnxruntime": onnxruntime_facts,
    "video": video_facts,
    "realtime": realtime_facts,
    "timing": timing_facts,
    "camera": camera_facts,
}


def main(argv: Sequence[str]) -> int:
    """Runs one probe and writes its answer."""
    return write_answer(lambda: PROBES[argv[0]](*argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
