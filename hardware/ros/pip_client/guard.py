"""A callback that any thread can ask the executor to run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hardware.ros.pip_client.callback_groups import CallbackGroup
from hardware.ros.pip_client.entities import Owner


class GuardCondition:
    """Made by `Node.create_guard_condition`.

    Args:
        node: Owner.
        callback: Called without arguments, once for any number of triggers before it.
        group: Callback group.
    """

    condition_ref = 0
    """It has no DDS handle: the executor looks at it on every wake-up."""

    def __init__(self, node: Owner, callback: Callable[[], Any], group: CallbackGroup) -> None:
        self.node, self.callback, self.callback_group = node, callback, group
        self._triggered = threading.Event()

    def trigger(self) -> None:
        """Ask for a call."""
        self._triggered.set()
        if self.node.executor is not None:
            self.node.executor.wake()

    def take(self) -> list[tuple[Any, ...]]:
        """Arguments of the call that was asked for, if one was."""
        if not self._triggered.is_set():
            return []
        self._triggered.clear()
        return [()]

    def destroy(self) -> None:
        """End it."""
        self.node.forget(self)
