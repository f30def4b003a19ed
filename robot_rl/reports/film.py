"""Films of episodes, for people: a bystander's view, the robot's cameras, or positions alone.

Positions are for a machine that cannot draw the scene. They are drawn in two views side by side: from above (x to the
right, y up) and from the front (x to the right, z up).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Step
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Landmarked, Pictured, Robot
from robot_rl.core.specs import FloatArray, RobotSpec
from robot_rl.reports.video import Frame

FILM_FPS = 20.0
SIDE_PX = 240

PAGE = (250, 251, 252)
GRID = (226, 230, 235)
INK = (60, 66, 74)
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Okabe and Ito's; a track keeps its colour in both views."""
VIEWS = (("from above", 0, 1), ("from the front", 0, 2))
HEADER_PX = 24
MARGIN_PX = 10
GRID_STEP_M = 0.1
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.36


class FilmSink:
    """Films the episode that it is given at about `FILM_FPS` and keeps nothing else.

    A simulated robot can be `Pictured`, or at least tells where things are (`Landmarked`); any other is seen through
    its own cameras.

    Args:
        robot: The one that runs the episode.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._every = max(1, round(robot.spec.control_hz / FILM_FPS))
        self._ticks = 0
        self._frames: list[Frame] = []
        self._landmarks: list[Mapping[str, FloatArray]] = []

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """Nothing is known of it yet that a film shows."""

    def append(self, step: Step) -> None:
        """Films every few ticks."""
        if self._ticks % self._every == 0:
            frame = self._seen(step)
            if frame is not None:
                self._frames.append(frame)
            elif isinstance(self._robot, Landmarked):
                self._landmarks.append(self._robot.landmarks())
        self._ticks += 1

    def end(self, result: EpisodeResult) -> None:
        """The film is `frames`."""

    def discard(self) -> None:
        """An episode that is done again is filmed by a sink of its own."""

    def frames(self) -> list[Frame]:
        """The film; empty if this robot shows nothing."""
        if self._frames or not self._landmarks or not isinstance(self._robot, Landmarked):
            return self._frames
        tracks = {name: np.stack([each[name] for each in self._landmarks]) for name in self._landmarks[0]}
        return track_frames(tracks, *self._robot.landmarks_box)

    def _seen(self, step: Step) -> Frame | None:
        if isinstance(self._robot, Pictured):
            frame = self._robot.picture()
            return None if frame is None else _scaled(frame)
        cameras = [_scaled(step.observation.values[name]) for name in self._robot.spec.images]
        return np.concatenate(cameras, axis=1) if cameras else None


def _scaled(frame: Frame) -> Frame:
    """The frame at `SIDE_PX` height."""
    height, width = frame.shape[:2]
    size = round(width * SIDE_PX / height), SIDE_PX
    interpolation = cv2.INTER_AREA if height > SIDE_PX else cv2.INTER_NEAREST
    return cast(Frame, cv2.resize(frame, size, interpolation=interpolation))


def track_frames(
    tracks: Mapping[str, FloatArray], low: npt.ArrayLike, high: npt.ArrayLike, side_px: int = 192
) -> list[Frame]:
    """One picture per tick, each with the way so far and where everything is now.

    Args:
        tracks: Name to positions, for example hand, object and goal; at most four [m]. Shape (T, 3), the same T.
        low: Smallest position shown [m]. Shape (3,).
        high: Largest position shown; what lies outside is drawn at the edge [m]. Shape (3,).
        side_px: Width and height of one view.

    Returns:
        T frames of shape (side_px + 24, 2 * side_px, 3).

    Raises:
        RobotRLError: No track, too many, or tracks of different shapes.
    """
    shapes = {np.shape(track) for track in tracks.values()}
    if not 1 <= len(tracks) <= len(COLOURS) or len(shapes) != 1 or next(iter(shapes))[1:] != (3,):
        raise RobotRLError(f"cannot draw {len(tracks)} tracks of shapes {sorted(shapes)}: wanted 1 to 4 of one (T, 3)")
    lowest, highest = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    pixels = [
        {name: _pixels(track, first, second, lowest, highest, side_px) for name, track in tracks.items()}
        for _, first, second in VIEWS
    ]
    background = _background(list(tracks), lowest, highest, side_px)
    frames = []
    for tick in range(next(iter(shapes))[0]):
        frame = background.copy()
        for place, view in enumerate(pixels):
            panel = frame[HEADER_PX:, place * side_px : (place + 1) * side_px]
            for colour, track in zip(COLOURS, view.values(), strict=False):
                _draw_track(panel, track[: tick + 1], colour)
        frames.append(frame)
    return frames


def _pixels(
    track: FloatArray, first: int, second: int, low: FloatArray, high: FloatArray, side_px: int
) -> npt.NDArray[np.int32]:
    """Column and row of every position in a view, at one scale for both axes. Shape (T, 2)."""
    axes = [first, second]
    inside = np.clip(np.asarray(track, dtype=np.float64)[:, axes], low[axes], high[axes])
    room = side_px - 2 * MARGIN_PX
    scale = room / (high - low).max()
    offset = (side_px - scale * (high - low)[axes]) / 2
    steps = offset + scale * (inside - low[axes])
    return np.round(np.stack([steps[:, 0], side_px - 1 - steps[:, 1]], axis=1)).astype(np.int32)


def _background(names: list[str], low: FloatArray, high: FloatArray, side_px: int) -> Frame:
    """Grid of 0.1 m, names of the views and a legend."""
    frame: Frame = np.full((side_px + HEADER_PX, 2 * side_px, 3), PAGE, dtype=np.uint8)
    for place, (title, first, second) in enumerate(VIEWS):
        panel = frame[HEADER_PX:, place * side_px : (place + 1) * side_px]
        for axis, column in ((first, 0), (second, 1)):
            for metres in np.arange(np.ceil(low[axis] / GRID_STEP_M), high[axis] / GRID_STEP_M + 1e-9) * GRID_STEP_M:
                point = np.where(np.arange(3) == axis, metres, low)[None]
                at = int(_pixels(point, first, second, low, high, side_px)[0, column])
                ends = ((at, 0), (at, side_px)) if column == 0 else ((0, at), (side_px, at))
                cv2.line(panel, *ends, GRID, 1)
        cv2.putText(panel, title, (6, side_px - 6), _FONT, _FONT_SCALE, INK, 1, cv2.LINE_AA)
    x = MARGIN_PX
    for name, colour in zip(names, COLOURS, strict=False):
        cv2.circle(frame, (x, HEADER_PX // 2), 4, colour, -1, cv2.LINE_AA)
        cv2.putText(frame, name, (x + 9, HEADER_PX // 2 + 4), _FONT, _FONT_SCALE, INK, 1, cv2.LINE_AA)
        x += 26 + int(cv2.getTextSize(name, _FONT, _FONT_SCALE, 1)[0][0])
    cv2.line(frame, (side_px, HEADER_PX), (side_px, side_px + HEADER_PX), INK, 1)
    return frame


def _draw_track(panel: Frame, way: npt.NDArray[np.int32], colour: tuple[int, int, int]) -> None:
    pale = tuple(int(0.45 * channel + 0.55 * paper) for channel, paper in zip(colour, PAGE, strict=True))
    cv2.polylines(panel, [way.reshape(-1, 1, 2)], False, pale, 1, cv2.LINE_AA)
    cv2.circle(panel, tuple(int(value) for value in way[-1]), 5, colour, -1, cv2.LINE_AA)
