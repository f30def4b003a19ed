"""Does the control tick keep time at 100 Hz with a diffusion policy in the loop?

Three loops in one process, one after the other, each for `--seconds`:

- *bare clock*: the deadlines of `run_episode` with nothing to do at them, first and last: what this machine can do now.
- *run_episode*: simulated Push-T at a forced 100 Hz, command filter, recording in memory, an exported policy in its
  own thread.
- *synchronous baseline*: the same robot, filter and policy in a loop as LeRobot's: inference inside the tick, then a
  relative sleep for what is left of the period.

Lateness is counted against the same absolute grid for all three, and all three run under the same scheduling. *Missed*
is a deadline that was skipped, or in the baseline a tick that began a whole period late. The policies are untrained:
timing does not care.

    python -m benchmarks.runtime.realtime --seconds 60
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hardware.operators.simulated.absent import AbsentOperator
from hardware.sim.pusht import PushTRobot
from policies.onnx_policy import OnnxPolicy
from robot_rl.core.clock import HostClock, TickGrid, prompt_thread
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Source, Step
from robot_rl.core.specs import NS_PER_S, RobotSpec
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.runtime.rollout import run_episode
from robot_rl.sessions.setup import build_filter

CONTROL_HZ = 100.0
LIMITS = {
    "low": [0.0, 0.0],
    "high": [512.0, 512.0],
    "max_step": [512.0, 512.0],
    "max_velocity": [2_000.0, 2_000.0],
    "max_acceleration": [100_000.0, 100_000.0],
    "max_jerk": [20_000_000.0, 20_000_000.0],
    "max_age_s": {"state": 0.05, "keypoint": 0.05, "n_contacts": 0.05},
    "ramp_after_s": 0.1,
    "fault_after_s": 0.5,
    "measured": {0: {"stream": "state", "index": 0}, 1: {"stream": "state", "index": 1}},
}
POLICIES = ("mlp", "unet")
HORIZON, EXECUTE_HORIZON = 16, 8


class Row(NamedTuple):
    """One loop's figures; None where the loop has no such thing."""

    ticks: int
    over_budget: int
    missed: int
    starved: int | None
    lateness_ms: np.ndarray
    inference_ms: dict[str, float] | None


def forced_robot() -> PushTRobot:
    """Push-T that is stepped 100 times a second instead of its own 10."""
    robot = PushTRobot()
    robot.spec = dataclasses.replace(robot.spec, control_hz=CONTROL_HZ)
    return robot


def build_bundle(directory: str, denoiser: str) -> None:
    """Exports an untrained policy; run in a process of its own, so that the measuring one never loads torch."""
    import torch

    from policies.diffusion import DiffusionPolicy
    from policies.diffusion_config import DiffusionPolicyConfig, UnetConfig
    from policies.export import export_bundle

    torch.manual_seed(0)
    config = DiffusionPolicyConfig(
        streams=("state",),
        horizon=HORIZON,
        execute_horizon=EXECUTE_HORIZON,
        denoiser=denoiser,
        prediction="sample",
        timestep_spacing="trailing",
        unet=UnetConfig(widths=(64, 128, 256)),
    )
    policy = DiffusionPolicy(forced_robot().spec, config)
    state_range = {"min": np.zeros(5), "max": np.array([512.0, 512.0, 512.0, 512.0, 2 * np.pi])}
    policy.set_statistics({"state": state_range, "action": {"min": np.zeros(2), "max": np.full(2, 512.0)}})
    export_bundle(policy, Path(directory), provenance={"dataset": "none: untrained, for timing"})


class _MemorySink:
    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        self.steps: list[Step] = []

    def append(self, step: Step) -> None:
        self.steps.append(step)

    def end(self, result: EpisodeResult) -> None:
        pass

    def discard(self) -> None:
        pass


class _WatchedClock(HostClock):
    """Remembers how late every wait ended."""

    def __init__(self) -> None:
        super().__init__()
        self.lateness_ns: list[int] = []

    def sleep_until_ns(self, deadline_ns: int) -> None:
        super().sleep_until_ns(deadline_ns)
        self.lateness_ns.append(self.now_ns() - deadline_ns)


def bare_clock(ticks: int, priority: int | None) -> Row:
    """The deadlines of `run_episode`, with no work."""
    clock = _WatchedClock()
    with prompt_thread(priority):
        grid = TickGrid(clock, round(NS_PER_S / CONTROL_HZ))
        waited = [grid.wait() for _ in range(ticks)]
    return Row(ticks, 0, sum(tick.missed for tick in waited), None, np.array(clock.lateness_ns) / 1e6, None)


def asynchronous(policy: OnnxPolicy, ticks: int, priority: int | None) -> Row:
    """`run_episode` as `robot-rl deploy` runs it."""
    robot, clock = forced_robot(), _WatchedClock()
    options = RolloutSettings(max_ticks=ticks, execute_horizon=policy.execute_horizon, realtime_priority=priority)
    header = EpisodeHeader("benchmark", "nobody", policy.fingerprint, 0, "", "")
    sink, command_filter = _MemorySink(), build_filter(robot.spec, LIMITS)
    with robot:
        who = Meeting(robot, policy, AbsentOperator(), None, clock, command_filter, sink)
        cadence = run_episode(who, options, 0, header).cadence
    return Row(
        cadence["ticks"],
        cadence["over_budget_ticks"],
        cadence["missed_deadlines"],
        cadence["starved_ticks"],
        np.array(clock.lateness_ns) / 1e6,
        cadence["inference_ms"],
    )


def synchronous(policy: OnnxPolicy, ticks: int, priority: int | None) -> Row:
    """Inference inside the tick, a queue of actions, and a sleep for what is left of the period."""
    with prompt_thread(priority):
        return _synchronous(policy, ticks)


def _synchronous(policy: OnnxPolicy, ticks: int) -> Row:
    robot, period_s = forced_robot(), 1.0 / CONTROL_HZ
    robot.reset(0)
    policy.reset(0)
    command_filter, sink = build_filter(robot.spec, LIMITS), _MemorySink()
    sink.begin(robot.spec, EpisodeHeader("benchmark", "nobody", policy.fingerprint, 0, "", ""))
    queue: list[np.ndarray] = []
    lateness_s, inference_s, over_budget = [], [], 0
    before = robot.observe(time.monotonic_ns())
    command_filter.reset(before)
    started_s = last_s = time.perf_counter()
    for tick in range(ticks):
        begun_s = time.perf_counter()
        lateness_s.append(begun_s - (started_s + tick * period_s))
        observation = robot.observe(time.monotonic_ns())
        if not queue:
            asked_s = time.perf_counter()
            queue = [*policy.act([before, observation]).values[: policy.execute_horizon]]
            inference_s.append(time.perf_counter() - asked_s)
        requested = queue.pop(0)
        command, reasons = command_filter(requested, observation, max(begun_s - last_s, 1e-9), True)
        sink.append(Step(observation, requested, robot.apply(command), Source.POLICY, 0.0, reasons))
        before, last_s = observation, begun_s
        left_s = period_s - (time.perf_counter() - begun_s)
        over_budget += left_s < 0
        time.sleep(max(0.0, left_s))
    p50, p99 = np.percentile(inference_s, (50, 99)) * 1e3
    inference_ms = {"p50": float(p50), "p99": float(p99), "max": max(inference_s) * 1e3}
    lateness_ms = np.array(lateness_s) * 1e3
    missed = int((lateness_ms >= period_s * 1e3).sum())
    return Row(ticks, over_budget, missed, None, lateness_ms, inference_ms)


def printed(row: Row, label: str) -> str:
    p50, p99 = np.percentile(row.lateness_ms, (50, 99))
    inference = "-" if row.inference_ms is None else "{p50:.1f} / {p99:.1f} / {max:.1f}".format(**row.inference_ms)
    starved = "-" if row.starved is None else str(row.starved)
    lateness = f"{p50:.3f} / {p99:.3f} / {row.lateness_ms.max():.3f}"
    return f"| {label} | {row.ticks} | {row.over_budget} | {row.missed} | {starved} | {lateness} | {inference} |"


def in_own_process(work: Callable[..., None], *arguments: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed; see above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each loop")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--priority", type=int, default=None, help="SCHED_FIFO priority of the tick, where permitted")
    given = parser.parse_args()
    ticks = max(2, round(given.seconds * CONTROL_HZ))
    print(f"{given.seconds:g} s per loop at {CONTROL_HZ:g} Hz, {os.cpu_count()} cores, priority {given.priority}\n")
    print(
        "| loop | ticks | over budget | missed | starved | lateness ms p50 / p99 / max | inference ms p50 / p99 / max |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name in given.policies:
            in_own_process(build_bundle, f"{directory}/{name}", name)
        print(printed(bare_clock(ticks, given.priority), "bare clock, before"), flush=True)
        for name in given.policies:
            policy = OnnxPolicy(f"{directory}/{name}")
            print(printed(asynchronous(policy, ticks, given.priority), f"run_episode, {name} K=10"), flush=True)
            print(printed(synchronous(policy, ticks, given.priority), f"synchronous baseline, {name} K=10"), flush=True)
        print(printed(bare_clock(ticks, given.priority), "bare clock, after"), flush=True)


if __name__ == "__main__":
    main()
