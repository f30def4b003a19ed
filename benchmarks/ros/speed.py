"""From camera to policy to command over ROS topics, and how evenly the command stream runs.

    python -m benchmarks.ros.speed [--seconds 20] [--output runs/ros_faults]

Two camera nodes (640x480 JPEG at 30 Hz, drawn pattern), an arm node around the simulated real-time arm, and a session
at 30 Hz with a small numpy policy that reads both pictures whole, each a process of its own on this machine.

Every chunk of the policy carries its number in one joint, so that each executed row tells from which pictures it was
made. *Accepted* is when the session has the arm node's acknowledgement of the row, *commanded* the first command of the
stream after that. Both count from the capture of the older of the two pictures, and hold what a fixed rate costs: up to
a camera period until the next tick looks, and one tick until the row that was computed meanwhile is sent.

Jitter is how far the time between two commands, as the driver sees them, is from the stream's period. The bare clock is
a process that only sleeps until absolute deadlines of the same rate: alone before, and beside the same load. Writes
`speed.json` and `speed.md` into the output directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from benchmarks.ros.fault_bench import ROOT, Bench, Process, cpu_s, environment, joint_arm_settings, profile
from benchmarks.ros.fault_observer import Observer
from hardware.cameras.frame_source import resized
from hardware.ros.robot import RosRobot
from robot_rl.core.clock import HostClock, prompt_thread
from robot_rl.core.episode import ActionChunk, Observation, Step
from robot_rl.core.specs import NS_PER_S, FloatArray, RobotSpec
from robot_rl.runtime.cadence import render
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.runtime.rollout import run_episode
from robot_rl.sessions.setup import NoSink, TaskSettings, build_filter, build_operator, header_for

POLICY_HZ, CAMERA_HZ = 30.0, 30.0
WIDTH, HEIGHT = 640, 480
STEP_RAD = 1e-3
"""How far the numbered joint goes from chunk to chunk."""
NUMBERED = 5
ROWS = 3
FEATURES = 64
WARM_UP_S = 1.0


class NumberedPolicy:
    """Reads every picture, computes a little, and writes its chunk's number into one joint.

    Attributes:
        captures_ns: Of each chunk the capture of the older picture, on the clock of ticks [ns].
        start_rad: What the numbered joint counts from.
    """

    observation_count = 1
    fingerprint = "numbered"

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self._weights = np.random.default_rng(0).normal(0.0, 1e-9, (FEATURES, spec.action.size))
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begins numbering anew, where the next observation is."""
        self.captures_ns: list[int] = []
        self.start_rad: float | None = None
        self._place: FloatArray | None = None

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """A chunk whose place says how many came before it; the picture goes into it without changing it."""
        seen = history[-1]
        if self._place is None:
            self._place = np.array(seen.values["joint_position"], dtype=np.float64)
            self._place[-1] = 1.0
            self.start_rad = float(self._place[NUMBERED])
        pictures = [np.asarray(seen.values[name]) for name in self.spec.images]
        ages_ns = [seen.age_ns[name] for name in self.spec.images] or [seen.age_ns["joint_position"]]
        features = np.zeros(FEATURES)
        for picture in pictures:
            features += resized(picture, 8, 8).mean(axis=-1).ravel()
        row = self._place + features @ self._weights
        row[NUMBERED] = self._place[NUMBERED] + STEP_RAD * len(self.captures_ns)
        row[-1] = 1.0
        self.captures_ns.append(seen.stamp_ns - max(ages_ns))
        return ActionChunk(np.tile(row, (ROWS, 1)).astype(self.spec.action.dtype), seen.stamp_ns)


class TimedRobot(RosRobot):
    """A robot that notes when each row was acknowledged, monotonic [ns]."""

    acknowledged_ns = 0

    def apply(self, action: FloatArray) -> FloatArray:
        """Sends a row and waits until it is acknowledged."""
        applied = super().apply(action)
        self.acknowledged_ns = time.monotonic_ns()
        return applied


class Rows(NoSink):
    """Keeps of every executed row its chunk's number and when it was acknowledged."""

    def __init__(self, robot: TimedRobot, policy: NumberedPolicy) -> None:
        self._robot, self._policy = robot, policy
        self.found: list[tuple[int, int]] = []

    def append(self, step: Step) -> None:
        """Reads the chunk's number from the row."""
        assert self._policy.start_rad is not None
        number = round((float(step.requested[NUMBERED]) - self._policy.start_rad) / STEP_RAD)
        if 0 <= number < len(self._policy.captures_ns):
            self.found.append((self._policy.captures_ns[number], self._robot.acknowledged_ns))


def session(config: Path, output: Path, ticks: int) -> None:
    """The session's process."""
    settings = json.loads(config.read_text())
    arguments = {key: value for key, value in settings["robot"].items() if key != "_target_"}
    robot = TimedRobot(**arguments)
    policy = NumberedPolicy(robot.spec)
    rows = Rows(robot, policy)
    operator = build_operator({"_target_": "hardware.operators.simulated.absent.AbsentOperator"}, robot.spec)
    options = RolloutSettings(max_ticks=ticks, execute_horizon=1, blend_s=0.0)
    with robot:
        _say("connected")
        command_filter = build_filter(robot.spec, settings["limits"])
        who = Meeting(robot, policy, operator, None, HostClock(), command_filter, rows)
        header = header_for(TaskSettings("speed", ticks), operator, policy, 1)
        result = run_episode(who, options, 1, header)
    np.save(output, np.array(rows.found, dtype=np.int64).reshape(-1, 2))
    _say("ended", reason=result.reason, cadence=dict(result.cadence), counters=robot.counters)


def _say(what: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"said": what, **facts}) + "\n")
    sys.stdout.flush()


def bare_clock(hz: float, seconds: float) -> list[int]:
    """Wakes at absolute deadlines and does nothing else; when it woke, monotonic [ns]."""
    woken: list[int] = []
    with prompt_thread():
        start_ns = time.monotonic_ns()
        for index in range(round(hz * seconds)):
            left_ns = start_ns + round(index * NS_PER_S / hz) - time.monotonic_ns()
            if left_ns > 0:
                time.sleep(left_ns / NS_PER_S)
            woken.append(time.monotonic_ns())
    return woken


class Jitter(NamedTuple):
    """How far intervals are from their period [us]."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, times_ns: npt.NDArray[np.int64], hz: float) -> Self:
        """From the times of the beats, monotonic [ns]."""
        away_us = np.abs(np.diff(times_ns) - NS_PER_S / hz) / 1000
        return cls(*np.percentile(away_us, [50, 99, 100]).tolist())

    def __str__(self) -> str:
        return f"{self.p50:.0f} / {self.p99:.0f} / {self.most:.0f}"


class BareClock:
    """The bare clock as a process of its own; a context manager whose `jitter` is known once it is left."""

    def __init__(self, hz: float, seconds: float) -> None:
        self._hz, self._seconds = hz, seconds
        self.jitter = Jitter(0.0, 0.0, 0.0)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.ros.speed", "--clock", str(self._hz)]
        self._process = subprocess.Popen(
            [*command, "--seconds", str(self._seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        output, _ = self._process.communicate()
        if error is None:
            self.jitter = Jitter.of(np.array(json.loads(output), dtype=np.int64), self._hz)


def settings_for(stream_hz: float, cameras: Sequence[str], times: Path) -> dict[str, Any]:
    """The simulated arm with some cameras at the full size, seen at the policy's rate."""
    settings = joint_arm_settings(f"robot.control_hz={POLICY_HZ}", f"arm.stream_hz={stream_hz}")
    namespace, streams = settings["robot"]["namespace"], settings["robot"]["streams"]
    limits = settings["limits"]
    del streams["image_front"], limits["max_age_s"]["image_front"]
    limits["max_step"] = [each / POLICY_HZ for each in limits["max_velocity"]]
    source = {"_target_": "hardware.cameras.pattern.PatternCamera", "width": WIDTH, "height": HEIGHT, "fps": CAMERA_HZ}
    settings["cameras"] = {}
    for name in cameras:
        topic = f"{name}/image_raw/compressed"
        streams[f"image_{name}"] = {"kind": "image", "topic": topic, "size": [HEIGHT, WIDTH], "max_age_s": 0.2}
        limits["max_age_s"][f"image_{name}"] = 0.2
        settings["cameras"][name] = {"namespace": f"{namespace}/{name}", "source": source, "publish": ["compressed"]}
    settings["arm"]["driver"] = {
        "_target_": "benchmarks.ros.fault_devices.TimedJointArm",
        "path": str(times),
        "control_hz": POLICY_HZ,
    }
    return settings


@contextlib.contextmanager
def nodes(bench: Bench, cameras: Sequence[str]) -> Iterator[dict[str, Process]]:
    """Arm node and camera nodes, up and heard."""
    with Observer(bench.settings["robot"]["namespace"]) as observer:
        running = {"arm node": bench.node("arm_node")}
        running |= {f"camera {name}": bench.node("camera_node", f"camera:={name}") for name in cameras}
        try:
            observer.wait_for("an arm node", lambda: observer.modes)
        except TimeoutError:
            for process in running.values():
                process.end()
            raise
    # The observer is gone: nobody but the session listens.
    try:
        yield running
    finally:
        for process in running.values():
            process.end()


def run(stream_hz: float, cameras: Sequence[str], seconds: float, domain: int) -> dict[str, Any]:
    """One session: latencies, cadence, processor time, jitter."""
    with BareClock(stream_hz, seconds) as alone:
        pass
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        place = Path(scratch)
        settings = settings_for(stream_hz, cameras, place / "commands.npy")
        joined = {"ROS_DOMAIN_ID": str(domain), "CYCLONEDDS_URI": profile()}
        bench = Bench(settings, {"": joined}, place, {})
        with environment(joined), nodes(bench, cameras) as running:
            arguments = ["--actor", str(bench.config), str(place / "rows.npy"), "--seconds", str(seconds + WARM_UP_S)]
            command = [sys.executable, "-m", "benchmarks.ros.speed", *arguments]
            process = Process(command, {**os.environ, **joined}, place / "session.log")
            running["session"] = process
            process.wait_for("connected")
            before, begun = {name: cpu_s(each.popen.pid) for name, each in running.items()}, time.monotonic()
            with BareClock(stream_hz, seconds) as beside:
                ended = process.wait_for("ended", timeout_s=seconds + 60.0)
                took_s = time.monotonic() - begun
                shares = {name: (cpu_s(each.popen.pid) - before[name]) / took_s for name, each in running.items()}
        commands_ns, rows = np.load(place / "commands.npy"), np.load(place / "rows.npy")
    return facts(stream_hz, commands_ns, rows, ended) | {
        "stream_hz": stream_hz,
        "cameras": len(cameras),
        "cpu": shares,
        "bare_alone": alone.jitter,
        "bare_beside": beside.jitter,
    }


def facts(
    stream_hz: float, commands_ns: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], ended: Mapping[str, Any]
) -> dict[str, Any]:
    """What a session's times amount to, the first second left out.

    Args:
        stream_hz: Rate of the commands [Hz].
        commands_ns: When the driver got each. Shape (N,).
        rows: Capture and acknowledgement of each row. Shape (T, 2).
        ended: What the session said.
    """
    rows = rows[rows[:, 1] > rows[0, 1] + WARM_UP_S * NS_PER_S]
    during = commands_ns[(commands_ns > rows[0, 1]) & (commands_ns < rows[-1, 1])]
    next_command = np.minimum(np.searchsorted(commands_ns, rows[:, 1]), len(commands_ns) - 1)
    accepted_ms = (rows[:, 1] - rows[:, 0]) / 1e6
    commanded_ms = (commands_ns[next_command] - rows[:, 0]) / 1e6
    return {
        "rows": len(rows),
        "accepted_ms": np.percentile(accepted_ms, [50, 99, 100]).tolist(),
        "commanded_ms": np.percentile(commanded_ms, [50, 99, 100]).tolist(),
        "jitter": Jitter.of(during, stream_hz),
        "commands": len(during),
        "cadence": ended["cadence"],
        "counters": ended["counters"],
        "ended": ended["reason"],
    }


def three(values: Sequence[float]) -> str:
    return " / ".join(f"{each:.1f}" for each in values)


def latency_table(result: Mapping[str, Any]) -> str:
    """The first table."""
    cadence = result["cadence"]
    rows = {
        "capture to accepted, p50 / p99 / max [ms]": three(result["accepted_ms"]),
        "capture to commanded, p50 / p99 / max [ms]": three(result["commanded_ms"]),
        "ticks, over budget, missed": (
            f"{cadence['ticks']}, {cadence['over_budget_ticks']}, {cadence['missed_deadlines']}"
        ),
        "starved ticks, rows without acknowledgement": (
            f"{cadence['starved_ticks']}, {result['counters']['unacknowledged']}"
        ),
        "CPU, share of a core": ", ".join(f"{name} {100 * share:.0f} %" for name, share in result["cpu"].items()),
    }
    head = f"| {result['cameras']} cameras {WIDTH}x{HEIGHT} at {CAMERA_HZ:g} Hz, policy {POLICY_HZ:g} Hz, stream "
    return "\n".join(
        [
            head + f"{result['stream_hz']:g} Hz | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows.items()),
        ]
    )


JITTER_HEAD = (
    "| stream [Hz] | cameras | commands | jitter p50 / p99 / max [us] | bare clock beside | bare clock alone |\n"
    "|---|---|---|---|---|---|"
)


def jitter_line(result: Mapping[str, Any]) -> str:
    """One row of the second table."""
    columns = [f"{result['stream_hz']:g}", result["cameras"], result["commands"], result["jitter"]]
    return "| " + " | ".join(map(str, [*columns, result["bare_beside"], result["bare_alone"]])) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of every session")
    parser.add_argument("--output", type=Path, default=Path("runs/ros_faults"))
    parser.add_argument("--domain", type=int, default=95, help="ROS_DOMAIN_ID; all of it stays on this machine")
    parser.add_argument("--actor", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--clock", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.actor:
        config, rows = arguments.actor
        session(config, rows, round(arguments.seconds * POLICY_HZ))
        return
    if arguments.clock:
        print(json.dumps(bare_clock(arguments.clock, arguments.seconds)))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    rates: Mapping[float, Sequence[str]] = {100.0: ("front", "wrist"), 250.0: (), 500.0: ()}
    results = [run(hz, cameras, arguments.seconds, arguments.domain) for hz, cameras in rates.items()]
    text = "\n".join([latency_table(results[0]), "", JITTER_HEAD, *map(jitter_line, results)])
    print(text)
    print("\n" + render(results[0]["cadence"]))
    (arguments.output / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.output / "speed.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
