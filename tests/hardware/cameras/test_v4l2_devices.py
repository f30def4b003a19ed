from __future__ import annotations

from pathlib import Path

import pytest

from hardware.cameras.v4l2_devices import explain_missing, v4l2_devices


@pytest.fixture
def computer(tmp_path) -> Path:
    """A computer with one camera, which has a second node for its metadata, and another camera plugged in later."""
    for name, index, title in (("video0", 0, "Wrist Cam"), ("video1", 1, "Wrist Cam"), ("video10", 0, "Scene Cam")):
        folder = tmp_path / "sys/class/video4linux" / name
        folder.mkdir(parents=True)
        (folder / "index").write_text(f"{index}\n")
        (folder / "name").write_text(f"{title}\n")
    links = tmp_path / "dev/v4l/by-id"
    links.mkdir(parents=True)
    (tmp_path / "dev/video0").touch()
    (links / "usb-Wrist-video-index0").symlink_to("../../video0")
    return tmp_path


def test_cameras_are_listed_with_the_path_that_lasts(computer):
    assert [str(each) for each in v4l2_devices(computer)] == [
        "/dev/video0 'Wrist Cam' = /dev/v4l/by-id/usb-Wrist-video-index0",
        "/dev/video10 'Scene Cam'",
    ]


def test_a_missing_device_is_answered_with_what_there_is(computer):
    words = explain_missing("/dev/video7", computer)
    assert "is it plugged in?" in words
    assert "/dev/video10 'Scene Cam'" in words


def test_a_device_that_is_there_but_does_not_open_may_be_in_use(computer):
    assert "another program" in explain_missing("/dev/video0", computer)


def test_a_computer_without_cameras_says_so(tmp_path):
    assert explain_missing("/dev/video0", tmp_path).endswith("Cameras here: none")
