import re
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.terminal.view import HALF_BLOCK, TerminalView, fitted, half_blocks

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Paper:
    """A screen that keeps what is written on it."""

    def __init__(self, columns=80, rows=40):
        self.size = (columns, rows)
        self.written = ""
        self.drawn = threading.Event()

    def write(self, text):
        self.written += text
        self.drawn.set()

    def wait(self):
        assert self.drawn.wait(10)
        self.drawn.clear()


@given(height=st.integers(1, 700), width=st.integers(1, 700), columns=st.integers(1, 200), rows=st.integers(1, 80))
def test_a_picture_fits_and_keeps_its_shape(height, width, columns, rows):
    wide, high = fitted(height, width, columns, rows)
    assert 1 <= wide <= columns
    assert 1 <= high <= rows
    if wide > 20 and high > 20:
        assert wide / (2 * high) == pytest.approx(width / height, rel=0.1)


@given(height=st.integers(1, 40), width=st.integers(1, 40), columns=st.integers(1, 30), rows=st.integers(1, 20))
def test_every_line_of_a_picture_is_as_wide_as_asked(height, width, columns, rows):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    lines = half_blocks(image, columns, rows)
    assert [COLOUR.sub("", line) for line in lines] == [HALF_BLOCK * columns] * rows


def test_upper_and_lower_pixels_are_the_colours_of_one_character():
    image = np.array([[[255, 0, 0]], [[0, 0, 255]]], dtype=np.uint8)
    assert half_blocks(image, 1, 1) == [f"\x1b[38;2;255;0;0;48;2;0;0;255m{HALF_BLOCK}\x1b[0m"]


def test_one_colour_is_said_once():
    assert half_blocks(np.zeros((40, 40, 3), dtype=np.uint8), 40, 1)[0].count("38;2") == 1


def test_text_is_cut_to_the_terminal_and_everything_is_undone_on_leaving():
    paper = Paper(columns=20)
    with TerminalView(paper) as view:
        view.show(None, ["x" * 50])
        paper.wait()
    assert "x" * 19 in paper.written
    assert "x" * 20 not in paper.written
    assert paper.written.endswith("\x1b[r\x1b[40;1H\x1b[J\x1b8\x1b[?25h")


def test_the_rest_of_the_program_keeps_some_rows():
    paper = Paper(rows=24)
    with TerminalView(paper) as view:
        view.show(np.zeros((100, 100, 3), dtype=np.uint8), ["status"])
        paper.wait()
    top = int(re.search(r"\x1b\[1;(\d+)r", paper.written).group(1))
    assert top >= 6


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (80, 8), (200, 3)])
def test_a_tiny_terminal_does_no_harm(size):
    paper = Paper(*size)
    with TerminalView(paper) as view:
        view.show(np.zeros((10, 10, 3), dtype=np.uint8), ["status", "more", "keys"])
        paper.wait()


def test_a_terminal_that_takes_nothing_does_not_delay_who_shows():
    class Stuck(Paper):
        def write(self, text):
            self.drawn.set()
            released.wait(10)

    released = threading.Event()
    paper = Stuck()
    with TerminalView(paper) as view:
        view.show(None, ["one"])
        paper.wait()
        begun = time.monotonic()
        for _ in range(1000):
            view.show(None, ["two"])
        assert time.monotonic() - begun < 5
        released.set()


def test_a_terminal_that_is_gone_ends_the_drawing_quietly():
    class Gone(Paper):
        def write(self, text):
            self.drawn.set()
            raise OSError("gone")

    paper = Gone()
    with TerminalView(paper) as view:
        view.show(None, ["one"])
        paper.wait()
        view.show(None, ["two"])
