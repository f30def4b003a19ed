"""Node processes started together, watched, and stopped in the right order.

What can move an arm is stopped first and never restarted: why it died is for a person to find out. Cameras come back by
themselves, later each time. Nodes do not outlive this process: the kernel sends them SIGTERM when it dies.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from robot_rl.core.errors import RobotRLError
from robot_rl.core.version import SOURCE_ROOT

PR_SET_PDEATHSIG = 1
POLL_S = 0.1
LIBC = ctypes.CDLL(None, use_errno=True)


class MotionNodeDied(RobotRLError):
    """A node that can move an arm has ended by itself."""


@dataclass(frozen=True)
class NodeCommand:
    """A node to run.

    Attributes:
        name: Stands before each line of its output.
        argv: Its command line.
        can_move: Whether it can move an arm.
    """

    name: str
    argv: tuple[str, ...]
    can_move: bool


@dataclass(frozen=True)
class Patience:
    """How long to wait for what [s].

    Attributes:
        stop_s: From SIGTERM to SIGKILL.
        restart_s: Before the first restart of a camera; doubles with each further one.
        longest_restart_s: It doubles up to this.
        sound_s: A camera that ran for this long begins anew at `restart_s`.
    """

    stop_s: float = 5.0
    restart_s: float = 1.0
    longest_restart_s: float = 30.0
    sound_s: float = 60.0


@dataclass
class _Node:
    """A node's process, what it said of an unfinished line, and when it may come back."""

    command: NodeCommand
    process: subprocess.Popen[bytes] | None = None
    line: bytes = b""
    started_s: float = 0.0
    restarts: int = 0
    due_s: float | None = field(default=None)


class Supervisor:
    """Runs nodes. Not for several threads: the kernel ties a node to the thread that started it.

    Args:
        commands: What to run.
        say: Takes each line of output and each event.
        patience: How long to wait for what.
        clock: Monotonic [s].
    """

    def __init__(
        self,
        commands: Iterable[NodeCommand],
        say: Callable[[str], None],
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = [_Node(command) for command in commands]
        self._say, self._patience, self._clock = say, patience, clock
        self._output = selectors.DefaultSelector()

    def start(self) -> None:
        """Starts every node."""
        for node in self._nodes:
            self._start(node)

    def attend(self, timeout_s: float = POLL_S) -> None:
        """Passes output on, and restarts cameras that are due.

        Args:
            timeout_s: How long to wait for output [s].

        Raises:
            MotionNodeDied: Says how, and what to do.
        """
        self._forward(timeout_s)
        for node in self._nodes:
            if node.process is not None and node.process.poll() is not None:
                self._bury(node)
            if node.process is None and node.due_s is not None and self._clock() >= node.due_s:
                self._start(node)

    def stop(self) -> None:
        """Stops what can move first, then the rest; whoever ignores SIGTERM is killed, and it is said."""
        for can_move in (True, False):
            self._stop_all([node for node in self._nodes if node.command.can_move == can_move])
        self._output.close()

    def _start(self, node: _Node) -> None:
        node.process = subprocess.Popen(
            node.command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            # A session of its own: Ctrl-C reaches only us, so that motion stops before the cameras do.
            start_new_session=True,
            preexec_fn=_tied_to(os.getpid()),
        )
        assert node.process.stdout is not None
        os.set_blocking(node.process.stdout.fileno(), False)
        self._output.register(node.process.stdout, selectors.EVENT_READ, node)
        node.started_s, node.due_s = self._clock(), None

    def _forward(self, timeout_s: float) -> None:
        """Says what nodes have written; waits for at most `timeout_s`."""
        if not self._output.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in self._output.select(timeout_s):
            self._read(key.data)

    def _read(self, node: _Node) -> bool:
        """Passes on what can be read now; False when there is nothing."""
        assert node.process is not None
        assert node.process.stdout is not None
        try:
            chunk = os.read(node.process.stdout.fileno(), 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._output.unregister(node.process.stdout)
            return False
        *lines, node.line = (node.line + chunk).split(b"\n")
        for line in lines:
            self._tell(node, line.decode(errors="replace").rstrip("\r"))
        return True

    def _tell(self, node: _Node, line: str) -> None:
        self._say(f"[{node.command.name}] {line}")

    def _bury(self, node: _Node) -> None:
        """After a node's end: its last words, then what becomes of it."""
        how = self._collect(node)
        name = node.command.name
        if node.command.can_move:
            raise MotionNodeDied(
                f"{name} {how}. It can move an arm, so it is not restarted: look at the arm, free it if it holds "
                "something, see the lines above for the reason, then start this command again"
            )
        if self._clock() - node.started_s >= self._patience.sound_s:
            node.restarts = 0
        wait_s = min(self._patience.restart_s * 2**node.restarts, self._patience.longest_restart_s)
        node.restarts += 1
        node.due_s = self._clock() + wait_s
        self._tell(node, f"{how}; restarting in {wait_s:g} s")

    def _collect(self, node: _Node) -> str:
        """Reads what an ended process left in its pipe, and says how it ended."""
        process = node.process
        assert process is not None
        assert process.stdout is not None
        if process.stdout in {key.fileobj for key in self._output.get_map().values()}:
            while self._read(node):
                pass
        if process.stdout in {key.fileobj for key in self._output.get_map().values()}:
            self._output.unregister(process.stdout)
        process.stdout.close()
        if node.line:
            self._tell(node, node.line.decode(errors="replace"))
        node.process, node.line = None, b""
        status = process.wait()
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def _stop_all(self, nodes: Sequence[_Node]) -> None:
        """SIGTERM to all of these, then SIGKILL to whoever is left."""
        for node in nodes:
            node.due_s = None
            if node.process is not None:
                node.process.terminate()
        until_s = self._clock() + self._patience.stop_s
        while any(self._is_running(node) for node in nodes) and self._clock() < until_s:
            self._forward(POLL_S)
        for node in nodes:
            if node.process is None:
                continue
            if self._is_running(node):
                self._tell(node, f"did not stop within {self._patience.stop_s:g} s and is killed")
                if node.command.can_move:
                    self._tell(node, "it could not ramp down: look at the arm before anything else")
                os.killpg(node.process.pid, signal.SIGKILL)
                node.process.wait()
            self._tell(node, self._collect(node))

    @staticmethod
    def _is_running(node: _Node) -> bool:
        return node.process is not None and node.process.poll() is None


def _environment() -> dict[str, str]:
    """Output at once, and our packages whether or not they are installed."""
    path = os.pathsep.join(filter(None, [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


def _tied_to(parent: int) -> Callable[[], None]:
    """Runs in a new process before its program: SIGTERM to it when its parent dies, however that happens."""

    def tie() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """Command line that runs a module with this Python; `-P` keeps a `data` folder of the user's out of the way."""
    return (sys.executable, "-P", "-m", module, *arguments)
