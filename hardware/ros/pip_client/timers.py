"""Periodic callbacks against the steady clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from hardware.ros.pip_client.callback_groups import CallbackGroup
from hardware.ros.pip_client.entities import Owner


class Timer:
    """Calls back once per period; calls that were missed are left out, so lateness never becomes a burst.

    Args:
        node: Owner.
        period_ns: Between calls [ns].
        callback: Called without arguments.
        group: Callback group.
        clock: The node's clock, kept for `Timer.clock`.
    """

    def __init__(
        self, node: Owner, period_ns: int, callback: Callable[[], Any], group: CallbackGroup, clock: Any
    ) -> None:
        self.node, self.callback, self.callback_group, self.clock = node, callback, group, clock
        self.timer_period_ns = period_ns
        self._lock = threading.Lock()
        self._cancelled = False
        self._last_ns = time.monotonic_ns()
        self._next_ns = self._last_ns + period_ns

    def is_ready(self) -> bool:
        """Whether a call is due."""
        return not self._cancelled and time.monotonic_ns() >= self._next_ns

    def is_canceled(self) -> bool:
        """Whether `cancel` was the last word."""
        return self._cancelled

    def cancel(self) -> None:
        """No calls until `reset`."""
        self._cancelled = True

    def reset(self) -> None:
        """The next call comes one period from now."""
        with self._lock:
            self._cancelled = False
            self._next_ns = time.monotonic_ns() + self.timer_period_ns
        self.node.changed()

    def time_until_next_call(self) -> int | None:
        """Time left [ns], negative when late; None for a cancelled timer."""
        return None if self._cancelled else self._next_ns - time.monotonic_ns()

    def time_since_last_call(self) -> int:
        """Time passed since the last call or the start [ns]."""
        return time.monotonic_ns() - self._last_ns

    def take(self) -> list[tuple[Any, ...]]:
        """Arguments of the call that is due, if one is; sets the next."""
        with self._lock:
            if not self.is_ready():
                return []
            now_ns = time.monotonic_ns()
            self._last_ns = now_ns
            self._next_ns += self.timer_period_ns
            if self._next_ns <= now_ns:
                behind = (now_ns - self._next_ns) // max(1, self.timer_period_ns) + 1
                self._next_ns += behind * self.timer_period_ns
            return [()]

    def destroy(self) -> None:
        """End it."""
        self.node.forget(self)
