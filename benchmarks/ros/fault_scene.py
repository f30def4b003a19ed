"""The processes around a simulated arm in one kind of trouble, for `faults.py`."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.ros.fault_actors import VENDOR_COMMANDS, VENDOR_GRIPPER, VENDOR_POSE, VENDOR_STATES
from benchmarks.ros.fault_bench import Bench, Process, environment, joint_arm_settings, profile
from benchmarks.ros.fault_observer import Observer
from hardware.arm.state import Mode
from hardware.sim.joint_arm import NAMES

LOST_THOUSANDTHS = 200
LOSSY_CONNECT_S = 15.0
"""Everybody takes longer to find everybody; within the usual 5 s it is refused about every second time."""
HOSTS = {"here": "10.77.0.1", "far": "10.77.0.2"}


class Scene:
    """The processes of one fault's trials. A context manager.

    Args:
        kind: `plain`, `foreign camera`, `freezing camera`, `leader`, `intruder`, `vendor`, `lossy` or `two hosts`.
        place: Scratch directory, where the dataset is too.
        domain: ROS_DOMAIN_ID.
        settings: The whole robot; the simulated real-time arm if None.
        network: CYCLONEDDS_URI; this machine only, found by asking, if empty.
        nodes_python: See `Bench`.
    """

    observer: Observer
    arm: Process
    camera: Process
    leader: Process
    intruder: Process
    vendor: Process
    far: FarHost

    def __init__(
        self,
        kind: str,
        place: Path,
        domain: int,
        settings: dict[str, Any] | None = None,
        network: str = "",
        nodes_python: Path | None = None,
    ) -> None:
        self.kind, self.dataset = kind, place / "dataset"
        settings = settings or joint_arm_settings()
        environments = {"": {"ROS_DOMAIN_ID": str(domain), "CYCLONEDDS_URI": network or profile()}}
        if kind == "freezing camera":
            settings["cameras"]["front"]["source"] = {"_target_": "benchmarks.ros.fault_devices.FreezingCamera"}
        if kind == "vendor":
            settings["arm"]["driver"] = vendor_driver(settings)
        if kind == "lossy":
            settings["robot"]["connect_s"] = LOSSY_CONNECT_S
            lossy = {"CYCLONEDDS_URI": profile(lost_thousandths=LOST_THOUSANDTHS)}
            environments |= {"arm_node": lossy, "policy": lossy}
        if kind == "two hosts":
            for name, host in {"": "here", "policy": "far"}.items():
                environments.setdefault(name, {})["CYCLONEDDS_URI"] = profile(f'name="{host}"', [*HOSTS.values()])
            if nodes_python is not None:
                peers = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "ROS_STATIC_PEERS": ";".join(HOSTS.values())}
                environments |= {"arm_node": peers, "camera_node": peers}
        self.bench = Bench(settings, environments, place, {}, nodes_python)
        self._policies: list[Process] = []
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.kind == "two hosts":
                self.far = stack.enter_context(FarHost())
                self.bench.prefixes = {"policy": self.far.prefix}
            stack.enter_context(environment(self.bench.environments[""]))
            namespace, kind = self.bench.settings["robot"]["namespace"], self.kind
            states = VENDOR_STATES if kind == "vendor" else ""
            self.observer = stack.enter_context(Observer(namespace, states, f"{namespace}/front/image_raw/compressed"))
            stack.callback(self._end)
            if kind == "vendor":
                self.vendor = self.bench.actor("vendor")
            self.start_arm()
            self.start_camera()
            self.reserve()
            if kind == "leader":
                self.leader = self.bench.actor("leader")
            if kind == "intruder":
                self.intruder = self.bench.actor("intruder")
                self.intruder.wait_for("ready")
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def _end(self) -> None:
        self.end_policies()
        for name in ("leader", "intruder", "camera", "arm", "vendor"):
            if hasattr(self, name):
                getattr(self, name).end()

    def end_policies(self) -> None:
        """Lets sessions commit what they recorded, and leave."""
        for process in self._policies:
            process.end(60.0)
        self._policies.clear()

    def start_arm(self) -> None:
        """An arm node, in mode inactive."""
        heard = len(self.observer.modes)
        self.arm = self.bench.node("arm_node")
        self.observer.wait_for("an arm node", lambda: len(self.observer.modes) > heard)
        self.observer.wait_for("the arm inactive", lambda: self.observer.mode.mode is Mode.INACTIVE)

    def start_camera(self) -> None:
        """A camera whose pictures arrive."""
        begun_ns = time.monotonic_ns()
        foreign = self.kind == "foreign camera"
        self.camera = self.bench.actor("camera") if foreign else self.bench.node("camera_node", "camera:=front")
        self.observer.wait_camera(begun_ns)

    def reserve(self) -> None:
        """Starts a session's process that waits to be asked."""
        self._policies.append(self.bench.actor("policy", str(self.dataset)))

    @property
    def policy(self) -> Process:
        """The present session's process."""
        return self._policies[0]

    def kill_policy(self) -> int:
        """SIGKILL; another process takes its place."""
        killed_ns = self._policies.pop(0).kill()
        self.reserve()
        return killed_ns


class FarHost:
    """A second network namespace, joined to this one by a cable. A context manager; this must run in one of its own."""

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
        theirs, ours = Path(f"/proc/{self._holder.pid}/ns/net"), Path("/proc/self/ns/net")
        while not theirs.exists() or os.readlink(theirs) == os.readlink(ours):
            time.sleep(0.01)
        self.prefix = ("nsenter", f"--net={theirs}")
        commands = [
            "link set lo up",
            f"link add name here type veth peer name far netns {self._holder.pid}",
            f"addr add {HOSTS['here']}/24 dev here",
            "link set here up",
        ]
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        for command in ("link set lo up", f"addr add {HOSTS['far']}/24 dev far", "link set far up"):
            self._far(command)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.kill()
        self._holder.wait()

    def _far(self, command: str) -> None:
        subprocess.run([*self.prefix, "ip", *command.split()], check=True)

    def cut(self) -> int:
        """Takes the link down; returns when that was asked for, monotonic [ns]."""
        now_ns = time.monotonic_ns()
        self._far("link set far down")
        return now_ns

    def heal(self) -> None:
        """Brings it up again."""
        self._far("link set far up")


def vendor_driver(settings: dict[str, Any]) -> dict[str, Any]:
    """An arm whose driver is a process of its own, commanded by a forward controller."""
    streams = settings["robot"]["streams"]
    return {
        "_target_": "hardware.ros.robot.RosRobot",
        "name": settings["robot"]["name"],
        "namespace": "/",
        "control_hz": settings["robot"]["control_hz"],
        "streams": {
            "joint_position": {**streams["joint_position"], "joints": list(NAMES), "topic": VENDOR_STATES},
            "tool_pose": {**streams["tool_pose"], "topic": VENDOR_POSE},
        },
        "action": settings["robot"]["action"],
        "command": {"adapter": "joint_forward", "topic": VENDOR_COMMANDS},
        "gripper": {"kind": "float64", "action": "gripper", "topic": VENDOR_GRIPPER, "open": 0.0, "closed": 1.0},
        "connect_s": 20.0,
    }
