"""An executor that spins in a thread of its own, and is ended before anything that it waits on is destroyed."""

from __future__ import annotations

import threading
from typing import Any

from robot_rl.core.errors import RobotRLError

JOIN_S = 5.0
"""Longest wait for a callback that runs when the thread is to end."""


class SpinningThread:
    """Runs an executor's callbacks.

    rclpy's `Executor.shutdown` does not wait for a thread that spins: it takes away what that thread waits on, and a
    thread that still spins when Python exits aborts the process. So the thread is told to end and joined first.

    Args:
        executor: Its nodes may be added now or later.
        name: What the thread is called, and its work in errors.

    Attributes:
        failure: What a callback raised, which ended the thread; None while all is well.
    """

    def __init__(self, executor: Any, name: str) -> None:
        from hardware.ros.client import Future

        self.failure: BaseException | None = None
        self._executor, self._name = executor, name
        self._told_to_end = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def end(self) -> None:
        """Waits for the callback that runs, then shuts the executor down; harmless where nothing was started."""
        self._told_to_end.set_result(None)
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        self._executor.shutdown()

    def require_alive(self) -> None:
        """Refuses to go on without the thread.

        Raises:
            RobotRLError: A callback failed, or the client was shut down.
        """
        if self.failure is not None:
            raise RobotRLError(f"{self._name} hears nothing any more: {self.failure!r}; start the command again")
        if self._thread.ident is not None and not self._thread.is_alive():
            raise RobotRLError(f"{self._name} hears nothing any more: ROS was shut down; start the command again")

    def _run(self) -> None:
        try:
            self._executor.spin_until_future_complete(self._told_to_end)
        except BaseException as error:  # whatever ends this thread must reach the one that waits for it
            self.failure = error
