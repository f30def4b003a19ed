"""The keyboard beside another device: its keys for labels, pause, stop and taking over."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from hardware.operators.meanings import KEYS, TAKE_OVER_KEY, Meaning
from hardware.operators.terminal.raw_terminal import KeyDecoder, KeyTerminal
from robot_rl.core.protocols import OperatorEvent


class Heard(NamedTuple):
    """What was typed: meanings in order, and how often the key that takes over and gives back."""

    meanings: list[Meaning]
    take_over: int


class KeyEvents:
    """Owns the terminal while entered. A terminal that is closed stops the session, once.

    Args:
        terminal: Where keys come from; None hears nothing.
        clock_ns: Monotonic time [ns].
    """

    def __init__(self, terminal: KeyTerminal | None, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._terminal = terminal
        self._clock_ns = clock_ns
        self._decoder = KeyDecoder()
        self._is_lost = False

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

    def hear(self) -> Heard:
        """What was typed since the last call; never waits."""
        if self._terminal is None:
            return Heard([], 0)
        data = self._terminal.read()
        keys = self._decoder.feed(data or b"", self._clock_ns())
        meanings = [KEYS[key] for key in keys if key in KEYS]
        if data is None and not self._is_lost:
            self._is_lost = True
            meanings.append(Meaning(OperatorEvent.STOP))
        return Heard(meanings, keys.count(TAKE_OVER_KEY))
