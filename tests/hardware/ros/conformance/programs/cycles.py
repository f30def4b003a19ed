"""Says what each of many nodes leaves in memory [KiB], first of bare nodes, then of those in a thread of their own.

A process of its own, because what others freed would hide it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from hardware.ros.background_node import BackgroundNode
from hardware.ros.client import SingleThreadedExecutor, rclpy

CYCLES = 60


def bare() -> None:
    node = rclpy.create_node("bare")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.spin_once(timeout_sec=0.01)
    executor.shutdown()
    node.destroy_node()


def threaded() -> None:
    with BackgroundNode("threaded") as link:
        link.spin()


def resident_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def left_kib(cycle: Callable[[], None]) -> float:
    for _ in range(CYCLES // 3):
        cycle()
    gc.collect()
    before_kib = resident_kib()
    for _ in range(CYCLES):
        cycle()
    gc.collect()
    return (resident_kib() - before_kib) / CYCLES


rclpy.init(args=[])
sys.stdout.write(f"{left_kib(bare)} {left_kib(threaded)}\n")
rclpy.shutdown()
