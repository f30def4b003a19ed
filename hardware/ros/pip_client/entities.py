"""What a node, its context and its executor ask of each other, so that none of their files imports another's back."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from hardware.ros.pip_client.graph import NodeEntities
from hardware.ros.pip_client.logging import RcutilsLogger
from hardware.ros.pip_client.transport import Participant


class Wakeable(Protocol):
    """An executor, to those who have work for it."""

    def wake(self) -> None:
        """End the present wait."""


class Spinner(Wakeable, Protocol):
    """An executor, to the node that it spins."""

    def add_node(self, node: Any) -> bool:
        """Spin a node as well; False where it is already."""

    def remove_node(self, node: Any) -> None:
        """Do not spin a node any more."""


class Membership(Protocol):
    """A context, to what sends and receives.

    Attributes:
        ended: Set by shutdown.
    """

    ended: threading.Event

    @property
    def participant(self) -> Participant:
        """The membership in the domain."""

    def ok(self) -> bool:
        """Whether it runs."""


class Announced(Protocol):
    """A node, to its context."""

    def entities(self) -> NodeEntities:
        """What the participant announces of the node."""


class Owner(Protocol):
    """A node, to its publishers, subscriptions, services, clients, timers and guard conditions."""

    @property
    def context(self) -> Membership:
        """The context that the node is in."""

    @property
    def executor(self) -> Wakeable | None:
        """Executor that spins the node, if any."""

    def get_logger(self) -> RcutilsLogger:
        """The node's logger."""

    def changed(self) -> None:
        """Tell the executor that there is something else to wait for."""

    def forget(self, end: Any) -> bool:
        """End something that the node owns; False where it is another's."""
