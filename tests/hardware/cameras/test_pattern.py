from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.cameras.frame_source import ControlRefused, NoFrame, decode_jpeg, encode_jpeg
from hardware.cameras.pattern import NoStamp, PatternCamera, decode_stamp, write_stamp
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

START_NS = 1_790_000_000_123_456_789
SIZES = [(640, 480), (1280, 720), (320, 240), (96, 96)]


@functools.cache
def pattern(width: int, height: int) -> PatternCamera:
    return PatternCamera(clock=SimulatedClock(), width=width, height=height)


def picture(width: int, height: int, stamp_ns: int = START_NS) -> np.ndarray:
    return pattern(width, height).draw(stamp_ns)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sampled_from(SIZES))
def test_any_stamp_is_read_back_from_any_size(stamp_ns, size):
    assert decode_stamp(picture(*size, stamp_ns)) == stamp_ns


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quality", [95, 80, 50])
def test_the_stamp_survives_jpeg(size, quality):
    assert decode_stamp(decode_jpeg(encode_jpeg(picture(*size), quality))) == START_NS


@pytest.mark.parametrize("method", [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST])
@pytest.mark.parametrize("size", SIZES)
def test_the_stamp_survives_half_the_size_after_jpeg(size, method):
    seen = decode_jpeg(encode_jpeg(picture(*size), 80))
    half = cv2.resize(seen, (size[0] // 2, size[1] // 2), interpolation=method)
    assert decode_stamp(np.asarray(half, np.uint8)) == START_NS


def test_the_stamp_survives_odd_sizes_noise_and_a_washed_out_picture():
    seen = cv2.resize(picture(640, 480), (233, 117), interpolation=cv2.INTER_AREA).astype(np.float64)
    noisy = 60 + 0.5 * seen + np.random.default_rng(0).normal(0, 12, seen.shape)
    assert decode_stamp(np.clip(noisy, 0, 255).astype(np.uint8)) == START_NS


def test_a_picture_without_a_stamp_is_refused():
    with pytest.raises(NoStamp, match="shows no stamp"):
        decode_stamp(np.full((480, 640, 3), 128, np.uint8))


def test_a_damaged_stamp_is_refused_rather_than_read_wrong():
    image = picture(640, 480)
    image[:40, 100:300] = 255
    with pytest.raises(NoStamp, match="checksum"):
        decode_stamp(image)


def test_a_picture_too_small_for_a_stamp_is_refused():
    with pytest.raises(RobotRLError, match="no room"):
        write_stamp(np.zeros((20, 20, 3), np.uint8), 1)


def test_frames_are_stamped_on_the_grid_of_the_clock_and_show_their_stamp():
    clock = SimulatedClock(START_NS)
    with PatternCamera(clock=clock, width=320, height=240, fps=50.0) as camera:
        frames = [camera.read(1.0) for _ in range(5)]
    assert [frame.stamp_ns - START_NS for frame in frames] == [20_000_000 * index for index in range(5)]
    assert [decode_stamp(frame.rgb()) for frame in frames] == [frame.stamp_ns for frame in frames]


def test_the_pattern_moves():
    clock = SimulatedClock(START_NS)
    with PatternCamera(clock=clock) as camera:
        first, second = (camera.read(1.0).rgb()[200:] for _ in range(2))
    assert (first != second).mean() > 0.5


def test_who_reads_late_gets_the_newest_frame_and_the_others_are_counted():
    clock = SimulatedClock(START_NS)
    with PatternCamera(clock=clock, fps=10.0) as camera:
        camera.read(1.0)
        clock.sleep_until_ns(START_NS + 550_000_000)
        assert camera.read(1.0).stamp_ns == START_NS + 500_000_000
        assert camera.describe()["skipped"] == "4"


def test_a_frame_further_away_than_the_timeout_is_not_waited_for():
    clock = SimulatedClock(START_NS)
    with PatternCamera(clock=clock, fps=1.0) as camera:
        camera.read(0.1)
        with pytest.raises(NoFrame):
            camera.read(0.1)
        assert clock.now_ns() == START_NS + NS_PER_S // 10


class SetClock(SimulatedClock):
    """A clock that can be set, as a computer's is by its time server."""

    def set_ns(self, now_ns: int) -> None:
        self._now_ns = now_ns


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_clock_that_is_set_costs_a_frame_or_two_and_not_the_camera(jump_s):
    clock = SetClock(START_NS)
    with PatternCamera(clock=clock, fps=30.0) as camera:
        camera.read(1.0)
        clock.set_ns(START_NS + jump_s * NS_PER_S)
        stamps = [camera.read(0.2).stamp_ns for _ in range(3)]
    assert all(0 <= stamp - START_NS - jump_s * NS_PER_S < NS_PER_S // 5 for stamp in stamps)
    assert camera.describe()["skipped"] == "0"


def test_a_pattern_has_no_settings():
    with pytest.raises(ControlRefused, match="no settings"):
        PatternCamera(clock=SimulatedClock()).set_control("gain", 1)
