"""Spins one node; says when it does, how spinning ended, and that it could clean up.

Arguments: `single`, `multi` or `spin` for the executor, `main` or `thread` for where it spins.
"""

from __future__ import annotations

import contextlib
import sys
import threading

from hardware.ros.client import (
    ExternalShutdownException,
    MultiThreadedExecutor,
    Node,
    SingleThreadedExecutor,
    message,
    rclpy,
)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(kind: str, where: str) -> None:
    rclpy.init()
    node = Node("spinner")
    executors = {"single": SingleThreadedExecutor, "multi": MultiThreadedExecutor}
    executor = executors[kind]() if kind in executors else None
    node.create_publisher(message("std_msgs/msg/Bool"), "flag", 1)
    node.create_subscription(message("std_msgs/msg/Bool"), "flag", lambda _: None, 1)
    once = node.create_timer(0.01, lambda: (once.cancel(), say("spinning")))
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


main(*sys.argv[1:3])
