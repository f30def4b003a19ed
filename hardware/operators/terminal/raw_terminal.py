"""The terminal as an input device: single keys without Enter, and the terminal always given back as it was."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import sys
import termios
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from robot_rl.core.errors import RobotRLError

ESCAPE_TIMEOUT_NS = 100_000_000
"""An escape that nothing follows for this long was the key itself. Arrow keys arrive as escape sequences, which a slow
connection may cut in two."""

READ_BYTES = 4096
SAVE, RESTORE, WHOLE_SCREEN = "\x1b7", "\x1b8", "\x1b[r"
HIDE_CURSOR, SHOW_CURSOR, RESET_COLOUR = "\x1b[?25l", "\x1b[?25h", "\x1b[0m"
LEAVE_CLEAN = RESET_COLOUR + SAVE + WHOLE_SCREEN + RESTORE + SHOW_CURSOR
"""Undoes whatever drawing on a terminal has switched on; does no harm where nothing was."""

DISABLED_CHARACTER = b"\x00"
"""Linux's _POSIX_VDISABLE: the special character is off."""


_NAMED = {
    "\x1b": "esc",
    " ": "space",
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}
_SEQUENCES = {"A": "up", "B": "down", "C": "right", "D": "left"}
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class NoTerminal(RobotRLError):
    """There is no terminal to read keys from."""


class KeyTerminal(Protocol):
    """A terminal that gives single keys while entered; `RawTerminal` is one."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""

    def read(self) -> bytes | None:
        """Whatever was typed since the last call, at once; None if the terminal is gone."""

    def write(self, text: str) -> None:
        """Writes all of a text."""


class KeyDecoder:
    """Turns the bytes of a terminal into names of keys: the character itself, or `right`, `esc`, `tab`, `space`, ...

    Sequences of keys without a name here (function keys, mouse, focus) are swallowed whole.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._since_ns = 0
        self._bytes = b""

    def feed(self, data: bytes, now_ns: int) -> list[str]:
        """Keys complete by now; call it without data as well, so that a lone escape is found.

        Args:
            data: What was read, possibly nothing, possibly part of a key.
            now_ns: Monotonic time [ns].
        """
        if data:
            self._bytes += data
            whole = len(self._bytes) - _unfinished_utf8(self._bytes)
            self._pending += self._bytes[:whole].decode("utf-8", errors="replace")
            self._bytes = self._bytes[whole:]
            self._since_ns = now_ns
        keys: list[str] = []
        while self._pending:
            used, key = _first_key(self._pending)
            if used == 0:
                if now_ns - self._since_ns < ESCAPE_TIMEOUT_NS:
                    break
                # Nothing came after it: the escape key, whatever was typed next belongs to itself.
                used, key = 1, "esc"
            self._pending = self._pending[used:]
            if key is not None:
                keys.append(key)
        return keys


def _unfinished_utf8(data: bytes) -> int:
    """Number of trailing bytes that begin a character which is not complete yet."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return back if back < wanted else 0
    return 0


def _first_key(text: str) -> tuple[int, str | None]:
    """How many characters the first key takes, 0 if it may be incomplete, and its name, None if it has none here."""
    if text[0] != "\x1b":
        return 1, _NAMED.get(text[0], text[0] if text[0].isprintable() else None)
    if len(text) == 1:
        return 0, None
    if text[1] == "O":
        return (0, None) if len(text) == 2 else (3, _SEQUENCES.get(text[2]))
    if text[1] != "[":
        return 1, "esc"
    for index, character in enumerate(text[2:], start=2):
        if "\x40" <= character <= "\x7e":
            return index + 1, _SEQUENCES.get(character)
    return 0, None


class RawTerminal:
    """The controlling terminal in single-key mode while entered; works over SSH and needs no display server.

    Ctrl-C still interrupts; suspending (Ctrl-Z) is off, because a robot must not be left to itself. The terminal is
    restored on leaving, at exit, and when SIGTERM or SIGHUP ends the process: where nobody handles those, they are
    turned into `SystemExit`, so that every context manager, the robot's first of all, gets to stop its work. After
    SIGKILL, which no process can answer, `stty sane` restores it.

    Args:
        path: Terminal device; standard input is tried next.
    """

    def __init__(self, path: str = "/dev/tty") -> None:
        self._path = path
        self._fd = -1
        self._opened = False
        self._before: list[Any] | None = None
        self._owner = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._fd, self._opened = self._open()
        self._before = termios.tcgetattr(self._fd)
        self._owner = os.getpid()
        atexit.register(self.restore)
        self._catch_signals()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, single_key_mode(self._before))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
        atexit.unregister(self.restore)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._opened and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def restore(self) -> None:
        """Gives the terminal back as it was; more than once does no harm. A forked child leaves it alone."""
        if self._before is None or os.getpid() != self._owner:
            return
        before, self._before = self._before, None
        try:
            os.write(self._fd, LEAVE_CLEAN.encode())
            termios.tcsetattr(self._fd, termios.TCSANOW, before)
        except (OSError, termios.error):
            # The terminal is gone (its window or connection was closed): there is nothing left to restore.
            return

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows; 80 by 24 where the terminal does not say."""
        try:
            columns, rows = os.get_terminal_size(self._fd)
        except OSError:
            return shutil.get_terminal_size()
        return (columns or 80, rows or 24)

    def read(self) -> bytes | None:
        """Whatever was typed since the last call, at once; None if the terminal is gone."""
        try:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            events = poll.poll(0)
            if not events:
                return b""
            # A closed connection also reads as empty; only this tells it from nothing typed.
            if events[0][1] & ~select.POLLIN:
                return None
            return os.read(self._fd, READ_BYTES)
        except OSError:
            return None

    def write(self, text: str) -> None:
        """Writes all of a text; waits for a slow terminal, so never call it from a control tick.

        Raises:
            OSError: The terminal is gone.
        """
        data = text.encode()
        while data:
            data = data[os.write(self._fd, data) :]

    def _open(self) -> tuple[int, bool]:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            fd = -1
        if fd >= 0 and os.isatty(fd):
            return fd, True
        if fd >= 0:
            os.close(fd)
        if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            return sys.stdin.fileno(), False
        raise NoTerminal(
            "no terminal to read keys from: run this in a terminal (ssh -t, docker run -it), "
            "or choose an operator that needs none, for example operator=scripted"
        )

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _ENDING_SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, _exit_on(self.restore))


def _exit_on(restore: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        restore()
        raise SystemExit(128 + number)

    return handler


def single_key_mode(attributes: list[Any]) -> list[Any]:
    """Terminal attributes for single keys without echo: output untouched, Ctrl-C kept, Ctrl-Z and Ctrl-S off."""
    flags_in, flags_out, control, local, speed_in, speed_out, characters = attributes
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = b"\x00", b"\x00"
    characters[termios.VSUSP] = DISABLED_CHARACTER
    local &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
    flags_in &= ~termios.IXON
    return [flags_in, flags_out, control, local, speed_in, speed_out, characters]
