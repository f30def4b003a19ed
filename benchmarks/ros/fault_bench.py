"""Real nodes around a simulated real-time arm, each a process of its own: what `faults.py` and tests stand on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.commands.up.main import as_document
from robot_rl.sessions.setup import load_robot

ROOT = Path(__file__).resolve().parents[2]
GIVE_UP_S = 30.0
OF_ONE_ENVIRONMENT = ("LD_", "AMENT_", "ROS_", "RMW_", "PYTHON", "COLCON_", "VIRTUAL_ENV", "FASTDDS_", "FASTRTPS_")
"""Variables by which one environment's libraries would be found by another's Python."""

LOOPBACK = (
    '<CycloneDDS><Domain><General><Interfaces><NetworkInterface {interface} multicast="false"/></Interfaces>'
    "<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>4000B</FragmentSize>"
    "</General><Discovery><LeaseDuration>5s</LeaseDuration><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>20</MaxAutoParticipantIndex><Peers>{peers}</Peers></Discovery>"
    '<Internal><WriterLingerDuration>200ms</WriterLingerDuration><SocketReceiveBufferSize max="8MB"/>{internal}'
    "</Internal></Domain></CycloneDDS>"
)


def profile(interface: str = 'name="lo"', peers: Sequence[str] = ("127.0.0.1",), lost_thousandths: int = 0) -> str:
    """A CYCLONEDDS_URI of one interface, found by asking, that loses some of what it sends."""
    lossy = f"<Test><XmitLossiness>{lost_thousandths}</XmitLossiness></Test>" if lost_thousandths else ""
    asked = "".join(f'<Peer address="{each}"/>' for each in peers)
    return LOOPBACK.format(interface=interface, peers=asked, internal=lossy)


class Process:
    """A process that says JSON lines and takes them, or a node that only logs.

    Args:
        command: Arguments.
        environment: Of the process.
        log: Where its stderr goes.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log.open("ab")
        self._words = " ".join(command)
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self._new: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                self._new.put(json.loads(line))
        self._new.put(None)

    def ask(self, **request: Any) -> None:
        """Sends one line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(request) + "\n")
        self.popen.stdin.flush()

    def wait_for(self, *what: str, timeout_s: float = GIVE_UP_S) -> dict[str, Any]:
        """The next line that says one of `what`; those before it are kept in `said`.

        Raises:
            TimeoutError: None came, or the process ended.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                line = self._new.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{self._words}: no {what!r} in {timeout_s:g} s; see {self._log.name}") from None
            if line is None:
                raise TimeoutError(f"{self._words} ended before {what!r}; see {self._log.name}")
            self.said.append(line)
            if line["said"] in what:
                return line

    def signal(self, number: int) -> int:
        """Sends a signal; returns when, monotonic [ns]."""
        now_ns = time.monotonic_ns()
        self.popen.send_signal(number)
        return now_ns

    def kill(self) -> int:
        """SIGKILL, and waits for the corpse; returns when, monotonic [ns]."""
        now_ns = self.signal(signal.SIGKILL)
        self.popen.wait()
        return now_ns

    def end(self, timeout_s: float = GIVE_UP_S) -> None:
        """Asks for the end by closing stdin and, of a node, by SIGTERM; kills what does not."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.close()
        if "benchmarks.ros.fault_actors" not in self._words:
            self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


@dataclass
class Bench:
    """Where the processes are started.

    Attributes:
        settings: The whole robot, as nodes read it; changed before `write`.
        environments: Of the processes by kind, `""` for all others.
        place: Scratch directory.
        prefixes: Put before the command of a kind, such as another network namespace.
        nodes_python: Of another environment, with real rclpy, by which our nodes run; this process's if None.
    """

    settings: dict[str, Any]
    environments: dict[str, dict[str, str]]
    place: Path
    prefixes: Mapping[str, Sequence[str]]
    nodes_python: Path | None = None

    @property
    def config(self) -> Path:
        """The robot's settings as a file."""
        path = self.place / "robot.json"
        path.write_text(json.dumps(self.settings))
        return path

    def _start(self, kind: str, arguments: Sequence[str], python: Path | None = None) -> Process:
        asked = {**self.environments[""], **self.environments.get(kind, {})}
        inherited = os.environ if python is None else real_ros_environment()
        command = [*self.prefixes.get(kind, ()), str(python or sys.executable), "-m", *arguments]
        return Process(command, {**inherited, **asked}, self.place / f"{kind}.log")

    def node(self, name: str, *parameters: str) -> Process:
        """One of our nodes."""
        given = [part for each in (f"config:={self.config}", *parameters) for part in ("-p", each)]
        return self._start(name, [f"hardware.ros.{name}", "--ros-args", *given], self.nodes_python)

    def actor(self, name: str, *arguments: str) -> Process:
        """A process of `fault_actors.py`."""
        return self._start(name, ["benchmarks.ros.fault_actors", name, str(self.config), *arguments])


def real_ros_environment() -> dict[str, str]:
    """This process's environment without what belongs to its own ROS, for a node on real rclpy on this machine.

    Real rclpy keeps to this machine by a variable of ROS's own. Without shared memory, whose files outlive a process
    that is killed, and which our client does not speak.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_ONE_ENVIRONMENT)}
    kept.pop("ROBOT_RL_ROS", None)
    return {**kept, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}


def joint_arm_settings(*overrides: str) -> dict[str, Any]:
    """The simulated real-time arm of `configs/robot/ros/sim_joint.yaml`, whole."""
    return as_document(load_robot("ros/sim_joint", overrides))


def cpu_s(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def environment(added: Mapping[str, str]) -> Iterator[None]:
    """Variables that this process has for a while."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
