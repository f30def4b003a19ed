"""What the conformance tests share: a node that is spun until something is true, and programs that join it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from hardware.ros.client import Node, SingleThreadedExecutor, rclpy

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[4]
GIVE_UP_S = 20.0


class Bench:
    """One context with one node `bench` in namespace `/test`.

    Args:
        environment: What other processes need to join its domain.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._programs: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        rclpy.init(args=[])
        self.node = Node("bench", namespace="/test")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            stop(program)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()

    def until(self, condition: Callable[[], Any], executor: Any = None) -> None:
        """Spin until the condition holds."""
        end_s = time.monotonic() + GIVE_UP_S
        while not condition():
            assert time.monotonic() < end_s, "gave up waiting"
            (executor or self.executor).spin_once(timeout_sec=0.05)

    def collect(self, msg_type: Any, topic: str, qos: Any, **options: Any) -> list[Any]:
        """Subscribe; the list grows while spinning."""
        got: list[Any] = []
        self.node.create_subscription(msg_type, topic, got.append, qos, **options)
        return got

    def connected(self, publisher: Any, subscriptions: int = 1) -> None:
        """Wait until a publisher has its subscriptions."""
        self.until(lambda: publisher.get_subscription_count() >= subscriptions)

    def start(self, program: str, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start one of the programs in this domain; it is killed at the end of the test."""
        command = [*prefix, sys.executable, str(PROGRAMS / f"{program}.py"), *arguments]
        started = subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._programs.append(started)
        return started


def stop(program: subprocess.Popen[str]) -> None:
    """End a program so that it can say goodbye; kill it if it does not."""
    program.terminate()
    try:
        program.communicate(timeout=GIVE_UP_S)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
