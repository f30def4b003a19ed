"""`robot-rl up`: a robot's nodes on this computer, from its yaml, with or without a ROS installation.

It checks the yaml, writes it resolved as JSON, starts `arm_node` and one `camera_node` per camera, waits until the arm
node says its mode, tells what changes, and stops motion first on Ctrl-C or SIGTERM. Nothing moves before somebody
enables the arm, as `robot-rl collect`, `eval` and `deploy` do.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from hardware.arm.messages import ArmMode
from hardware.ros.arm_remote import ArmRemote, Diagnostic
from hardware.ros.arm_topics import MODE, absolute
from hardware.ros.network import describe, join
from robot_rl.commands.up.node_plan import NodePlan, plan_nodes
from robot_rl.commands.up.robot_check import check_document
from robot_rl.commands.up.supervisor import NodeCommand, Patience, Supervisor, python_module
from robot_rl.config.settings import ConfigError, load
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import write_whole
from robot_rl.sessions.setup import RobotFile

WATCH_S = 0.05
LONGEST_NAME = 100
NEIGHBOUR_S = 3.0
"""How long to listen for an arm node that already runs under this name."""


@dataclass
class UpSettings(RobotFile):
    """Settings of `robot-rl up`, beside the robot's own.

    Attributes:
        directory: Where the resolved robot is written for its nodes.
        check: Only check and write; start nothing.
        start_s: Longest wait for the arm node's first word [s].
        stop_s: A node that ignores SIGTERM for longer is killed [s].
    """

    directory: str = "runs/up"
    check: bool = False
    start_s: float = 30.0
    stop_s: float = 5.0


class Watched(Protocol):
    """An arm node and its graph, seen from outside; see `ArmRemote`."""

    mode: ArmMode | None
    diagnostics: dict[str, Diagnostic]

    def spin(self, timeout_s: float) -> None:
        """Takes what has arrived."""


def main(overrides: Sequence[str]) -> int:
    """Runs `robot-rl up`."""
    settings = load(UpSettings, "up", overrides)
    path = resolve(settings)
    nodes = plan_nodes(as_document(settings), path)
    _say(f"{path} is sound: " + ", ".join(node.name for node in nodes))
    if settings.check:
        return 0
    join(settings.robot.get("interface"))
    _say(f"no password: {describe()} can stop this robot, clear a stop, enable it and move it; docs/ros.md says more")
    supervisor = Supervisor(map(command_of, nodes), _say, Patience(stop_s=settings.stop_s))
    namespace = str(settings.arm.get("namespace", "/"))
    with ArmRemote(namespace, "robot_rl_up") as remote:
        if settings.arm:
            refuse_neighbour(remote, namespace)
        with contextlib.suppress(KeyboardInterrupt), stopped_at_the_end(supervisor):
            supervisor.start()
            if settings.arm:
                await_arm(supervisor, remote, namespace, settings.start_s)
            _say(_next_step(overrides, bool(settings.arm)))
            watch(supervisor, remote, Told(_say))
    return 0


def resolve(settings: UpSettings) -> Path:
    """Checks a robot and writes it for its nodes; returns the file.

    Raises:
        RobotRLError: Names what is wrong. Nothing was connected or started.
    """
    document = as_document(settings)
    check_document(document)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(document["robot"].get("name", "robot")))[:LONGEST_NAME]
    try:
        return write_whole(Path(settings.directory) / f"{name}.json", json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write into directory={settings.directory} ({error.strerror})") from error


def as_document(settings: RobotFile) -> dict[str, Any]:
    """The whole resolved yaml, as nodes read it."""
    return {field.name: asdict(settings)[field.name] for field in fields(RobotFile)}


def command_of(node: NodePlan) -> NodeCommand:
    """How a node is started with this Python."""
    return NodeCommand(node.name, python_module(f"hardware.ros.{node.executable}", *node.ros_arguments), node.can_move)


def refuse_neighbour(remote: ArmRemote, namespace: str) -> None:
    """Two arm nodes under one name would both obey the same commands.

    Raises:
        RobotRLError: Somebody already says a mode there.
    """
    if remote.wait_for(lambda _: True, NEIGHBOUR_S):
        raise RobotRLError(
            f"an arm node already runs at {namespace}: stop it first (robot-rl up on this or another computer, or a "
            "launch file), or give this robot another arm.namespace, or another ROS_DOMAIN_ID"
        )


@contextlib.contextmanager
def stopped_at_the_end(supervisor: Supervisor) -> Iterator[None]:
    """Stops every node however the block ends; a second Ctrl-C does not interrupt the stopping."""
    try:
        yield
    finally:
        previous = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            supervisor.stop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def await_arm(supervisor: Supervisor, remote: Watched, namespace: str, timeout_s: float) -> None:
    """Returns when the arm node has said its mode.

    Raises:
        RobotRLError: It did not within `timeout_s`.
        MotionNodeDied: It died before.
    """
    for _ in range(max(1, round(timeout_s / WATCH_S))):
        supervisor.attend(0.0)
        remote.spin(WATCH_S)
        if remote.mode is not None:
            return
    raise RobotRLError(
        f"the arm node said nothing on {absolute(namespace, MODE.name)} within {timeout_s:g} s: see its lines above; "
        "robot-rl doctor checks the network, start_s=... waits longer"
    )


def watch(supervisor: Supervisor, remote: Watched, told: Told) -> None:
    """Goes on until interrupted, telling what changes.

    Raises:
        MotionNodeDied: A node that can move an arm has ended.
    """
    while True:
        supervisor.attend(WATCH_S)
        remote.spin(0.0)
        told.about(remote)


class Told:
    """What has been said of the arm's mode and of the diagnostics, so that only changes are.

    Args:
        say: Takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._mode: tuple[str, str, str] | None = None
        self._levels: dict[str, str] = {}

    def about(self, remote: Watched) -> None:
        """Says what changed since the last call."""
        mode = remote.mode
        if mode is not None and self._mode != (seen := (mode.mode, mode.reason, mode.session)):
            self._mode = seen
            whose = f" for {mode.session}" if mode.session else ""
            self._say(f"arm is {mode.mode}{whose}" + (f": {mode.reason}" if mode.reason else ""))
        for name, line in remote.diagnostics.items():
            if self._levels.get(name) != line.level:
                self._levels[name] = line.level
                self._say(f"{name} {line.level}: {line.message}")


def _next_step(overrides: Sequence[str], has_arm: bool) -> str:
    robot = next((each for each in overrides if each.startswith("robot=")), "robot=ros/sim")
    if not has_arm:
        return "up; Ctrl-C stops"
    return (
        f"up; Ctrl-C stops all, motion first. Now, here or on a workstation: robot-rl collect dataset=... {robot}; "
        f"robot-rl stop {robot} stops the arm, robot-rl clear {robot} ends that stop"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
