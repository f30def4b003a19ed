"""H.264 videos that every browser plays, and the small drawings that make an evaluation video readable.

Frames are uint8 RGB of shape (height, width, 3) throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer

from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError

Frame = npt.NDArray[np.uint8]

CONSTANT_QUALITY = "20"
"""x264's rate factor: 18 cannot be told from the original, 23 is its default."""
BACKGROUND = (24, 27, 32)
INK = (236, 239, 244)
OUTCOME_COLOURS = {Outcome.SUCCESS: (0, 158, 115), Outcome.FAILURE: (213, 94, 0), Outcome.ABORTED: (120, 124, 130)}
"""Okabe and Ito's green and vermilion, told apart by every common kind of colour vision; words say it as well."""
CAPTION_HEIGHT_PX = 22
CAPTION_GAP_PX = 10
BORDER_PX = 3
GAP_PX = 6
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


class VideoError(RobotRLError):
    """A video cannot be written or read."""


def write_video(path: Path, frames: Iterable[Frame], fps: float) -> Path:
    """Writes an mp4 (H.264, yuv420p, index first), complete or not at all.

    Args:
        path: Ends in `.mp4`; its directory is made.
        frames: At least one; all of one shape. An odd last row or column is doubled, since yuv420p needs even sizes.
        fps: Frames per second.

    Returns:
        `path`.

    Raises:
        VideoError: No encoder, no frames, a frame of another shape or type, or a rate that is not positive.
    """
    if path.suffix != ".mp4":
        raise VideoError(f"a video's name must end in .mp4, got {path.name}")
    if not fps > 0:
        raise VideoError(f"fps is {fps}, wanted a positive number")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VideoError(f"no frames for {path.name}: at least one is needed")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    try:
        with av.open(str(partial), "w", options={"movflags": "+faststart"}) as container:
            _encode(container, first, iterator, fps)
        partial.replace(path)
    except av.FFmpegError as error:
        raise VideoError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _encode(container: OutputContainer, first: Frame, rest: Iterator[Frame], fps: float) -> None:
    """Encodes every frame into an open av container."""
    try:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    except (av.FFmpegError, ValueError) as error:
        remedy = "install PyAV's own wheel: pip install --force-reinstall av"
        raise VideoError(f"this build of PyAV has no H.264 encoder ({error}); {remedy}") from error
    even = _even(_checked(first, first.shape))
    stream.height, stream.width = even.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": CONSTANT_QUALITY, "preset": "veryfast"}
    container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
    for frame in rest:
        even = _even(_checked(frame, first.shape))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
    container.mux(stream.encode())


def _checked(frame: Frame, shape: tuple[int, ...]) -> Frame:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3 or frame.shape != shape:
        raise VideoError(
            f"a frame is {frame.dtype} {frame.shape}, wanted uint8 (height, width, 3) as the first {shape}"
        )
    return frame


def _even(frame: Frame) -> Frame:
    """The frame with its last row or column doubled where the size is odd."""
    height, width = frame.shape[:2]
    padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded)


def read_frame(path: Path, share: float = 0.5) -> Frame:
    """One frame of a video, `share` of the way through, for a poster.

    Raises:
        VideoError: The file is missing or holds no video.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            wanted = min(int(share * stream.frames), stream.frames - 1)
            for index, frame in enumerate(container.decode(stream)):
                if index >= wanted:
                    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise VideoError(f"cannot read a frame of {path}: {error}") from error
    raise VideoError(f"cannot read a frame of {path}: it ends before frame {wanted}")


def encode_jpeg(frame: Frame, quality: int = 85) -> bytes:
    """The frame as a JPEG file."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise VideoError(f"cannot encode a frame of shape {frame.shape} as JPEG")
    return encoded.tobytes()


def enlarge(frame: Frame, min_side: int) -> Frame:
    """The frame repeated by a whole factor, so that its shorter side is at least `min_side` pixels and stays crisp."""
    factor = max(1, -(-min_side // min(frame.shape[:2])))
    return np.repeat(np.repeat(frame, factor, axis=0), factor, axis=1)


def caption(frame: Frame, text: str, outcome: Outcome | None = None) -> Frame:
    """The frame with a line of text above it and a border in the outcome's colour; neutral while it is open.

    The outcome stands on the right; text that leaves no room for it is cut. The picture gains a border of 3 pixels and
    22 pixels on top.
    """
    height, width = frame.shape[:2]
    colour = OUTCOME_COLOURS[outcome] if outcome else BACKGROUND
    shape = (height + CAPTION_HEIGHT_PX + 2 * BORDER_PX, width + 2 * BORDER_PX, 3)
    framed: Frame = np.full(shape, colour, dtype=np.uint8)
    top = CAPTION_HEIGHT_PX + BORDER_PX
    framed[top : top + height, BORDER_PX : BORDER_PX + width] = frame
    label = str(outcome) if outcome else ""
    label_px = _text_width_px(label)
    while text and _text_width_px(text) + label_px + CAPTION_GAP_PX > width:
        text = text[:-1]
    baseline = top - 8
    cv2.putText(framed, text.rstrip(), (BORDER_PX + 2, baseline), _FONT, _FONT_SCALE, INK, 1, cv2.LINE_AA)
    cv2.putText(framed, label, (width - label_px, baseline), _FONT, _FONT_SCALE, INK, 1, cv2.LINE_AA)
    return framed


def _text_width_px(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def tile(frames: Sequence[Frame], columns: int) -> Frame:
    """Frames of one shape side by side, row by row, with a gap; empty places stay dark.

    Raises:
        VideoError: No frames, or of different shapes.
    """
    if not frames or columns < 1:
        raise VideoError(f"cannot tile {len(frames)} frames into {columns} columns: at least one of each is needed")
    height, width = frames[0].shape[:2]
    rows = -(-len(frames) // columns)
    shape = (rows * (height + GAP_PX) + GAP_PX, columns * (width + GAP_PX) + GAP_PX, 3)
    sheet: Frame = np.full(shape, BACKGROUND, dtype=np.uint8)
    for place, frame in enumerate(frames):
        row, column = divmod(place, columns)
        y, x = GAP_PX + row * (height + GAP_PX), GAP_PX + column * (width + GAP_PX)
        sheet[y : y + height, x : x + width] = _checked(frame, frames[0].shape)
    return sheet


def captioned(frames: Sequence[Frame], text: str, outcome: Outcome) -> list[Frame]:
    """An episode's frames with a line of text above each; only the last one tells the outcome."""
    open_frames = [caption(frame, text) for frame in frames[:-1]]
    return [*open_frames, *(caption(frame, text, outcome) for frame in frames[-1:])]


def play_together(clips: Sequence[Sequence[Frame]], columns: int, hold: int = 20) -> Iterator[Frame]:
    """Frames of a video that shows several episodes at once; one that has ended keeps its last frame.

    Args:
        clips: Frames of each episode, all of one shape, at least one each.
        columns: Episodes side by side.
        hold: Frames for which the end of the last episode stands still.

    Raises:
        VideoError: No clips, or an empty one.
    """
    if not clips or not all(clips):
        raise VideoError("every episode of a video needs at least one frame")
    for moment in range(max(map(len, clips)) + hold):
        yield tile([clip[min(moment, len(clip) - 1)] for clip in clips], min(columns, len(clips)))
