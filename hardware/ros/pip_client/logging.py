"""rclpy's logger: severity, name and time on standard error; once and throttled messages per calling line."""

from __future__ import annotations

import enum
import sys
import threading
import time
from typing import Any


class LoggingSeverity(enum.IntEnum):
    """rclpy's severities."""

    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


LEVELS: dict[str, LoggingSeverity] = {"": LoggingSeverity.INFO}
"""Least severity by logger name; the empty name is the default of all."""
LOCK = threading.Lock()


def set_logger_level(name: str, level: LoggingSeverity | int) -> None:
    """Least severity that a logger and those below it show."""
    LEVELS[name] = LoggingSeverity(level)


class RcutilsLogger:
    """Writes lines such as `[INFO] [1700000000.123456789] [arm]: ready`.

    Args:
        name: Logger name; dots separate levels.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._last_s: dict[tuple[str, int], float] = {}

    def get_child(self, name: str) -> RcutilsLogger:
        """Logger below this one."""
        return RcutilsLogger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: LoggingSeverity | int) -> None:
        """Least severity to show."""
        set_logger_level(self.name, level)

    def get_effective_level(self) -> LoggingSeverity:
        """Least severity shown, from this logger or the nearest above it."""
        name = self.name
        while name not in LEVELS:
            name = name.rpartition(".")[0]
        return LEVELS[name]

    def is_enabled_for(self, severity: LoggingSeverity) -> bool:
        """Whether a message of this severity would show."""
        return severity >= self.get_effective_level()

    def log(
        self,
        message: str,
        severity: LoggingSeverity,
        *,
        once: bool = False,
        skip_first: bool = False,
        throttle_duration_sec: float | None = None,
        **_ignored: Any,
    ) -> bool:
        """Write a message; True where it was written.

        Args:
            message: Text.
            severity: How bad it is.
            once: Only the first time on this line of code.
            skip_first: Not the first time on this line of code.
            throttle_duration_sec: At most once in this time on this line of code [s].
            _ignored: rclpy's other filters.
        """
        if not self.is_enabled_for(severity):
            return False
        if once or skip_first or throttle_duration_sec is not None:
            frame = sys._getframe(2)
            if not self._passes((frame.f_code.co_filename, frame.f_lineno), once, skip_first, throttle_duration_sec):
                return False
        now_ns = time.time_ns()
        stamp = f"{now_ns // 10**9}.{now_ns % 10**9:09d}"
        sys.stderr.write(f"[{severity.name}] [{stamp}] [{self.name}]: {message}\n")
        sys.stderr.flush()
        return True

    def _passes(self, line: tuple[str, int], once: bool, skip_first: bool, throttle_s: float | None) -> bool:
        now_s = time.monotonic()
        with LOCK:
            last_s = self._last_s.get(line)
            seen = last_s is not None
            if once and seen:
                return False
            if throttle_s is not None and last_s is not None and now_s - last_s < throttle_s:
                return False
            self._last_s[line] = now_s
        return seen or not skip_first

    def debug(self, message: str, **filters: Any) -> bool:
        """Log for developers."""
        return self.log(message, LoggingSeverity.DEBUG, **filters)

    def info(self, message: str, **filters: Any) -> bool:
        """Log what is normal."""
        return self.log(message, LoggingSeverity.INFO, **filters)

    def warning(self, message: str, **filters: Any) -> bool:
        """Log what may need attention."""
        return self.log(message, LoggingSeverity.WARN, **filters)

    def warn(self, message: str, **filters: Any) -> bool:
        """Log what may need attention."""
        return self.log(message, LoggingSeverity.WARN, **filters)

    def error(self, message: str, **filters: Any) -> bool:
        """Log what went wrong."""
        return self.log(message, LoggingSeverity.ERROR, **filters)

    def fatal(self, message: str, **filters: Any) -> bool:
        """Log what ends the node."""
        return self.log(message, LoggingSeverity.FATAL, **filters)


def get_logger(name: str) -> RcutilsLogger:
    """Logger by name."""
    return RcutilsLogger(name)
