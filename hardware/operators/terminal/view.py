"""What the robot sees, in a terminal: a camera picture of half-block characters in true colour, and lines of text.

Needs nothing but a terminal, so it works over SSH. Drawing happens in a thread of its own at a limited rate: a slow
connection delays the picture and never a control tick. The view is pinned to the bottom of the screen by a scroll
region, so that whatever else the program prints scrolls above it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
import numpy.typing as npt

from hardware.operators.terminal.raw_terminal import HIDE_CURSOR, RESET_COLOUR, RESTORE, SAVE, SHOW_CURSOR, WHOLE_SCREEN

HALF_BLOCK = "\N{UPPER HALF BLOCK}"
ERASE_RIGHT, ERASE_BELOW = "\x1b[K", "\x1b[J"

FREE_ROWS = 6
"""Rows left to the rest of the program."""
SMALLEST_PICTURE_ROWS = 4
LARGEST_PICTURE_ROWS = 30
JOIN_TIMEOUT_S = 1.0

Picture = npt.NDArray[np.uint8]


class Screen(Protocol):
    """The part of a terminal that is drawn on."""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""

    def write(self, text: str) -> None:
        """Writes all of a text."""


def fitted(height_px: int, width_px: int, columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows of the largest picture of this shape; a character shows two pixels, one above the other."""
    scale = min(columns / width_px, 2 * rows / height_px)
    return max(1, int(width_px * scale)), max(1, int(height_px * scale / 2))


def half_blocks(image: Picture, columns: int, rows: int) -> list[str]:
    """A picture as lines of text, each `columns` characters wide.

    Args:
        image: RGB. Shape (height, width, 3), uint8.
        columns: Width in characters.
        rows: Height in characters, two pixels each.
    """
    pixels = cv2.resize(image, (columns, 2 * rows), interpolation=cv2.INTER_AREA).tolist()
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        parts, last = [], None
        for above, below in zip(upper, lower, strict=True):
            if (above, below) != last:
                parts.append("\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*above, *below))
                last = (above, below)
            parts.append(HALF_BLOCK)
        lines.append("".join(parts) + RESET_COLOUR)
    return lines


class TerminalView:
    """A picture and lines of text at the bottom of a terminal while entered.

    Args:
        screen: Where to draw.
        rate_hz: Most drawings per second; what is shown in between is skipped.
    """

    def __init__(self, screen: Screen, rate_hz: float = 8.0) -> None:
        self._screen = screen
        self._period_s = 1.0 / rate_hz
        self._changed = threading.Condition()
        self._latest: tuple[Picture | None, tuple[str, ...]] | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._pinned: tuple[int, int, int] | None = None

    def __enter__(self) -> Self:
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="terminal view", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            # A terminal that takes no more output must not keep the robot's program from ending.
            self._thread.join(JOIN_TIMEOUT_S)
            self._thread = None

    def show(self, image: Picture | None, lines: Sequence[str]) -> None:
        """Draws soon, in the background; returns at once.

        Args:
            image: RGB, shape (height, width, 3); not written to afterwards. None for text alone.
            lines: Plain text below the picture, cut to the terminal's width.
        """
        with self._changed:
            self._latest = image, tuple(lines)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._latest is not None)
                    if self._closing:
                        break
                    latest, self._latest = self._latest, None
                if latest is not None:
                    self._draw(*latest)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, self._period_s)
            self._screen.write(self._unpin())
        except OSError:
            # The terminal is gone; the operator notices by itself and stops the session.
            return

    def _draw(self, image: Picture | None, lines: Sequence[str]) -> None:
        columns, rows = self._screen.size
        # A full line would leave the cursor past its end, where erasing takes the last character with it.
        columns -= 1
        drawn = [line[:columns] for line in lines]
        room = min(rows - FREE_ROWS - len(lines), LARGEST_PICTURE_ROWS)
        if image is not None and room >= SMALLEST_PICTURE_ROWS:
            drawn = half_blocks(image, *fitted(image.shape[0], image.shape[1], columns, room)) + drawn
        drawn = drawn[: max(0, rows - 1)]
        text = []
        if (columns, rows, len(drawn)) != self._pinned:
            text.append(self._unpin())
            text.append(self._pin(columns, rows, len(drawn)))
        first = rows - len(drawn) + 1
        text.append(SAVE)
        text += [f"\x1b[{first + index};1H{line}{ERASE_RIGHT}" for index, line in enumerate(drawn)]
        text.append(RESTORE)
        self._screen.write("".join(text))

    def _pin(self, columns: int, rows: int, height: int) -> str:
        """Makes room at the bottom, and lets everything else scroll above it."""
        self._pinned = columns, rows, height
        return "\n" * height + f"\x1b[{height}A" + HIDE_CURSOR + SAVE + f"\x1b[1;{rows - height}r" + RESTORE

    def _unpin(self) -> str:
        """Erases the view and gives its rows back."""
        if self._pinned is None:
            return ""
        _, rows, height = self._pinned
        self._pinned = None
        return f"{SAVE}{WHOLE_SCREEN}\x1b[{rows - height + 1};1H{ERASE_BELOW}{RESTORE}{SHOW_CURSOR}"
