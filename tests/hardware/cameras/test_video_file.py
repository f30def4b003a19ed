from __future__ import annotations

import cv2
import numpy as np
import pytest

from hardware.cameras.frame_source import CameraLost, ControlRefused, NoFrame
from hardware.cameras.video_file import VideoFileCamera
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

FPS, FRAMES = 25.0, 10
START_NS = 1_000 * NS_PER_S


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("video") / "grey.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), FPS, (64, 48))
    for index in range(FRAMES):
        writer.write(np.full((48, 64, 3), (20 * index, 0, 200), np.uint8))
    writer.release()
    return path


def shown(frame) -> int:
    """Which frame of the file a picture is: its blue says so."""
    return round(float(frame.rgb()[..., 2].mean()) / 20)


def test_a_video_plays_at_its_own_rate_and_in_order(video):
    with VideoFileCamera(clock=SimulatedClock(START_NS), path=video) as camera:
        frames = [camera.read(1.0) for _ in range(FRAMES)]
        assert camera.fps == FPS
    assert [frame.stamp_ns - START_NS for frame in frames] == [40_000_000 * index for index in range(FRAMES)]
    assert [shown(frame) for frame in frames] == list(range(FRAMES))


def test_its_pictures_are_rgb(video):
    with VideoFileCamera(clock=SimulatedClock(START_NS), path=video) as camera:
        red = camera.read(1.0).rgb()[..., 0]
    assert red.mean() > 180


def test_another_rate_can_be_asked_for(video):
    with VideoFileCamera(clock=SimulatedClock(START_NS), path=video, fps=50.0) as camera:
        stamps = [camera.read(1.0).stamp_ns for _ in range(3)]
    assert np.diff(stamps).tolist() == [20_000_000] * 2


def test_it_begins_again_at_its_end(video):
    with VideoFileCamera(clock=SimulatedClock(START_NS), path=video) as camera:
        assert [shown(camera.read(1.0)) for _ in range(FRAMES + 3)] == [*range(FRAMES), 0, 1, 2]


def test_without_looping_its_end_is_a_lost_camera(video):
    with VideoFileCamera(clock=SimulatedClock(START_NS), path=video, loop=False) as camera:
        for _ in range(FRAMES):
            camera.read(1.0)
        with pytest.raises(CameraLost, match="has ended after 10 frames"):
            camera.read(1.0)


def test_it_can_be_opened_again_and_then_begins_anew(video):
    camera = VideoFileCamera(clock=SimulatedClock(START_NS), path=video)
    for _ in range(2):
        with camera:
            assert [shown(camera.read(1.0)) for _ in range(3)] == [0, 1, 2]


def test_who_reads_late_misses_frames_as_with_a_camera(video):
    clock = SimulatedClock(START_NS)
    with VideoFileCamera(clock=clock, path=video) as camera:
        camera.read(1.0)
        clock.sleep_until_ns(START_NS + 210_000_000)
        late = camera.read(1.0)
    assert (shown(late), late.stamp_ns) == (5, START_NS + 200_000_000)


def test_a_frame_further_away_than_the_timeout_is_not_waited_for(video):
    with VideoFileCamera(clock=SimulatedClock(START_NS), path=video, fps=1.0) as camera:
        camera.read(0.1)
        with pytest.raises(NoFrame):
            camera.read(0.1)


def test_a_missing_file_and_one_that_is_no_video_are_named(tmp_path):
    with pytest.raises(CameraLost, match="no video file"), VideoFileCamera(clock=SimulatedClock(), path="/nowhere.mp4"):
        pass
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(CameraLost, match="no video that OpenCV can read"):
        VideoFileCamera(clock=SimulatedClock(), path=str(text)).__enter__()


def test_a_rate_that_is_none_is_refused(video):
    with pytest.raises(RobotRLError, match="fps is -1"):
        VideoFileCamera(clock=SimulatedClock(), path=video, fps=-1.0).__enter__()


def test_a_video_has_no_settings(video):
    with pytest.raises(ControlRefused, match="no settings"):
        VideoFileCamera(clock=SimulatedClock(), path=video).set_control("gain", 1)
