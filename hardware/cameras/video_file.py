"""A video file as a camera: its pictures at its own rate, in real time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from hardware.cameras.frame_source import CameraLost, ControlRefused, Frame, NoFrame
from hardware.cameras.pacing import FramePacer
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock


class VideoFileCamera:
    """Plays a video file. Who reads too slowly misses frames, as with a camera.

    Args:
        clock: Stamps and paces the frames.
        path: Anything OpenCV's FFmpeg reads.
        loop: Begins again at the end; without it the end is `CameraLost`, as if the camera were unplugged.
        fps: Rate to play at; None is the file's own.
    """

    def __init__(self, *, clock: Clock, path: str, loop: bool = True, fps: float | None = None) -> None:
        self._path, self._loop, self._wanted_fps = Path(path), loop, fps
        self._clock = clock
        self._video: cv2.VideoCapture | None = None
        self._pacer: FramePacer | None = None
        self._next_index = 0
        self._rounds = 0
        self.fps = fps or 0.0

    def __enter__(self) -> Self:
        if not self._path.is_file():
            raise CameraLost(f"no video file {self._path}; check `path`")
        video = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not video.isOpened():
            raise CameraLost(f"{self._path} is no video that OpenCV can read; convert it to MP4 (H.264)")
        self.fps = self._wanted_fps or float(video.get(cv2.CAP_PROP_FPS))
        try:
            self._pacer = FramePacer(self._clock, self.fps)
        except RobotRLError as error:
            video.release()
            raise RobotRLError(f"{self._path}: {error}; give `fps`") from error
        self._video, self._next_index, self._rounds = video, 0, 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None

    def read(self, timeout_s: float) -> Frame:
        """The frame that is due next; those whose moment has passed are skipped."""
        if self._video is None or self._pacer is None:
            raise CameraLost(f"{self._path} is not open; enter the source first")
        due = self._pacer.next_frame(timeout_s)
        if due is None:
            raise NoFrame(f"the next frame of {self._path.name} is more than {timeout_s:.3f} s away")
        index, stamp_ns = due
        while self._next_index < index:
            self._advance(self._video)
        self._advance(self._video)
        done, picture = self._video.retrieve()
        if not done:
            raise CameraLost(f"{self._path} cannot be decoded at frame {index}; check the file")
        image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
        return Frame(stamp_ns, image.shape[1], image.shape[0], image=image)

    def _advance(self, video: cv2.VideoCapture) -> None:
        """Moves on by one frame, round the end if looping."""
        self._next_index += 1
        if video.grab():
            return
        if not self._loop:
            raise CameraLost(
                f"{self._path} has ended after {self._next_index - 1} frames; set `loop: true` to repeat it"
            )
        self._rounds += 1
        if not (video.set(cv2.CAP_PROP_POS_FRAMES, 0) and video.grab()):
            raise CameraLost(f"{self._path} cannot be played from its beginning again; convert it to MP4 (H.264)")

    def set_control(self, name: str, value: float) -> None:
        """Refuses: there is no sensor."""
        raise ControlRefused(f"{name} cannot be set to {value:g}: a video file has no settings")

    def describe(self) -> Mapping[str, str]:
        """Which file, its rate, whose stamps, frames skipped, and how often it was repeated."""
        return {
            "source": f"video file {self._path}",
            "format": f"{self.fps:g} Hz",
            "stamps": "the moment at which the frame is due",
            "skipped": str(self._pacer.skipped if self._pacer is not None else 0),
            "rounds": str(self._rounds),
        }
