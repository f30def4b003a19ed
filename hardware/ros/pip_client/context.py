"""A context: one membership in a domain from init to shutdown, and what signals do to it."""

from __future__ import annotations

import atexit
import enum
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from hardware.ros.pip_client.arguments import Arguments, parse
from hardware.ros.pip_client.entities import Announced, Wakeable
from hardware.ros.pip_client.exceptions import NotInitializedException
from hardware.ros.pip_client.graph import Graph
from hardware.ros.pip_client.logging import LoggingSeverity, set_logger_level
from hardware.ros.pip_client.transport import Participant
from robot_rl.core.errors import RobotRLError

HIGHEST_DOMAIN = 232


class SignalHandlerOptions(enum.IntEnum):
    """Which signals shut the contexts down."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


class Context:
    """Shared state of the nodes between `init` and `shutdown`.

    Attributes:
        ended: Set by shutdown; anything may wait for it.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.arguments = Arguments()
        self.nodes: list[Announced] = []
        self.executors: weakref.WeakSet[Wakeable] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._started = False
        self._domain_id = 0
        self._participant: Participant | None = None
        self._graph: Graph | None = None
        self._on_shutdown: list[Callable[[], None]] = []

    def init(self, args: Sequence[str] | None = None, *, domain_id: int | None = None) -> None:
        """Start.

        Args:
            args: Command line; None takes the process's own.
            domain_id: DDS domain; None takes ROS_DOMAIN_ID, which is 0 where it is not set.

        Raises:
            RuntimeError: It was started before.
            RobotRLError: ROS_DOMAIN_ID or the arguments make no sense.
        """
        if self._started:
            raise RuntimeError("Context.init() must only be called once")
        self.arguments = parse(sys.argv if args is None else args)
        for name, level in self.arguments.log_levels.items():
            set_logger_level(name, LoggingSeverity[level.upper()])
        self._domain_id = domain_of_environment() if domain_id is None else domain_id
        self._started = True
        OPEN.add(self)

    def ok(self) -> bool:
        """Whether it runs."""
        return self._started and not self.ended.is_set()

    def get_domain_id(self) -> int:
        """DDS domain."""
        return self._domain_id

    @property
    def participant(self) -> Participant:
        """The membership; taken out for the first node."""
        with self._lock:
            if self._participant is None:
                if not self.ok():
                    raise NotInitializedException("rclpy.init() has not been called or the context was shut down")
                self._participant = Participant(self._domain_id)
            return self._participant

    @property
    def graph(self) -> Graph:
        """Who else is in the domain."""
        with self._lock:
            if self._graph is None:
                self._graph = Graph(self.participant)
            return self._graph

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call back once at shutdown."""
        self._on_shutdown.append(callback)

    def add_node(self, node: Announced) -> None:
        """A node was made."""
        with self._lock:
            self.nodes.append(node)
        self.announce()

    def announce(self) -> None:
        """Tell other participants which nodes and endpoints there are."""
        with self._lock:
            if self.ok():
                self.graph.announce([node.entities() for node in self.nodes])

    def remove_node(self, node: Announced) -> None:
        """A node was destroyed; after shutdown the last one ends the membership."""
        with self._lock:
            if node in self.nodes:
                self.nodes.remove(node)
            self.announce()
            self._leave_when_empty()

    def try_shutdown(self) -> None:
        """Stop, if it runs: spinning ends and publishing fails; nodes are destroyed by their owners."""
        with self._lock:
            if self.ended.is_set() or not self._started:
                return
            self.ended.set()
            callbacks, self._on_shutdown = self._on_shutdown, []
        for executor in list(self.executors):
            executor.wake()
        for callback in callbacks:
            callback()
        with self._lock:
            self._leave_when_empty()

    def shutdown(self) -> None:
        """Stop.

        Raises:
            RuntimeError: It does not run.
        """
        if not self.ok():
            raise RuntimeError("Context is not running: shut down before, or never initialized")
        self.try_shutdown()

    def _leave_when_empty(self) -> None:
        if self.ended.is_set() and not self.nodes:
            self.close()

    def close(self) -> None:
        """Leave the domain, whatever is still open."""
        with self._lock:
            graph, self._graph = self._graph, None
            participant, self._participant = self._participant, None
        if graph is not None:
            graph.close()
        if participant is not None:
            participant.close()
        OPEN.discard(self)


_default = Context()


def default_context() -> Context:
    """The context that `rclpy.init` starts."""
    return _default


def renew_default_context() -> Context:
    """A fresh default context, after the last one was shut down."""
    global _default
    if _default.ended.is_set():
        _default = Context()
    return _default


OPEN: weakref.WeakSet[Context] = weakref.WeakSet()
_previous: dict[int, Any] = {}


def domain_of_environment() -> int:
    """ROS_DOMAIN_ID, 0 where it is not set."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not text.isdigit() or int(text) > HIGHEST_DOMAIN:
        raise RobotRLError(f"ROS_DOMAIN_ID is {text!r}, wanted a number from 0 to {HIGHEST_DOMAIN}")
    return int(text)


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """Let SIGINT and SIGTERM shut every context down; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, option in (
        (signal.SIGINT, SignalHandlerOptions.SIGINT),
        (signal.SIGTERM, SignalHandlerOptions.SIGTERM),
    ):
        if options & option and number not in _previous:
            _previous[number] = signal.signal(number, shut_down_all)


def uninstall_signal_handlers() -> None:
    """Give the signals back."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in list(_previous):
        signal.signal(number, _previous.pop(number))


def shut_down_all(number: int, frame: FrameType | None) -> None:
    """Shut every context down, then do what the process did before; for SIGINT that is KeyboardInterrupt."""
    for context in list(OPEN):
        context.try_shutdown()
    previous = _previous.get(number)
    if callable(previous):
        previous(number, frame)


@atexit.register
def leave_all() -> None:
    """Leave every domain before the interpreter goes, so that others need not wait for a lease to run out."""
    for context in list(OPEN):
        context.try_shutdown()
        context.close()
