"""rclpy's exceptions, by rclpy's names."""

from __future__ import annotations

from robot_rl.core.errors import RobotRLError


class NotInitializedException(Exception):
    """rclpy.init has not been called, or the context was shut down."""


class ExternalShutdownException(Exception):
    """The context was shut down while it was being spun."""

    def __init__(self) -> None:
        super().__init__("The context was shut down")


class InvalidNodeNameException(Exception):
    """A node's name has forbidden characters."""


class InvalidTopicNameException(Exception):
    """A topic's or service's name has forbidden characters."""


class ParameterNotDeclaredException(Exception):
    """A parameter was used before it was declared."""


class ParameterAlreadyDeclaredException(Exception):
    """A parameter was declared twice."""


class ParameterUninitializedException(Exception):
    """A parameter without a value was read."""


class ParameterImmutableException(Exception):
    """A read-only parameter was to change."""


class InvalidParameterTypeException(Exception):
    """A parameter was given a value of another type than declared."""


class InvalidParameterValueException(Exception):
    """A parameter's value was refused."""


class RCLError(Exception):
    """The middleware refused."""


class RCLInvalidROSArgsError(RobotRLError):
    """What stands behind `--ros-args` cannot be understood."""
