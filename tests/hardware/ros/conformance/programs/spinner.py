"""Spins one node; says when it does, how spinning ended, and that it could clean up.

Arguments: `single`, `multi` or `spin` for the executor, `main` or `thread` for where it spins, and `own` for a program
that takes the signals itself.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading

from hardware.ros.client import (
    ExternalShutdownException,
    MultiThreadedExecutor,
    Node,
    SignalHandlerOptions,
    SingleThreadedExecutor,
    message,
    rclpy,
)
from hardware.ros.spinning_thread import SpinningThread


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


EXECUTORS = {"single": SingleThreadedExecutor, "multi": MultiThreadedExecutor}


def spinner() -> Node:
    node = Node("spinner")
    node.create_publisher(message("std_msgs/msg/Bool"), "flag", 1)
    node.create_subscription(message("std_msgs/msg/Bool"), "flag", lambda _: None, 1)
    once = node.create_timer(0.01, lambda: (once.cancel(), say("spinning")))
    return node


def main(kind: str, where: str) -> None:
    rclpy.init()
    node = spinner()
    executor = EXECUTORS[kind]() if kind in EXECUTORS else None
    thread = None
    try:
        if where == "thread" and executor is not None:
            executor.add_node(node)
            thread = threading.Thread(target=spin_quietly, args=(executor,))
            thread.start()
            thread.join()
            say("thread ended")
        else:
            rclpy.spin(node, executor)
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    except ExternalShutdownException:
        say("ExternalShutdownException")
    finally:
        if thread is not None:
            thread.join()
        if executor is not None:
            executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    say("clean")


def spin_quietly(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


def main_with_signals_of_its_own(kind: str, where: str) -> None:
    told_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told_to_end.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, executor = spinner(), EXECUTORS[kind]()
    executor.add_node(node)
    hearing = SpinningThread(executor, "spinner")
    if where == "thread":
        hearing.start()
        told_to_end.wait()
    while not told_to_end.is_set():
        executor.spin_once(timeout_sec=0.1)
    say("told")
    hearing.end()
    node.destroy_node()
    rclpy.shutdown()
    say("clean")


(main_with_signals_of_its_own if sys.argv[3:] == ["own"] else main)(*sys.argv[1:3])
