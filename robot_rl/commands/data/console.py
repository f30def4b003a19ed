"""What the data commands print, and how they refuse."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from robot_rl.core.errors import RobotRLError

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
WIDE = 200
"""Columns of a table that goes to a file or a pipe."""


class UsageError(RobotRLError):
    """A command line that names something that is not there, or asks for too little."""


def table_console() -> Console:
    """Where tables go: as wide as the terminal, or `WIDE`."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def say(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")


def tracked(things: Iterable[T], total: int, what: str) -> Iterable[T]:
    """The same things, with a progress bar on stderr where somebody can see it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(things, what, total, console=console, disable=not console.is_terminal, transient=True)
