"""`true_speed.py` on a real wire: arm node, camera node and session in processes of their own, in real time.

    python -m benchmarks.ros.true_speed_wire [--times 20] [--only WORD ...] [--output runs/true_speed_wire]
                                         [--backend rclpy --python /path/of/a/ros/environment/bin/python]

The arm node's driver is the simulated arm that gets into trouble (`hardware/sim/troubled_arm.py`), at a moment that an
episode's seed draws. A session as `robot-rl deploy` runs it turns the first joint at 0.6 rad/s (limit 0.75) for three
seconds. When the arm node has latched, a person clears once the trouble is over, and the next episode begins. The true
joints are what the arm wrote down itself; columns are those of `true_speed.py`, but for *restarted*: the next episode's
arm moved. About 8 s a trial.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ros.fault_bench import joint_arm_settings
from benchmarks.ros.fault_scene import Scene
from benchmarks.runtime.true_speed import HEAD, line
from benchmarks.runtime.true_speed_pilot import Trial, rest_after
from hardware.arm.state import LATCHED, Mode
from hardware.sim.joint_arm import JOINTS
from hardware.sim.troubled_arm import TrueMotion
from robot_rl.core.specs import NS_PER_S

TICKS = 60
BEGIN_S = 20.0
END_S = 30.0
MIDDLE_S = [0.3, 1.8]
RESTS_S = 1.0
MOVED_RAD = 0.005
CLEARED_S = 0.5
TROUBLES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "no trouble": [],
    **{f"frozen for {for_s:g} s": [{"kind": "frozen", "for_s": for_s}] for for_s in (0.1, 0.5, 3.0)},
    **{
        f"speed scaled to {100 * scale:g} % for 1 s": [{"kind": "speed_scaled", "scale": scale, "for_s": 1.0}]
        for scale in (0.0, 0.1)
    },
    "pushed by hand 0.3 rad": [{"kind": "pushed", "by_rad": -0.3, "push_s": 0.6, "for_s": 1.0}],
    **{
        f"false samples: {samples} of {shows}": [{"kind": "false_samples", "shows": shows, "samples": samples}]
        for shows, samples in (("zeros", 1), ("zeros", 5), ("turn", 1), ("sign", 2), ("garbage", 1), ("nan", 1))
    },
    "false sample at the reset: zeros": [
        {"kind": "false_samples", "shows": "zeros", "since": "reset", "at_s": [0.0, 0.1]}
    ],
    "two publishers, 0.4 rad apart, 0.5 s": [{"kind": "other_publisher", "for_s": 0.5}],
    "20 % of commands lost for 2 s": [{"kind": "lost_commands", "share": 0.2, "for_s": 2.0}],
    "100 % of commands lost for 0.3 s": [{"kind": "lost_commands", "share": 1.0, "for_s": 0.3}],
    "silent for 0.4 s": [{"kind": "silent", "for_s": 0.4}],
}


@dataclass
class _Run:
    """An episode on the wire: when it was, monotonic [ns], and what was said."""

    seed: int
    begun_ns: int
    ended_ns: int = 0
    latched_ns: int | None = None
    said: str = ""


def settings_with(troubles: Sequence[Mapping[str, Any]], record: Path) -> dict[str, Any]:
    """The simulated real-time arm, in trouble once in every episode."""
    settings = joint_arm_settings()
    settings["arm"]["driver"] = {
        "_target_": "hardware.sim.troubled_arm.TroubledArm",
        "control_hz": settings["robot"]["control_hz"],
        "troubles": [{"at_s": MIDDLE_S, **each} for each in troubles],
        "record": str(record),
    }
    return settings


def run_episode(scene: Scene, seed: int) -> _Run:
    """One episode, up to an arm that is ready again."""
    observer = scene.observer
    observer.wait_camera(time.monotonic_ns())
    observer.forget()
    run = _Run(seed, time.monotonic_ns())
    scene.policy.ask(seed=seed, leader=False, ticks=TICKS)
    ended = scene.policy.wait_for("ended", timeout_s=BEGIN_S + END_S)
    # Not until the arm is seen to rest: one that lied may not be shown before the fault is cleared.
    time.sleep(RESTS_S)
    latched = [(at_ns, mode) for at_ns, mode in observer.modes if mode.mode in LATCHED and at_ns >= run.begun_ns]
    if latched:
        run.latched_ns, run.said = latched[0][0], f"{latched[0][1].mode}: {latched[0][1].reason}"
    elif not str(ended["reason"]).startswith("time limit"):
        run.said = str(ended["reason"])
    time.sleep(CLEARED_S)
    while observer.mode.mode is not Mode.INACTIVE:
        observer.recover()
        time.sleep(CLEARED_S)
    run.ended_ns = time.monotonic_ns()
    return run


def during(run: _Run, motion: TrueMotion) -> TrueMotion:
    """The part of an episode."""
    inside = (motion.times_ns >= run.begun_ns) & (motion.times_ns < run.ended_ns)
    return TrueMotion(motion.times_ns[inside], motion.joints_rad[inside], motion.by_hand[inside])


def judged(run: _Run, after: _Run, motion: TrueMotion, events: Sequence[tuple[int, str]], limit: float) -> Trial:
    """What the joints really did in an episode, and whether they moved in the next."""
    part, later = during(run, motion), during(after, motion)
    trial = Trial(said=[run.said] if run.said else [])
    trial.came_back = bool(np.ptp(later.joints_rad, axis=0).max() > MOVED_RAD)
    own = [(at_ns, words) for at_ns, words in events if run.begun_ns <= at_ns < run.ended_ns]
    trial.began = [f"{(at_ns - run.begun_ns) / NS_PER_S:.2f} s {words}" for at_ns, words in own]
    trial.over = float(part.speeds().max() / limit)
    if own and run.latched_ns is not None:
        trial.rest_s = rest_after(part, own[0][0], run.latched_ns)
    return trial


def run_kind(troubles: Sequence[Mapping[str, Any]], arguments: argparse.Namespace, place: Path) -> list[Trial]:
    """All trials of a kind, and one episode more, which shows whether the arm moves after the last."""
    record = place / "true.npz"
    settings = settings_with(troubles, record)
    limit = float(settings["limits"]["max_velocity"][0])
    runs: list[_Run] = []
    with Scene("plain", place, arguments.domain, settings, nodes_python=arguments.python) as scene:
        for seed in range(1, arguments.times + 2):
            runs.append(run_episode(scene, seed))
    with np.load(record) as found:
        motion = TrueMotion(found["times_ns"], found["joints_rad"].reshape(-1, len(JOINTS)), found["by_hand"])
        events = [(int(each.split()[0]), each.partition(" ")[2]) for each in found["events"].tolist()]
    return [judged(run, after, motion, events, limit) for run, after in itertools.pairwise(runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="trials of every kind")
    parser.add_argument("--only", nargs="+", default=[""], help="kinds whose name holds one of these")
    parser.add_argument("--output", type=Path, default=Path("runs/true_speed_wire"))
    parser.add_argument("--domain", type=int, default=92, help="ROS_DOMAIN_ID; all of it stays on this machine")
    parser.add_argument("--backend", choices=["pip", "rclpy"], default="pip", help="by which the nodes speak ROS")
    parser.add_argument("--python", type=Path, help="of an environment with real rclpy, for --backend rclpy")
    arguments = parser.parse_args()
    if (arguments.backend == "rclpy") != (arguments.python is not None):
        parser.error("--backend rclpy and --python go together: the Python of an environment that has rclpy")
    arguments.output.mkdir(parents=True, exist_ok=True)
    results, lines = {}, []
    print(HEAD, flush=True)
    for name, troubles in TROUBLES.items():
        if not any(word in name for word in arguments.only):
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            trials = run_kind(troubles, arguments, Path(place))
        results[name] = [dataclasses.asdict(each) for each in trials]
        lines.append(line(name, trials))
        print(lines[-1], flush=True)
        (arguments.output / "true_speed_wire.json").write_text(json.dumps(results, indent=1) + "\n")
        (arguments.output / "true_speed_wire.md").write_text("\n".join([HEAD, *lines]) + "\n")


if __name__ == "__main__":
    main()
