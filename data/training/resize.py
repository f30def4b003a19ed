"""Shrinking camera frames by averaging areas."""

from __future__ import annotations

import cv2

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray


def shrink(frame: AnyArray, height: int, width: int) -> AnyArray:
    """A frame at another size, each pixel the mean of the area it covers, rounded to uint8.

    This is the arithmetic that a policy's graph applies to a camera's own frames, so a policy trained on shrunken
    frames sees the same pixels when it runs, to within the rounding (half a grey level).

    Args:
        frame: uint8. Shape (height, width, 3).
        height: Afterwards, no more than now [px].
        width: Afterwards, no more than now [px].
    """
    if frame.shape[0] < height or frame.shape[1] < width:
        # OpenCV enlarges by another rule than it shrinks, and the policy by a third.
        raise RobotRLError(f"a frame of {frame.shape[:2]} can only be shrunk, not resized to {(height, width)}")
    if frame.shape[:2] == (height, width):
        return frame
    shrunken: AnyArray = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return shrunken
