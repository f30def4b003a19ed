"""An arm node seen by somebody who does not drive it: reads its mode and diagnostics, asks for a stop or its reset."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from hardware.arm.messages import ArmMode
from hardware.ros.arm_topics import CLEAR, DIAGNOSTICS, MODE, STOP, BadMessage, absolute

SPIN_S = 0.05
LEVELS = ("OK", "WARN", "ERROR", "STALE")


class Diagnostic(NamedTuple):
    """One line of `/diagnostics`.

    Attributes:
        level: One of `LEVELS`.
        message: For people.
        values: Figures by name.
    """

    level: str
    message: str
    values: Mapping[str, str]


class ArmRemote:
    """A node beside an arm node; a context manager, for the thread that entered it.

    Args:
        namespace: The arm node's, for example `/ur5e`.
        node_name: Its own name in the graph.

    Attributes:
        mode: What the arm node said last, None before it did.
        diagnostics: Newest line of each name, of all nodes in the graph.
    """

    def __init__(self, namespace: str, node_name: str) -> None:
        self._namespace, self._node_name = namespace, node_name
        self.mode: ArmMode | None = None
        self.diagnostics: dict[str, Diagnostic] = {}

    def __enter__(self) -> Self:
        """Joins the graph.

        Raises:
            RobotRLError: No ROS client can be imported; names the remedy.
        """
        from hardware.ros import client

        client.require_ros()
        self._rclpy = client.rclpy
        # Whoever uses this has to unwind by the signals.
        self._rclpy.init(args=[], signal_handler_options=client.SignalHandlerOptions.NO)
        self._node = self._rclpy.create_node(self._node_name)
        self._executor = client.SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publishers = {
            topic: self._node.create_publisher(topic.message(), absolute(self._namespace, topic.name), topic.qos())
            for topic in (STOP, CLEAR)
        }
        for topic, take in ((MODE, self._take_mode), (DIAGNOSTICS, self._take_diagnostics)):
            name = absolute(self._namespace, topic.name)
            self._node.create_subscription(topic.message(), name, take, topic.qos())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._rclpy.shutdown()

    def spin(self, timeout_s: float) -> None:
        """Takes what has arrived, waiting for at most `timeout_s`."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def wait_for(self, condition: Callable[[ArmMode], bool], timeout_s: float) -> bool:
        """Whether the arm node's mode fulfils a condition within a time."""
        until_s = time.monotonic() + timeout_s
        while self.mode is None or not condition(self.mode):
            if time.monotonic() >= until_s:
                return False
            self.spin(SPIN_S)
        return True

    def wait_for_listener(self, timeout_s: float) -> bool:
        """Whether an arm node listens to `stop` and `clear` within a time."""
        until_s = time.monotonic() + timeout_s
        while not all(publisher.get_subscription_count() for publisher in self._publishers.values()):
            if time.monotonic() >= until_s:
                return False
            self.spin(SPIN_S)
        return True

    def stop(self) -> None:
        """Latches the software stop. It is kept for an arm node that joins while this is entered."""
        self._publishers[STOP].publish(STOP.message()(data=True))

    def clear(self, who: str) -> None:
        """Resets a stop or a fault, in a person's name."""
        self._publishers[CLEAR].publish(CLEAR.message()(data=who))

    def _take_mode(self, message: Any) -> None:
        try:
            self.mode = ArmMode.from_json(message.data)
        except BadMessage as error:
            self._node.get_logger().warning(str(error))

    def _take_diagnostics(self, message: Any) -> None:
        for status in message.status:
            # rclpy gives a byte as bytes, other clients as a number.
            level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
            name = LEVELS[level] if level < len(LEVELS) else str(level)
            values = {each.key: each.value for each in status.values}
            self.diagnostics[status.name] = Diagnostic(name, status.message, values)
