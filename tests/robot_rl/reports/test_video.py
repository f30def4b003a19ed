import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.episode import Outcome
from robot_rl.reports.video import (
    OUTCOME_COLOURS,
    VideoError,
    caption,
    captioned,
    encode_jpeg,
    enlarge,
    play_together,
    read_frame,
    tile,
    write_video,
)


def gradient(height: int, width: int, shift: int = 0) -> np.ndarray:
    """A smooth picture that a codec reproduces closely."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, np.full_like(x, shift)], axis=-1).astype(np.uint8)


def test_a_written_video_is_what_browsers_play(tmp_path):
    path = write_video(tmp_path / "new" / "clip.mp4", (gradient(64, 96, shift) for shift in range(30)), fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (96, 64, 30)
        assert float(stream.average_rate) == pytest.approx(10.0)
        assert container.duration / 1e6 == pytest.approx(3.0, abs=0.11)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first, so that playing starts at once"


def test_a_video_keeps_its_pictures(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [gradient(64, 96, 8 * index) for index in range(20)], fps=20)
    middle = read_frame(path, share=0.5)
    assert np.abs(middle.astype(int) - gradient(64, 96, 80)).mean() < 4


@settings(max_examples=8, deadline=None)
@given(height=st.integers(16, 41), width=st.integers(16, 41))
def test_odd_sizes_are_made_even(tmp_path_factory, height, width):
    path = write_video(tmp_path_factory.mktemp("odd") / "clip.mp4", [gradient(height, width)] * 3, fps=5)
    assert read_frame(path).shape == (height + height % 2, width + width % 2, 3)


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        ([], 10, "no frames"),
        ([gradient(32, 32), gradient(32, 34)], 10, r"\(32, 34, 3\), wanted uint8"),
        ([gradient(32, 32).astype(np.float32)], 10, "float32"),
        ([gradient(32, 32)[..., 0]], 10, r"\(32, 32\), wanted"),
        ([gradient(32, 32)], 0, "fps is 0"),
    ],
)
def test_a_bad_video_is_refused_and_leaves_nothing_behind(tmp_path, frames, fps, message):
    with pytest.raises(VideoError, match=message):
        write_video(tmp_path / "clip.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_video_leaves_the_last_one_alone(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [gradient(32, 32)], fps=5)
    before = path.read_bytes()
    with pytest.raises(VideoError):
        write_video(path, [gradient(32, 32), gradient(16, 16)], fps=5)
    assert path.read_bytes() == before


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(VideoError, match=r"must end in \.mp4"):
        write_video(tmp_path / "clip.gif", [gradient(32, 32)], fps=5)


def test_reading_what_is_no_video_says_so(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        read_frame(tmp_path / "clip.mp4")
    with pytest.raises(VideoError, match=r"absent\.mp4"):
        read_frame(tmp_path / "absent.mp4")


def test_a_caption_leaves_the_picture_untouched_and_shows_the_outcome_in_the_border():
    picture = gradient(50, 80)
    framed = caption(picture, "episode 3, and far more words than a narrow picture can show", Outcome.FAILURE)
    assert framed.shape == (50 + 22 + 6, 80 + 6, 3)
    np.testing.assert_array_equal(framed[25:75, 3:83], picture)
    assert tuple(framed[0, 0]) == OUTCOME_COLOURS[Outcome.FAILURE]
    assert tuple(framed[-1, -1]) == OUTCOME_COLOURS[Outcome.FAILURE]


def test_tiles_lie_row_by_row():
    frames = [np.full((10, 20, 3), value, dtype=np.uint8) for value in (50, 100, 150)]
    sheet = tile(frames, columns=2)
    assert sheet.shape == (2 * 10 + 3 * 6, 2 * 20 + 3 * 6, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((10, 10), (10, 40), (28, 10))] == [50, 100, 150]
    with pytest.raises(VideoError, match="cannot tile 0 frames"):
        tile([], columns=2)


def test_enlarging_repeats_pixels_by_a_whole_factor():
    picture = gradient(84, 100)
    large = enlarge(picture, min_side=240)
    assert large.shape == (252, 300, 3)
    np.testing.assert_array_equal(large[1::3, 1::3], picture)
    np.testing.assert_array_equal(enlarge(picture, min_side=50), picture)


def test_an_episode_does_not_give_its_outcome_away_before_its_last_frame():
    frames = captioned([gradient(20, 40)] * 4, "seed 7", Outcome.ABORTED)
    corners = [tuple(frame[0, 0]) for frame in frames]
    assert corners[-1] == OUTCOME_COLOURS[Outcome.ABORTED]
    assert not {*corners[:-1]} & {*OUTCOME_COLOURS.values()}


def test_episodes_of_different_lengths_play_together_and_hold_their_last_frame():
    short, long = [gradient(20, 40, 10), gradient(20, 40, 99)], [gradient(20, 40, index) for index in range(5)]
    frames = list(play_together([short, long], columns=2, hold=3))
    assert len(frames) == 5 + 3
    assert [int(frame[10, 10, 2]) for frame in frames] == [10, 99, 99, 99, 99, 99, 99, 99]
    assert [int(frame[10, 60, 2]) for frame in frames] == [0, 1, 2, 3, 4, 4, 4, 4]
    with pytest.raises(VideoError, match="at least one frame"):
        list(play_together([[], long], columns=2))


def test_one_episode_in_two_columns_leaves_no_empty_place():
    assert next(play_together([[gradient(20, 40)]], columns=2)).shape == (20 + 12, 40 + 12, 3)


def test_a_poster_is_a_jpeg():
    assert encode_jpeg(gradient(32, 48)).startswith(b"\xff\xd8\xff")
