"""Films of episodes, for people: from the robot's cameras, a bystander's view, or positions alone."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np

from robot_rl.track_film import track_frames
from robot_rl.types import EpisodeHeader, EpisodeResult, FloatArray, Robot, RobotSpec, Step
from robot_rl.video import Frame

FILM_FPS = 20.0
SIDE_PX = 240


class FilmSink:
    """Films the episode that it is given at about `FILM_FPS` and keeps nothing else.

    A simulated robot can be pictured (`picture`) or at least tells where things are (`landmarks`, with a box around
    them); any other is seen through its own cameras.

    Args:
        robot: The one that runs the episode.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot: Any = robot
        self._every = max(1, round(robot.spec.control_hz / FILM_FPS))
        self._ticks = 0
        self._frames: list[Frame] = []
        self._landmarks: list[dict[str, FloatArray]] = []

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """See `EpisodeSink`."""

    def append(self, step: Step) -> None:
        """Films every few ticks."""
        if self._ticks % self._every == 0:
            frame = self._seen(step)
            if frame is not None:
                self._frames.append(frame)
            elif hasattr(self._robot, "landmarks"):
                self._landmarks.append(self._robot.landmarks())
        self._ticks += 1

    def end(self, result: EpisodeResult) -> None:
        """See `EpisodeSink`."""

    def discard(self) -> None:
        """See `EpisodeSink`."""

    def frames(self) -> list[Frame]:
        """The film; empty if this robot shows nothing."""
        if self._frames or not self._landmarks:
            return self._frames
        tracks = {name: np.stack([each[name] for each in self._landmarks]) for name in self._landmarks[0]}
        return track_frames(tracks, *self._robot.landmarks_box)

    def _seen(self, step: Step) -> Frame | None:
        picture = getattr(self._robot, "picture", None)
        if picture is not None:
            frame: Frame | None = picture()
            return None if frame is None else _scaled(frame)
        cameras = [_scaled(step.observation.values[name]) for name in self._robot.spec.images]
        return np.concatenate(cameras, axis=1) if cameras else None


def _scaled(frame: Frame) -> Frame:
    """The frame at `SIDE_PX` height."""
    height, width = frame.shape[:2]
    size = round(width * SIDE_PX / height), SIDE_PX
    interpolation = cv2.INTER_AREA if height > SIDE_PX else cv2.INTER_NEAREST
    return cast(Frame, cv2.resize(frame, size, interpolation=interpolation))
