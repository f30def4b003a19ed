import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.archive.schema import decode_episode
from data.recorder.log import (
    MAGIC,
    LogError,
    LoggedFrames,
    LogHead,
    LogReader,
    LogWithoutHead,
    LogWriter,
)
from tests.data.recordings import LOSSLESS, SPEC, difference, episode, header, result, write_log

HEAD = LogHead("u1", SPEC, header(1), LOSSLESS)


def read_log(path):
    with LogReader(path) as log:
        ticks = len(log)
        outcome = log.result or result(ticks)
        return decode_episode(log.episode(outcome)), log


@pytest.mark.parametrize("ticks", [0, 1, 60])
def test_a_finished_log_reads_back_as_the_episode_that_was_recorded(tmp_path, ticks):
    write_log(tmp_path / "a.log", seed=4, ticks=ticks)
    read, log = read_log(tmp_path / "a.log")
    assert difference(read, episode(4, ticks)) is None
    assert log.result == result(ticks)
    assert log.problem is None


def test_a_log_without_an_end_has_no_result_but_every_tick(tmp_path):
    write_log(tmp_path / "a.log", seed=4, ticks=20, finished=False)
    read, log = read_log(tmp_path / "a.log")
    assert log.result is None
    assert log.problem is None
    assert difference(read, episode(4, 20)) is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_log_cut_anywhere_keeps_every_tick_written_before_the_cut(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "a.log"
    sizes = write_log(path, seed=2, ticks=12)
    cut = data.draw(st.integers(0, path.stat().st_size - 1))
    os.truncate(path, cut)
    whole = sum(size <= cut for size in sizes)
    try:
        read, log = read_log(path)
    except LogWithoutHead as error:
        torn, read = error.torn, None
    else:
        torn = log.problem is None or log.torn
    assert torn
    assert whole == 0 if read is None else difference(read, episode(2, whole)) is None


def test_a_log_cut_right_behind_its_magic_holds_nothing(tmp_path):
    """Found by the test above once in many runs."""
    write_log(tmp_path / "a.log", seed=2, ticks=1)
    os.truncate(tmp_path / "a.log", len(MAGIC))
    with pytest.raises(LogWithoutHead) as error:
        read_log(tmp_path / "a.log")
    assert error.value.torn


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_ends_the_log_before_it_and_never_changes_a_tick(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "a.log"
    sizes = write_log(path, seed=2, ticks=12)
    position = data.draw(st.integers(0, path.stat().st_size - 1))
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    whole = sum(size <= position for size in sizes)
    try:
        read, log = read_log(path)
    except LogWithoutHead:
        assert whole == 0
        return
    assert difference(read, episode(2, whole)) is None
    assert log.result is None
    assert "byte" in log.problem


def test_zeros_at_the_end_are_a_torn_log_and_other_bytes_a_damaged_one(tmp_path):
    path = tmp_path / "a.log"
    write_log(path, seed=1, ticks=5, finished=False)
    good = path.read_bytes()
    path.write_bytes(good + bytes(5000))
    read, log = read_log(path)
    assert (len(read), log.torn) == (5, True)
    path.write_bytes(good + b"\x01" + bytes(5000))
    read, log = read_log(path)
    assert (len(read), log.torn) == (5, False)


@pytest.mark.parametrize("content", [b"", MAGIC, MAGIC + b"\x50", b"PK\x03\x04 something else"])
def test_a_file_without_a_head_is_said_to_hold_no_episode(tmp_path, content):
    path = tmp_path / "a.log"
    path.write_bytes(content)
    with pytest.raises(LogWithoutHead, match="no episode to recover"):
        LogReader(path)


def test_a_log_is_never_written_over(tmp_path):
    LogWriter(tmp_path / "a.log", HEAD).close()
    with pytest.raises(LogError, match="File exists"):
        LogWriter(tmp_path / "a.log", HEAD)


@given(lengths=st.lists(st.integers(0, 5), max_size=6), data=st.data())
def test_any_range_of_logged_frames_is_the_same_range_of_the_frames_end_to_end(lengths, data):
    frames = [bytes([65 + i]) * length for i, length in enumerate(lengths)]
    content, spans = b"", []
    for frame in frames:
        content += b"gap"
        spans.append((len(content), len(content) + len(frame)))
        content += frame
    run = LoggedFrames(content, spans)
    flat = b"".join(frames)
    assert len(run) == len(flat)
    start = data.draw(st.integers(0, len(flat)))
    stop = data.draw(st.integers(start, len(flat)))
    assert run[start:stop].tobytes() == flat[start:stop]
    assert run[start:stop].dtype == np.uint8
