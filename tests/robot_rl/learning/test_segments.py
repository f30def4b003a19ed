import numpy as np
import pytest

from robot_rl.core.episode import Source
from robot_rl.learning.segments import regular_starts, segment


def drivers(text):
    return np.array([Source.OPERATOR if who == "o" else Source.POLICY for who in text], np.uint8)


def test_windows_overlap_and_hold_the_last_action_only_where_nothing_follows():
    source = drivers("ppoo")
    found = segment(source, np.arange(4), True, rows=3)
    assert (found.end - found.start).tolist() == [3, 3, 2, 1]
    assert found.terminated.tolist() == [False, True, True, True]
    found = segment(source, np.arange(4), False, rows=3)
    assert found.start.tolist() == [0, 1, 2]
    assert found.end.tolist() == [3, 3, 3]
    assert not found.terminated.any()
    assert not found.taken_over.any()


def test_a_drivers_segments_begin_and_end_with_their_driving():
    found = segment(drivers("poppo"), np.arange(5), True, driver=Source.POLICY, rows=2)
    assert found.kept.tolist() == [0, 2, 3]
    assert found.end.tolist() == [1, 4, 4]
    assert found.taken_over.tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("source", "rows", "starts"), [("ooooo", 2, [0, 2, 4]), ("pooopoo", 2, [1, 3, 5]), ("ppp", 1, []), ("", 3, [])]
)
def test_regular_starts_are_counted_anew_from_every_takeover(source, rows, starts):
    assert regular_starts(drivers(source), Source.OPERATOR, rows).tolist() == starts
