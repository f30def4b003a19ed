import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_rl.core.errors import RobotRLError
from robot_rl.reports.film import COLOURS, HEADER_PX, track_frames

LOW, HIGH = (-0.5, 0.0, 0.0), (0.5, 1.0, 0.5)


def line(end: tuple[float, float, float], ticks: int = 5) -> np.ndarray:
    return np.linspace((0.0, 0.1, 0.1), end, ticks).astype(np.float32)


def centre_of(frame: np.ndarray, colour: tuple[int, int, int], view: int, side: int = 200) -> tuple[float, float]:
    """Mean column and row of a colour's pixels within a view."""
    panel = frame[HEADER_PX:, view * side : (view + 1) * side]
    rows, columns = np.nonzero((panel == colour).all(axis=-1))
    return float(columns.mean()), float(rows.mean())


def test_there_is_one_picture_per_tick_and_the_dot_moves_as_the_hand_does():
    frames = track_frames({"hand": line((0.4, 0.9, 0.4))}, LOW, HIGH, side_px=200)
    assert [frame.shape for frame in frames] == [(200 + HEADER_PX, 400, 3)] * 5
    start, end = centre_of(frames[0], COLOURS[0], 0), centre_of(frames[-1], COLOURS[0], 0)
    assert end[0] - start[0] == pytest.approx(0.4 * 180, abs=2), "x goes to the right"
    assert start[1] - end[1] == pytest.approx(0.8 * 180, abs=2), "y goes up"
    front = centre_of(frames[0], COLOURS[0], 1)[1] - centre_of(frames[-1], COLOURS[0], 1)[1]
    assert front == pytest.approx(0.3 * 180, abs=2), "z goes up in the view from the front"


def test_the_way_so_far_stays_and_the_way_to_come_is_not_given_away():
    frames = track_frames({"hand": line((0.4, 0.9, 0.4), ticks=30)}, LOW, HIGH)
    changed = [int((frame != frames[0]).any(axis=-1).sum()) for frame in frames]
    assert changed == sorted(changed)
    assert changed[0] < changed[10] < changed[29]


@settings(max_examples=20, deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_positions_far_outside_are_drawn_at_the_edge(positions):
    frames = track_frames({"hand": positions, "goal": np.zeros((4, 3))}, LOW, HIGH)
    assert all((frame == COLOURS[0]).all(axis=-1).any() for frame in frames)


@pytest.mark.parametrize(
    "tracks",
    [
        {},
        {"hand": np.zeros((3, 2))},
        {"hand": np.zeros((3, 3)), "goal": np.zeros((4, 3))},
        {str(index): np.zeros((3, 3)) for index in range(5)},
    ],
)
def test_tracks_that_cannot_be_drawn_are_refused(tracks):
    with pytest.raises(RobotRLError, match="cannot draw"):
        track_frames(tracks, LOW, HIGH)
