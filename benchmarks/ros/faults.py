"""What happens when something fails while a simulated arm moves: real processes on a real wire, fault by fault.

    python -m benchmarks.ros.faults [--times 20] [--only WORD ...] [--output runs/ros_faults]
                                    [--backend rclpy --python /path/of/a/ros/environment/bin/python]

Around the simulated real-time arm of `configs/robot/ros/sim_joint.yaml` run an arm node, a camera node, and a session
as `robot-rl deploy` runs it, which records. A policy turns the first joint at 0.6 rad/s; then the fault comes, at a
random moment within a tick. What is told is what an observer outside the faulty process saw:

- *detected*: until the arm began to brake for good, or the arm node said so, whichever was first; *said*: until the
  arm node's mode said so.
- *rest* and *moved*: until the arm was within 1 mrad of where it came to rest, and how far that was.
- *recovered when told*: after the cause was gone the arm stayed at rest; a latched stop outlasted a request for
  motion and ended when it was cleared; and the next trial moved again.
- *dataset whole*: afterwards, with recordings that a kill left behind recovered, every trial is an episode, and
  `robot-rl data verify` finds nothing.

With `--backend rclpy` arm node and camera node run on real rclpy, by the Python of the environment that has it; session
and observer stay on our client, as a user's do who joins a robot's graph. Packets that get lost are left out there: it
is a setting of our middleware.

Writes `faults.json` and `faults.md` into the output directory. Needs Linux; the network fault needs unprivileged user
namespaces and is left out without them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ros.fault_kinds import FAULTS, QUIET_S, STOPPED_S, Fault
from benchmarks.ros.fault_observer import Motion, Observer
from benchmarks.ros.fault_scene import Scene
from benchmarks.ros.fault_table import HEAD, LATER_RAD, line
from data.archive.store import DatasetStore
from data.archive.verify import verify_dataset
from data.recorder.recovery import recover
from hardware.arm.state import LATCHED, Mode
from hardware.cameras.pattern import NoStamp, decode_stamp
from hardware.ros import decode
from robot_rl.core.specs import NS_PER_S

MOVING_RAD = 0.3
BEGIN_S = 15.0
LONGEST_S = 3.0
"""How long a session goes on under a fault that need not end it."""


@dataclass
class Trial:
    """One fault.

    Attributes:
        seed: Of its episode.
        motion: What the arm did; None where the arm was not to stop by itself.
        arm_said: The arm node's mode and reason afterwards.
        session_said: How the session's process ended its episode; empty if it was killed.
        recovered: As "recovered when told" above; that the next trial moves again, the run's going on shows.
        commands: Rows that the observer heard.
        note: What else there is to tell.
        moved_later_rad: How far the arm went once the cause was gone, though nobody had told it to.
    """

    seed: int
    motion: Motion | None
    arm_said: str
    session_said: str
    recovered: bool
    commands: int
    note: str = ""
    moved_later_rad: float = 0.0


def begin(scene: Scene, fault: Fault, seed: int) -> str:
    """Starts an episode and returns once the arm moves; why it did not, if it did not."""
    observer, policy = scene.observer, scene.policy
    observer.wait_camera(time.monotonic_ns())
    policy.ask(seed=seed, leader=fault.leads)
    said = policy.wait_for("connected", "ended", timeout_s=60.0)
    if said["said"] == "ended":
        return str(said["reason"])
    try:
        observer.wait_for("the episode", lambda: observer.mode.seed == seed and observer.mode.session, BEGIN_S)
    except TimeoutError:
        if fault.ends != "lossy":
            raise
        return str(policy.wait_for("ended")["reason"])
    observer.forget()
    if fault.leads:
        policy.wait_for("listening")
        policy.ask(key="\t")
        scene.leader.ask(sweep=True)
    if fault.ends == "lossy":
        observer.wait_for("motion or its end", lambda: observer.moved(MOVING_RAD) or observer.mode.mode in LATCHED)
    else:
        observer.wait_for("motion", lambda: observer.moved(MOVING_RAD))
    return ""


def run_trial(scene: Scene, fault: Fault, seed: int, generator: random.Random) -> Trial:
    """One episode with its fault, up to a robot that is ready again."""
    observer = scene.observer
    problem = begin(scene, fault, seed)
    if problem:
        return Trial(seed, None, "", problem, observer.recover(), 0, "never began")
    session = observer.mode.session
    time.sleep(generator.uniform(0.0, 0.05))
    fault_ns = fault.inject(scene)
    note, stopped_by_itself = "", True
    if fault.ends:
        note, stopped_by_itself, fault_ns = go_on_under(scene, fault, fault_ns)
    elif fault.arm_says:
        observer.wait_for("the end of motion", lambda: observer.mode.mode is not Mode.ACTIVE)
    observer.wait_rest()
    motion = observer.motion_after(fault_ns) if stopped_by_itself else None
    if motion is not None and fault.ends:
        # Counted from when the arm node said so: there is no moment at which the fault came.
        motion = motion._replace(said_ms=None, braked_ms=None)
    arm_said = f"{observer.mode.mode}: {observer.mode.reason}"
    fault.relieve(scene)
    later_rad = moved_unasked(observer)
    told = later_rad < LATER_RAD and observer.mode.mode is not Mode.ACTIVE
    if not fault.arm_says:
        arm_said = f"{observer.mode.mode}: {observer.mode.reason}"
    ended = {} if "policy process: SIGKILL" in fault.name else end_of_session(scene, fault)
    words = ended.get("heard", [])[-2:-1] if fault.leads else [str(ended.get("reason", ""))]
    told = observer.recover() and told
    return Trial(seed, motion, arm_said, " ".join(words), told, observer.commands[session], note, later_rad)


def end_of_session(scene: Scene, fault: Fault) -> dict[str, Any]:
    """What the session's process says of its episode; one that only pauses is ended as a person would."""
    if fault.leads:
        scene.policy.ask(key="q")
    return scene.policy.wait_for("ended")


def go_on_under(scene: Scene, fault: Fault, fault_ns: int) -> tuple[str, bool, int]:
    """A fault that need not stop the arm: waits, then ends the session by the stop if it still runs.

    Returns:
        What to note, whether the arm stopped by itself, and since when its motion counts.
    """
    observer, until_s = scene.observer, time.monotonic() + (LONGEST_S if fault.ends == "lossy" else STOPPED_S)
    while time.monotonic() < until_s and observer.mode.mode is Mode.ACTIVE:
        time.sleep(0.02)
    note = past_shown(observer) if fault.ends == "late" else ""
    if observer.mode.mode is not Mode.ACTIVE:
        return note, True, observer.modes[-1][0]
    observer.press_stop()
    observer.wait_for("the stop", lambda: observer.mode.mode is Mode.STOPPED)
    return note or "went on", False, fault_ns


def past_shown(observer: Observer) -> str:
    """How far the newest picture's own time is behind its header's."""
    picture = observer.pictures[-1][1]
    try:
        shown_ns = decode_stamp(decode.compressed_image(picture, (240, 320)))
    except NoStamp as error:
        return str(error)
    return f"picture is {(decode.stamp_ns(picture) - shown_ns) / NS_PER_S:.2f} s older than its header says"


def moved_unasked(observer: Observer) -> float:
    """How far the arm goes within a while in which nobody asks for anything [rad]."""
    observer.forget()
    time.sleep(QUIET_S)
    observer.wait_for("joints", lambda: len(observer.path()[0]) > 1)
    _, places = observer.path()
    return float(np.ptp(places, axis=0).max())


@dataclass
class Findings:
    """What is in a dataset after a fault's trials.

    Attributes:
        episodes: Seed to ticks.
        recovered: How many came from recordings that were left behind.
        wrong: What `verify` says, warnings apart.
    """

    episodes: dict[int, int] = field(default_factory=dict)
    recovered: int = 0
    wrong: list[str] = field(default_factory=list)


def examine(dataset: Path) -> Findings:
    """Recovers and verifies a dataset."""
    found = Findings()
    url = str(dataset)
    found.recovered = sum(each.episode_id is not None for each in recover(url, wait_s=60.0))
    with DatasetStore.open(url) as store:
        for episode_id, findings in verify_dataset(store):
            info = store.info(episode_id)
            found.episodes[info.header.seed] = info.result.ticks
            found.wrong += [str(each) for each in findings if not each.warning]
    return found


def run_fault(fault: Fault, times: int, domain: int, place: Path, python: Path | None = None) -> dict[str, Any]:
    """All trials of a fault, and the dataset afterwards."""
    generator, trials, failure = random.Random(0), list[Trial](), ""
    begun = time.monotonic()
    scene = Scene(fault.scene, place, domain, nodes_python=python)
    try:
        with scene:
            for seed in range(1, times + 1):
                trials.append(run_trial(scene, fault, seed, generator))
            scene.end_policies()
    except TimeoutError as error:
        # The other faults are still worth measuring; the table says how many trials there are.
        failure = str(error)
    found = examine(scene.dataset) if scene.dataset.exists() else Findings()
    return {
        "fault": fault.name,
        "configured": fault.configured,
        "wanted": times,
        "took_s": round(time.monotonic() - begun, 1),
        "failure": failure,
        "trials": [{**dataclasses.asdict(each), "motion": motion_facts(each.motion)} for each in trials],
        "dataset": dataclasses.asdict(found),
        "missing_episodes": [t.seed for t in trials if t.commands and t.seed not in found.episodes],
        "rows_missing": [
            max(0, t.commands - found.episodes.get(t.seed, 0)) for t in trials if "policy process" in fault.name
        ],
    }


def motion_facts(motion: Motion | None) -> dict[str, Any] | None:
    return None if motion is None else {**motion._asdict(), "detected_ms": motion.detected_ms}


def isolated(fault: Fault, arguments: argparse.Namespace) -> dict[str, Any]:
    """A fault in network namespaces of its own, by this script run anew inside them."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "benchmarks.ros.faults", "--inside", "--only", fault.name]
        options = ["--times", str(arguments.times), "--output", place, "--domain", str(arguments.domain)]
        if arguments.python is not None:
            options += ["--backend", arguments.backend, "--python", str(arguments.python)]
        subprocess.run(["unshare", "-Urn", *command, *options], check=True, stdout=subprocess.DEVNULL)
        result: dict[str, Any] = json.loads((Path(place) / "faults.json").read_text())[0]
    return result


def namespaces_allowed() -> bool:
    """Whether an unprivileged user may make network namespaces."""
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        return False
    return subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode == 0


def measure(fault: Fault, arguments: argparse.Namespace) -> dict[str, Any]:
    if fault.scene == "two hosts" and not arguments.inside:
        return isolated(fault, arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        result = run_fault(fault, arguments.times, arguments.domain, Path(place), arguments.python)
        if result["failure"]:
            kept = arguments.output / "logs" / re.sub(r"\W+", "_", fault.name)
            kept.mkdir(parents=True, exist_ok=True)
            for log in Path(place).glob("*.log"):
                shutil.copy(log, kept)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="trials of every fault")
    parser.add_argument("--only", nargs="+", default=[""], help="faults whose name holds one of these")
    parser.add_argument("--output", type=Path, default=Path("runs/ros_faults"))
    parser.add_argument("--domain", type=int, default=91, help="ROS_DOMAIN_ID; all of it stays on this machine")
    parser.add_argument("--backend", choices=["pip", "rclpy"], default="pip", help="by which the nodes speak ROS")
    parser.add_argument("--python", type=Path, help="of an environment with real rclpy, for --backend rclpy")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if (arguments.backend == "rclpy") != (arguments.python is not None):
        parser.error("--backend rclpy and --python go together: the Python of an environment that has rclpy")
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(HEAD, flush=True)
    results, lines = [], []
    for fault in FAULTS:
        if not any(word in fault.name for word in arguments.only):
            continue
        if fault.scene == "two hosts" and not arguments.inside and not namespaces_allowed():
            print(f"| {fault.name} | not run: no user namespaces here |", flush=True)
            continue
        if fault.scene == "lossy" and arguments.backend == "rclpy":
            print(f"| {fault.name} | not run: losing packets is a setting of our own middleware |", flush=True)
            continue
        results.append(measure(fault, arguments))
        lines.append(line(results[-1]))
        print(lines[-1], flush=True)
        (arguments.output / "faults.json").write_text(json.dumps(results, indent=1) + "\n")
        (arguments.output / "faults.md").write_text("\n".join([HEAD, *lines]) + "\n")


if __name__ == "__main__":
    main()
