"""Each test but the decoder's runs a real process on a real pseudo-terminal and looks at the terminal afterwards."""

import fcntl
import itertools
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.terminal.raw_terminal import ESCAPE_TIMEOUT_NS, SHOW_CURSOR, KeyDecoder

REPOSITORY = Path(__file__).parents[4]
TIMEOUT_S = 30.0

SESSION = """
import os, signal, sys, time
import numpy as np
from hardware.operators.terminal.keyboard import KeyboardOperator
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorEvent

spec = RobotSpec("arm", {"state": ArraySpec((1,), "float32", "m"), "image": ArraySpec((8, 8, 3), "uint8", "rgb")},
                 ArraySpec((1,), "float32", "m"), (ActionKind.RATE,), 100.0)
keys = {"arm": {"moving": [{"dimension": 0, "minus": "a", "plus": "d", "speed": 1.0}]}}
image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)

class Robot:
    def __enter__(self): return self
    def __exit__(self, *_): os.write(2, b"ROBOT STOPPED")

how = sys.argv[1]
if how == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with Robot(), KeyboardOperator(spec, keys) as operator:
    operator.reset(0)
    stamp = 0
    while True:
        stamp += 1
        command = operator.poll(Observation(stamp, {"state": np.zeros(1), "image": image}, {"state": 0, "image": 0}))
        if stamp == 20:
            os.write(2, b"READY")
        if command.event is OperatorEvent.STOP:
            os.write(2, b"STOP")
            break
        if command.action is not None and how == "raise":
            raise RuntimeError("a mistake")
        if command.action is not None and how == "exit":
            sys.exit(3)
        if command.action is not None and how == "thread":
            # Leaves without unwinding anything; only what is registered at exit runs.
            import atexit
            atexit._run_exitfuncs()
            os._exit(4)
        time.sleep(0.005)
"""


def become_a_terminals_program():
    """Takes the terminal, and obeys signals even where the tests themselves run with them ignored (nohup, a CI)."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class TerminalWindow:
    """A terminal window with a program in it."""

    def __init__(self, how):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SESSION, how],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=self.slave,
            stdout=self.slave,
            stderr=write,
            start_new_session=True,
            preexec_fn=become_a_terminals_program,
        )
        os.close(write)
        self.messages, self.message_fd = b"", read

    def until(self, message):
        """Drains the terminal until the program says something on its standard error, or ends."""
        deadline = time.monotonic() + TIMEOUT_S
        open_fds = {self.master, self.message_fd}
        while message not in self.messages and self.message_fd in open_fds:
            assert time.monotonic() < deadline, self.messages
            for fd in select.select(list(open_fds), [], [], 0.1)[0]:
                try:
                    data = os.read(fd, 65536)
                except OSError:
                    data = b""
                if not data:
                    open_fds.discard(fd)
                elif fd == self.master:
                    self.output += data
                else:
                    self.messages += data
        return self

    def type(self, keys):
        os.write(self.master, keys)
        return self

    def ended(self):
        """Exit status, once the program has ended and its terminal has been looked at."""
        self.until(b"never said")
        status = self.process.wait(TIMEOUT_S)
        while select.select([self.master], [], [], 0.1)[0]:
            self.output += os.read(self.master, 65536)
        return status

    def is_restored(self):
        return termios.tcgetattr(self.slave) == self.before and self.output.rstrip().endswith(SHOW_CURSOR.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave, self.message_fd):
            try:
                os.close(fd)
            except OSError:
                continue


@pytest.fixture
def window():
    opened = []

    def opening(how="run"):
        opened.append(TerminalWindow(how))
        return opened[-1].until(b"READY")

    yield opening
    for each in opened:
        each.close()


def test_single_keys_arrive_without_enter_and_without_echo(window):
    session = window()
    local = termios.tcgetattr(session.slave)[3]
    assert not local & (termios.ICANON | termios.ECHO)
    assert local & termios.ISIG
    session.type(b"q")
    assert session.ended() == 0
    assert b"STOP" in session.messages


@pytest.mark.parametrize(
    ("how", "keys", "status"),
    [("run", b"q", 0), ("run", b"\x1b", 0), ("run", b"\x03", -signal.SIGINT), ("raise", b"d", 1), ("exit", b"d", 3)],
)
def test_the_terminal_is_given_back_however_the_session_ends(window, how, keys, status):
    session = window(how).type(keys)
    assert session.ended() in (status, 130 if keys == b"\x03" else status)
    assert session.is_restored()
    assert b"ROBOT STOPPED" in session.messages


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP), (signal.SIGINT, -signal.SIGINT)],
)
def test_a_signal_gives_the_terminal_back_and_stops_the_robot(window, number, status):
    session = window()
    session.process.send_signal(number)
    assert session.ended() == status
    assert session.is_restored()
    assert b"ROBOT STOPPED" in session.messages


def test_a_program_that_handles_a_signal_itself_still_does(window):
    session = window("handled")
    session.process.send_signal(signal.SIGTERM)
    assert session.ended() == 7
    assert session.is_restored()


def test_a_process_that_unwinds_nothing_gives_the_terminal_back_at_exit(window):
    session = window("thread").type(b"d")
    assert session.ended() == 4
    assert session.is_restored()


def test_closing_the_window_stops_the_robot(window):
    session = window()
    os.close(session.slave)
    os.close(session.master)
    session.process.wait(TIMEOUT_S)
    messages = b""
    while data := os.read(session.message_fd, 65536):
        messages += data
    assert b"ROBOT STOPPED" in messages


def test_ctrl_z_does_not_leave_the_robot_to_itself(window):
    session = window().type(b"\x1a")
    session.type(b"q")
    assert session.ended() == 0


def test_without_a_terminal_there_is_a_clear_error():
    process = subprocess.run(
        [sys.executable, "-c", SESSION, "run"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert process.returncode == 1
    assert (
        "NoTerminal: no terminal to read keys from: run this in a terminal (ssh -t, docker run -it)" in process.stderr
    )


# The decoder

KEYS = {
    b"a": "a",
    b"Y": "Y",
    b" ": "space",
    b"\t": "tab",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOC": "right",
    b"\x1b[1;5C": "right",
    b"\x1b[15~": None,
    b"\x1b[<0;3;4M": None,
    b"\x00": None,
    "é".encode(): "é",
    "€".encode(): "€",
}


@given(
    keys=st.lists(st.sampled_from(sorted(KEYS)), max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=10),
)
def test_keys_are_the_same_however_the_bytes_are_cut(keys, cuts):
    data, decoder, decoded = b"".join(keys), KeyDecoder(), []
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(edges):
        decoded += decoder.feed(data[begin:end], now_ns=begin)
    assert decoded == [KEYS[key] for key in keys if KEYS[key] is not None]


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_bytes_at_all_become_keys_or_nothing(data, cuts):
    decoder = KeyDecoder()
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    keys = []
    for begin, end in itertools.pairwise(edges):
        keys += decoder.feed(data[begin:end], now_ns=0)
    keys += decoder.feed(b"", now_ns=2 * ESCAPE_TIMEOUT_NS)
    assert all(isinstance(key, str) and key for key in keys)
    assert decoder.feed(b"", now_ns=4 * ESCAPE_TIMEOUT_NS) == []


@pytest.mark.parametrize(
    ("data", "keys"),
    [(b"\x1b", ["esc"]), (b"\x1b\x1b", ["esc", "esc"]), (b"\x1bq", ["esc", "q"]), (b"\x1b[", ["esc", "["])],
)
def test_an_escape_that_begins_nothing_is_the_key(data, keys):
    decoder = KeyDecoder()
    early = decoder.feed(data, now_ns=0)
    assert early + decoder.feed(b"", now_ns=ESCAPE_TIMEOUT_NS) == keys
