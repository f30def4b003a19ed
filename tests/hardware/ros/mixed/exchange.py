"""One side of a mixed graph, the same for our client and rclpy: sends samples, counts what arrives, looks around.

The other side is this file as a program in another Python: `python exchange.py`, commands as JSON lines on its input
(`["send", {...}]`), an answer for each on its output.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from hardware.ros.client import (
    DurabilityPolicy,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    SingleThreadedExecutor,
    message,
    rclpy,
    srv,
)
from hardware.ros.network import join
from tests.hardware.ros.conformance.samples import SAMPLES
from tests.hardware.ros.mixed.neighbour import ANSWER

WAIT_S = 30.0
"""Longest wait for the other side to be there."""
SETTLED_S = 1.0
"""Nothing has arrived for this long: what is missing is lost."""
TRIGGER = "std_srvs/srv/Trigger"


def known(type_name: str) -> bool:
    """Whether this side has a message type; the wheels of rclpy lack control_msgs."""
    try:
        message(type_name)
    except ImportError:
        return False
    return True


def sample(type_name: str, pixels: tuple[int, int] | None) -> Any:
    """A message of a type, an image of a given width and height where wanted."""
    made = SAMPLES[type_name]()
    if pixels is not None:
        made.width, made.height = pixels
        made.step = 3 * pixels[0]
        made.data = bytes(made.step * made.height)
    return made


def same(got: Any, wanted: Any) -> bool:
    """Whether what arrived is what was sent; a picture is compared as bytes, number by number it takes too long."""
    if hasattr(wanted, "height") and hasattr(wanted, "step"):
        shape = (got.width, got.height, got.encoding, got.header)
        whole = memoryview(got.data) == memoryview(wanted.data)
        return whole and shape == (wanted.width, wanted.height, wanted.encoding, wanted.header)
    return bool(got == wanted)


class Side:
    """One node that takes part.

    Args:
        name: Of the node; also what its topics begin with.
    """

    def __init__(self, name: str) -> None:
        rclpy.init(args=[])
        self.node = Node(name)
        self._name = name
        self._publishers: dict[str, Any] = {}
        self._subscriptions: dict[str, Any] = {}
        self._wanted: dict[str, Any] = {}
        self._arrived: dict[str, list[bool]] = {}
        self._last_s = 0.0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves the graph."""
        self._executor.shutdown()
        self._thread.join(WAIT_S)
        self.node.destroy_node()
        rclpy.try_shutdown()

    def types(self) -> list[str]:
        """Message types that this side has."""
        return [name for name in SAMPLES if known(name)]

    def offer(self, topics: dict[str, str], qos: dict[str, Any]) -> None:
        """Makes a publisher for each topic and its type."""
        for topic, type_name in topics.items():
            self._publishers[topic] = self.node.create_publisher(message(type_name), topic, profile(**qos))

    def listen(self, topics: dict[str, str], qos: dict[str, Any], pixels: tuple[int, int] | None = None) -> None:
        """Subscribes to each topic and begins to count; a message counts as sound where it equals the sample."""
        for topic, type_name in topics.items():
            self._wanted[topic] = sample(type_name, pixels)
            self._arrived[topic] = []
            self._subscriptions[topic] = self.node.create_subscription(
                message(type_name), topic, lambda got, topic=topic: self._take(topic, got), profile(**qos)
            )

    def _take(self, topic: str, got: Any) -> None:
        self._last_s = time.monotonic()
        self._arrived[topic].append(same(got, self._wanted[topic]))

    def matched(self, topics: list[str]) -> list[str]:
        """Those of the topics offered that somebody listens to, once all have or time is up."""
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            heard = [topic for topic in topics if self._publishers[topic].get_subscription_count()]
            if len(heard) == len(topics):
                break
            time.sleep(0.05)
        return heard

    def send(self, topics: dict[str, str], count: int, hz: float, pixels: tuple[int, int] | None = None) -> None:
        """Sends `count` samples on each topic at a rate."""
        samples = {topic: sample(type_name, pixels) for topic, type_name in topics.items()}
        start_s = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, start_s + number / hz - time.monotonic()))
            for topic, made in samples.items():
                self._publishers[topic].publish(made)

    def counts(self, topics: list[str], count: int) -> dict[str, int]:
        """Sound messages by topic, once there are `count` of each or nothing comes any more."""
        self._last_s = time.monotonic()
        while time.monotonic() - self._last_s < SETTLED_S:
            if all(len(self._arrived[topic]) >= count for topic in topics):
                break
            time.sleep(0.05)
        return {topic: sum(self._arrived[topic]) for topic in topics}

    def leave(self, topics: list[str]) -> None:
        """Ends the publishers and subscriptions of topics."""
        for topic in topics:
            if topic in self._publishers:
                self.node.destroy_publisher(self._publishers.pop(topic))
            if topic in self._subscriptions:
                self.node.destroy_subscription(self._subscriptions.pop(topic))

    def nodes(self, wanted: str) -> list[str]:
        """Nodes in the graph, once one is there or time is up."""
        until_s = time.monotonic() + WAIT_S
        while wanted not in (seen := self.node.get_node_names()) and time.monotonic() < until_s:
            time.sleep(0.05)
        return seen

    def owners(self, topic: str) -> list[str]:
        """Nodes that publish a topic."""
        return [info.node_name for info in self.node.get_publishers_info_by_topic(topic)]

    def serve(self, name: str) -> None:
        """Offers a service."""

        def answer(_: Any, response: Any) -> Any:
            response.success = True
            return response

        self.node.create_service(srv(TRIGGER), name, answer)

    def ask(self, name: str, timeout_s: float) -> dict[str, bool]:
        """Whether a service is there, and whether it answers."""
        client = self.node.create_client(srv(TRIGGER), name)
        there = client.wait_for_service(timeout_s)
        future = client.call_async(srv(TRIGGER).Request())
        until_s = time.monotonic() + timeout_s
        while not future.done() and time.monotonic() < until_s:
            time.sleep(0.02)
        return {"there": there, "answered": future.done()}


def profile(reliable: bool = True, latched: bool = False, depth: int = 10) -> QoSProfile:
    """A quality of service."""
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def main() -> None:
    """Obeys the other side until its input ends; told `as_up`, it talks as nodes do that `robot-rl up` starts."""
    if "as_up" in sys.argv:
        join(None)
    side = Side(sys.argv[1])
    try:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            answer = getattr(side, name)(**arguments)
            sys.stdout.write(f"{ANSWER}{json.dumps(answer)}\n")
            sys.stdout.flush()
    finally:
        side.close()


if __name__ == "__main__":
    main()
