"""The one place where nodes get ROS from: real rclpy where it can be imported, our own client otherwise.

ROBOT_RL_ROS chooses: `rclpy`, `pip` (our own), or unset for the first that is there. Where neither is, importing this
module still works, and `require_ros` says what is missing. Node code uses only what exists in Humble's and in
Jazzy's rclpy.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from robot_rl.core.errors import RobotRLError

CHOICE = os.environ.get("ROBOT_RL_ROS", "")
WHEEL_MODULES = ("cyclonedds", "rosbags")


def importable(name: str) -> bool:
    """Whether a module really loads; a sourced ROS of another Python version is found, but its libraries fail."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def missing_wheels() -> list[str]:
    """Packages that our own client needs and this machine does not have."""
    return [name for name in WHEEL_MODULES if not importable(name)]


def choose_backend() -> str | None:
    """`rclpy`, `pip`, or None where neither can be had.

    Raises:
        RobotRLError: ROBOT_RL_ROS names something else.
    """
    if CHOICE not in ("", "rclpy", "pip"):
        raise RobotRLError(f"ROBOT_RL_ROS is {CHOICE!r}, wanted 'rclpy' or 'pip'")
    if CHOICE != "pip" and importable("rclpy.node"):
        return "rclpy"
    if CHOICE != "rclpy" and not missing_wheels():
        return "pip"
    return None


BACKEND = choose_backend()


def require_ros() -> None:
    """Check that there is a way to speak ROS 2.

    Raises:
        RobotRLError: Neither rclpy nor our own client's packages are there.
    """
    if BACKEND is None:
        raise RobotRLError(missing_text(missing_wheels(), platform.machine(), sys.version_info[:2]))


def missing_text(missing: list[str], machine: str, python: tuple[int, int]) -> str:
    """What is missing and what to do about it."""
    if CHOICE == "rclpy":
        return "ROBOT_RL_ROS is 'rclpy', but rclpy cannot be imported. Next: source /opt/ros/<distro>/setup.bash"
    found = f"this is Python {python[0]}.{python[1]} on {machine}"
    advice = f"Next: pip install {' '.join(missing)}, or source /opt/ros/<distro>/setup.bash"
    if machine == "aarch64" or python >= (3, 14):
        advice = (
            "cyclonedds has no wheel for Linux on aarch64 and none for Python 3.14 or newer. "
            "Next: use Python 3.11 to 3.13 on x86_64, or install ROS 2 and source /opt/ros/<distro>/setup.bash"
        )
    return f"ROS 2 is not available: no rclpy, and without it {' and '.join(missing)} are needed; {found}. {advice}"


def problems() -> list[str]:
    """What would keep ROS from working well on this machine, each with its remedy; empty where all is well."""
    if BACKEND is None:
        try:
            require_ros()
        except RobotRLError as error:
            return [str(error)]
    if BACKEND == "pip":
        from hardware.ros.pip_client.profile import (
            URI,
            kernel_problems,
            rmem_max_bytes,
            security_problem,
            uri_problems,
        )

        given, unprotected = os.environ.get(URI), security_problem()
        found = uri_problems(given) if given else kernel_problems(rmem_max_bytes())
        return [unprotected, *found] if unprotected else found
    return []


if BACKEND == "rclpy" and not TYPE_CHECKING:
    import rclpy
    from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
    from rclpy.clock import Clock, ClockType
    from rclpy.context import Context
    from rclpy.duration import Duration
    from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.qos import (
        DurabilityPolicy,
        HistoryPolicy,
        LivelinessPolicy,
        QoSCompatibility,
        QoSProfile,
        ReliabilityPolicy,
        qos_check_compatible,
        qos_profile_sensor_data,
        qos_profile_services_default,
        qos_profile_system_default,
    )
    from rclpy.signals import SignalHandlerOptions
    from rclpy.task import Future
    from rclpy.time import Time

    try:
        from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
    except ImportError:  # Humble
        from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

    def message(name: str) -> Any:
        """Class of a message type such as `sensor_msgs/msg/JointState`."""
        package, kind, short = name.split("/")
        return getattr(importlib.import_module(f"{package}.{kind}"), short)

    srv = message

elif BACKEND == "pip" or TYPE_CHECKING:
    from hardware.ros.pip_client import api as rclpy
    from hardware.ros.pip_client.callback_groups import (
        CallbackGroup,
        MutuallyExclusiveCallbackGroup,
        ReentrantCallbackGroup,
    )
    from hardware.ros.pip_client.context import Context, SignalHandlerOptions
    from hardware.ros.pip_client.endpoints import PublisherEventCallbacks, SubscriptionEventCallbacks
    from hardware.ros.pip_client.exceptions import ExternalShutdownException
    from hardware.ros.pip_client.executors import MultiThreadedExecutor, SingleThreadedExecutor
    from hardware.ros.pip_client.messages import message_class, service_class
    from hardware.ros.pip_client.node import Node
    from hardware.ros.pip_client.parameters import Parameter
    from hardware.ros.pip_client.qos import (
        DurabilityPolicy,
        HistoryPolicy,
        LivelinessPolicy,
        QoSCompatibility,
        QoSProfile,
        ReliabilityPolicy,
        qos_check_compatible,
        qos_profile_sensor_data,
        qos_profile_services_default,
        qos_profile_system_default,
    )
    from hardware.ros.pip_client.task import Future
    from hardware.ros.pip_client.time import Clock, ClockType, Duration, Time

    def message(name: str) -> Any:
        """Class of a message type such as `sensor_msgs/msg/JointState`."""
        return message_class(name)

    def srv(name: str) -> Any:
        """Class of a service type such as `std_srvs/srv/SetBool`."""
        return service_class(name)


if BACKEND is not None:
    QoSReliabilityPolicy = ReliabilityPolicy
    QoSDurabilityPolicy = DurabilityPolicy
    QoSHistoryPolicy = HistoryPolicy

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """A name that only a backend gives: say what is missing instead of that the name is."""
        if BACKEND is None and name in __all__:
            require_ros()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BACKEND",
    "CallbackGroup",
    "Clock",
    "ClockType",
    "Context",
    "DurabilityPolicy",
    "Duration",
    "ExternalShutdownException",
    "Future",
    "HistoryPolicy",
    "LivelinessPolicy",
    "MultiThreadedExecutor",
    "MutuallyExclusiveCallbackGroup",
    "Node",
    "Parameter",
    "PublisherEventCallbacks",
    "QoSCompatibility",
    "QoSDurabilityPolicy",
    "QoSHistoryPolicy",
    "QoSProfile",
    "QoSReliabilityPolicy",
    "ReentrantCallbackGroup",
    "ReliabilityPolicy",
    "SignalHandlerOptions",
    "SingleThreadedExecutor",
    "SubscriptionEventCallbacks",
    "Time",
    "message",
    "problems",
    "qos_check_compatible",
    "qos_profile_sensor_data",
    "qos_profile_services_default",
    "qos_profile_system_default",
    "rclpy",
    "require_ros",
    "srv",
]
