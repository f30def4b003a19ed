"""Which callbacks may run at the same time."""

from __future__ import annotations

import threading


class CallbackGroup:
    """Says whether one of its callbacks may start now."""

    def can_execute(self) -> bool:
        """Whether a callback may start; only the executor's waiting thread asks."""
        raise NotImplementedError

    def beginning_execution(self) -> bool:
        """Claim a start; False where another was faster."""
        raise NotImplementedError

    def ending_execution(self) -> None:
        """The callback has returned."""
        raise NotImplementedError


class ReentrantCallbackGroup(CallbackGroup):
    """Any number at once."""

    def can_execute(self) -> bool:
        """Always."""
        return True

    def beginning_execution(self) -> bool:
        """Always granted."""
        return True

    def ending_execution(self) -> None:
        """Nothing to give back."""


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    """One at a time."""

    def __init__(self) -> None:
        self._running = threading.Lock()

    def can_execute(self) -> bool:
        """Whether none runs."""
        return not self._running.locked()

    def beginning_execution(self) -> bool:
        """Claim the only place."""
        return self._running.acquire(blocking=False)

    def ending_execution(self) -> None:
        """Free the only place."""
        self._running.release()
