"""The thread that owns an arm's driver: sleeps until the next tick or the next mail, on absolute deadlines."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from hardware.arm.controller import ArmController
from hardware.arm.mail import Mailbox
from hardware.arm.state import Enable, Failure
from robot_rl.core.clock import Deadlines, prompt_thread
from robot_rl.core.protocols import Robot
from robot_rl.core.specs import NS_PER_S

LAST_STOP_S = 3.0
"""Longest ramped stop when the node ends."""
JOIN_S = 10.0


class ArmThread:
    """Runs an `ArmController` in a thread of its own, from connecting its driver to the last command.

    Args:
        driver: The arm's, not yet entered.
        loop: Commands this driver.
        mailbox: Filled by whoever hears.
        robot_now_ns: The robot's clock [ns].
        hz: Rate of ticks [Hz].
        realtime_priority: SCHED_FIFO priority where permitted; None leaves the scheduler alone.

    Attributes:
        failure: What ended the thread; None while all is well.
        deadlines: For diagnostics.
    """

    def __init__(
        self,
        driver: Robot,
        loop: ArmController,
        mailbox: Mailbox,
        robot_now_ns: Callable[[], int],
        hz: float,
        realtime_priority: int | None = None,
    ) -> None:
        self.failure: BaseException | None = None
        self.deadlines = Deadlines(hz, time.monotonic_ns())
        self._driver, self._loop, self._mailbox = driver, loop, mailbox
        self._robot_now_ns, self._hz, self._priority = robot_now_ns, hz, realtime_priority
        self._started, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="arm", daemon=True)

    def start(self) -> None:
        """Connects the driver and begins.

        Raises:
            RobotRLError: The driver could not be connected.
        """
        self._thread.start()
        self._started.wait()
        if self.failure is not None:
            raise self.failure

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Takes motion away, waits until the arm is at rest, and disconnects the driver."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            with prompt_thread(self._priority, inherited=True), self._driver:
                self._loop.begin(time.monotonic_ns(), self._robot_now_ns())
                self._started.set()
                try:
                    self._serve(self._loop)
                except Exception as error:  # a message that could not be made must not leave an arm that moves
                    self.failure = error
                    self._brake(self._loop, error)
        except BaseException as error:  # whatever ends this thread must be known to the one that waits for it
            self.failure = error
        finally:
            self._started.set()

    def _serve(self, loop: ArmController) -> None:
        self.deadlines = Deadlines(self._hz, time.monotonic_ns())
        until_ns: int | None = None
        while until_ns is None or (not loop.at_rest and time.monotonic_ns() < until_ns):
            if until_ns is None and self._ending.is_set():
                loop.receive(Enable(False, "the arm node ends"), time.monotonic_ns(), self._robot_now_ns())
                until_ns = time.monotonic_ns() + round(LAST_STOP_S * NS_PER_S)
            for arrival in self._mailbox.take_until(self.deadlines.next_ns):
                loop.receive(*arrival)
                self._tick_if_due(loop)
            self._tick_if_due(loop)

    def _brake(self, loop: ArmController, error: Exception) -> None:
        """Brings the arm to rest though something fails in every tick: a command goes out before messages are made."""
        until_ns = time.monotonic_ns() + round(LAST_STOP_S * NS_PER_S)
        with contextlib.suppress(Exception):
            loop.receive(Failure(f"the arm node failed: {error!r}"), time.monotonic_ns(), self._robot_now_ns())
        while not loop.at_rest and time.monotonic_ns() < until_ns:
            time.sleep(max(0, self.deadlines.next_ns - time.monotonic_ns()) / NS_PER_S)
            with contextlib.suppress(Exception):
                self._tick_if_due(loop)

    def _tick_if_due(self, loop: ArmController) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self.deadlines.next_ns:
            loop.tick(self.deadlines.met(now_ns), now_ns, self._robot_now_ns())
