"""A terminal's keys by name, and what those mean that are the same on every robot and beside every device."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from hardware.operators.control import WISHES, Wish
from hardware.operators.terminal.raw_terminal import KeyDecoder, KeyTerminal

TAKE_OVER_KEY = "tab"
CLOSED = "terminal closed"
"""Heard once, as if it were a key, when there will never be another."""

KEYS: Mapping[str, Wish] = {
    TAKE_OVER_KEY: WISHES["take_over"],
    "right": WISHES["end"],
    "n": WISHES["end"]._replace(guarded=True),
    "left": WISHES["redo"],
    "r": WISHES["redo"]._replace(guarded=True),
    "esc": WISHES["stop"],
    "q": WISHES["stop"],
    CLOSED: WISHES["stop"],
    "space": WISHES["pause"],
    "y": WISHES["mark_success"],
    "x": WISHES["mark_failure"],
    "Y": WISHES["success"],
    "X": WISHES["failure"],
}
SHORT_LEGEND = "Esc stop  Left redo  Right end  Y/X success/failure  Space pause"


class KeyEvents:
    """Owns the terminal while entered.

    Args:
        terminal: Where keys come from; None hears nothing.
        clock_ns: Monotonic time [ns].
    """

    def __init__(self, terminal: KeyTerminal | None, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._terminal = terminal
        self._clock_ns = clock_ns
        self._decoder = KeyDecoder()
        self._is_closed = False

    def __enter__(self) -> Self:
        if self._terminal is not None:
            self._terminal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(kind, error, trace)

    @property
    def hears(self) -> bool:
        """Whether there is a keyboard at all."""
        return self._terminal is not None

    def typed(self) -> list[str]:
        """Names of the keys typed since the last call, see `KeyDecoder`; never waits."""
        if self._terminal is None:
            return []
        data = self._terminal.read()
        keys = self._decoder.feed(data or b"", self._clock_ns())
        if data is None and not self._is_closed:
            self._is_closed = True
            keys.append(CLOSED)
        return keys

    def wishes(self) -> list[Wish]:
        """What was typed since the last call; never waits."""
        return [KEYS[key] for key in self.typed() if key in KEYS]


def say_on_stderr(message: str) -> None:
    """Tells the person at the terminal something."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
