"""Answers `/greet` until it is stopped."""

from __future__ import annotations

from typing import Any

from hardware.ros.client import ExternalShutdownException, Node, rclpy, srv


def greet(_: Any, response: Any) -> Any:
    response.success, response.message = True, "hello"
    return response


def main() -> None:
    rclpy.init()
    node = Node("greeter")
    try:
        node.create_service(srv("std_srvs/srv/Trigger"), "greet", greet)
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


main()
