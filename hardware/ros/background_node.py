"""A ROS node whose callbacks run in a thread of their own, for a caller that has a loop already."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from hardware.ros.network import join
from hardware.ros.spinning_thread import SpinningThread


class BackgroundNode:
    """A context manager: entering joins the graph, leaving leaves it.

    Args:
        name: What the node is called in the graph.

    Attributes:
        node: The client's; known while entered.
    """

    node: Any

    def __init__(self, name: str) -> None:
        self.name = name
        self._owns_client = False
        self._thread: SpinningThread | None = None

    def __enter__(self) -> Self:
        """Joins the graph.

        Raises:
            RobotRLError: No ROS client can be imported; names the remedy.
        """
        from hardware.ros import client

        client.require_ros()
        join(None)  # stays where a robot of this process has said to talk
        self._owns_client = not client.rclpy.ok()
        if self._owns_client:
            # Ctrl-C must reach the control loop, which stops the arm over this very graph.
            client.rclpy.init(args=[], signal_handler_options=client.SignalHandlerOptions.NO)
        self.node = client.rclpy.create_node(self.name)
        executor = client.SingleThreadedExecutor()
        executor.add_node(self.node)
        self._thread = SpinningThread(executor, f"ROS node {self.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the graph."""
        from hardware.ros import client

        if self._thread is not None:
            self._thread.end()
        self.node.destroy_node()
        if self._owns_client:
            client.rclpy.shutdown()

    def spin(self) -> None:
        """Starts the thread; call it once every subscription is made."""
        assert self._thread is not None
        self._thread.start()

    @property
    def failure(self) -> BaseException | None:
        """What a callback raised, which ended the thread; None while all is well."""
        return None if self._thread is None else self._thread.failure

    def require_alive(self) -> None:
        """Refuses to go on without the thread.

        Raises:
            RobotRLError: A callback failed, or the client was shut down.
        """
        if self._thread is not None:
            self._thread.require_alive()

    def now_ns(self) -> int:
        """The robot's clock: ROS time [ns]."""
        return int(self.node.get_clock().now().nanoseconds)
