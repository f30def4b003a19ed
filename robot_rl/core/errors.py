"""Errors that more than one room raises or catches."""

from __future__ import annotations


class RobotRLError(Exception):
    """A mistake or fault that the user can act on; the command line shows it without a traceback."""


class HelpRequested(Exception):
    """Not an error: the user asked for a command's settings, and this carries the text to show."""


class SpecMismatch(RobotRLError):
    """Two ends that must agree on a `RobotSpec` do not."""


class StaleSensor(RobotRLError):
    """A stream has no sample fresh enough to act on."""


class BadMessage(RobotRLError):
    """A message that does not hold what the stream needs."""
