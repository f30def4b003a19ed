"""What goes in and out of an arm's thread, and the box between the threads that hear and the one that moves."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hardware.arm.messages import ArmMode, Row
from hardware.arm.state import Event, Heartbeat
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import NS_PER_S, FloatArray

CAPACITY = 256
"""Rows and heartbeats that may wait; a flood loses its oldest. Nothing that stops an arm is ever lost."""


class RowMail(NamedTuple):
    """A command as it came; `values` is None if it could not be read, and `problem` says why. See `Command`."""

    stamp_ns: int
    session: str
    values: FloatArray | None
    problem: str = ""
    number: int = 0


class ResetMail(NamedTuple):
    """A session asks for the start of an episode; in lockstep, what is seen then has its stamp."""

    session: str
    seed: int
    stamp_ns: int = 0


class BadMail(NamedTuple):
    """Something on a topic that makes no sense."""

    problem: str


Mail = Event | RowMail | ResetMail | BadMail


class Outlet(Protocol):
    """Where an arm's messages go."""

    def show(self, observation: Observation) -> None:
        """Publishes every stream whose sample is new; in lockstep every one."""

    def acknowledge(self, row: Row) -> None:
        """Says what is done for a row."""

    def judge(self, stamp_ns: int, judgement: Judgement) -> None:
        """Says how the state after a row is judged."""

    def tell(self, mode: ArmMode) -> None:
        """Says that the mode, or something about it, has changed."""


@dataclass
class ArmCounters:
    """What diagnostics show; counted since the node started."""

    rows: int = 0
    commands: int = 0
    dry: int = 0
    stale: int = 0
    waits: int = 0
    rejected: int = 0
    stalls: int = 0
    refused: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    stops: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class Arrival(NamedTuple):
    """A piece of mail and when it came: monotonic, and on the robot's clock [ns]."""

    mail: Mail
    now_ns: int
    robot_ns: int


class Mailbox:
    """Filled by callbacks, emptied by the arm's thread, which sleeps on it until its next tick."""

    def __init__(self) -> None:
        self.lost = 0
        self._news = threading.Condition()
        self._urgent: collections.deque[Arrival] = collections.deque()
        self._waiting: collections.deque[Arrival] = collections.deque()

    def put(self, arrival: Arrival, *, urgent: bool = False) -> None:
        """Leaves something; what is urgent is read first."""
        with self._news:
            if not urgent and len(self._waiting) >= CAPACITY:
                self._lose_oldest()
            (self._urgent if urgent else self._waiting).append(arrival)
            self._news.notify()

    def _lose_oldest(self) -> None:
        """Makes room; a wish to enable, disable, clear or reset is kept whatever comes behind it."""
        for index, arrival in enumerate(self._waiting):
            if isinstance(arrival.mail, RowMail | Heartbeat | BadMail):
                del self._waiting[index]
                self.lost += 1
                return

    def take_until(self, deadline_ns: int) -> list[Arrival]:
        """Everything that waits, as soon as something does; nothing once the deadline has passed, monotonic [ns]."""
        with self._news:
            while not self._urgent and not self._waiting:
                remaining_ns = deadline_ns - time.monotonic_ns()
                if remaining_ns <= 0 or not self._news.wait(remaining_ns / NS_PER_S):
                    break
            found = [*self._urgent, *self._waiting]
            self._urgent.clear()
            self._waiting.clear()
        return found
