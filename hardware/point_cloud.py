"""From a depth image to a policy's point cloud: points in the robot's base frame, cropped, of a fixed number.

The steps are those of 3D Diffusion Policy (arXiv 2403.03954, section 3.2): every pixel becomes a point, the points
outside a box around the workspace are left out, and farthest point sampling keeps as many as the policy sees. A real
depth camera and a simulated one go the same way; both hand over what `PinholeCamera` and `camera_in_base` say.

Frames: the camera's has x to the right of the picture, y down, z along the view (OpenCV's).

Legend: `M` points before sampling, `P` points kept, `D` columns of a point: 3, or 6 with its colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.specs import AnyArray, FloatArray

MOST_CANDIDATES = 8
"""Farthest point sampling looks at most at this many points for each that it keeps."""


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics of a camera without distortion, for pixel centres at whole numbers [px]."""

    focal_x_px: float
    focal_y_px: float
    centre_x_px: float
    centre_y_px: float

    @classmethod
    def from_field_of_view(cls, vertical_rad: float, height_px: int, width_px: int) -> PinholeCamera:
        """A camera with square pixels that looks through the middle of its picture."""
        focal_px = height_px / 2 / np.tan(vertical_rad / 2)
        return cls(focal_px, focal_px, (width_px - 1) / 2, (height_px - 1) / 2)


@dataclass(frozen=True)
class Workspace:
    """The box that points must lie in, in the robot's base frame.

    Attributes:
        low: Its lowest corner x, y, z [m].
        high: Its highest corner [m].

    Raises:
        RobotRLError: The box is empty.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Restores tuples, which configuration files turn into lists."""
        object.__setattr__(self, "low", tuple(self.low))
        object.__setattr__(self, "high", tuple(self.high))
        if len(self.low) != 3 or len(self.high) != 3 or not np.less(self.low, self.high).all():
            raise RobotRLError(f"workspace is {self.low} to {self.high} m, wanted x, y, z of a box that is not empty")

    def holds(self, points: FloatArray) -> npt.NDArray[np.bool_]:
        """Which points lie inside; one that is not finite does not. Shape (M, D) to (M,)."""
        xyz = points[:, :3]
        inside: npt.NDArray[np.bool_] = np.all((xyz >= self.low) & (xyz <= self.high), axis=1)
        return inside


def points_from_depth(
    depth_m: FloatArray,
    camera: PinholeCamera,
    camera_in_base: FloatArray,
    rgb: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.float32]:
    """Every pixel with a depth as a point in the robot's base frame.

    Args:
        depth_m: Distance along the view, not along the ray [m]; pixels without one are 0, negative or not finite.
            Shape (height, width).
        camera: Intrinsics of that picture.
        camera_in_base: The camera's pose: rotates and shifts its frame to the base's. Shape (4, 4).
        rgb: Colours seen through the same pixels. Shape (height, width, 3).

    Returns:
        Shape (M, 3) [m]; with `rgb` (M, 6), colours from 0 to 1. Row by row, in the picture's order.

    Raises:
        RobotRLError: Arrays that do not belong together.
    """
    if depth_m.ndim != 2 or camera_in_base.shape != (4, 4):
        raise RobotRLError(
            f"depth has shape {depth_m.shape} and the camera's pose {camera_in_base.shape}, wanted (height, width) "
            "and (4, 4)"
        )
    if rgb is not None and rgb.shape != (*depth_m.shape, 3):
        raise RobotRLError(f"colours have shape {rgb.shape}, wanted {(*depth_m.shape, 3)} as the depth image")
    seen = np.isfinite(depth_m) & (depth_m > 0)
    rows, columns = np.nonzero(seen)
    z = depth_m[seen].astype(np.float64)
    x = (columns - camera.centre_x_px) / camera.focal_x_px * z
    y = (rows - camera.centre_y_px) / camera.focal_y_px * z
    in_base = np.stack([x, y, z], axis=1) @ camera_in_base[:3, :3].T + camera_in_base[:3, 3]
    points = in_base.astype(np.float32)
    if rgb is None:
        return points
    return np.concatenate([points, rgb[seen].astype(np.float32) / 255], axis=1)


def farthest_points(points: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """Indices of points that cover a cloud evenly: each next one is the farthest from all before it (xyz only).

    Begins with the point farthest from the cloud's centre, so that the same points in the same order give the same
    choice and nothing is drawn. At equal distance the first one counts. `O(M count)`.

    Args:
        points: Finite. Shape (M, D), M > 0.
        count: How many.

    Returns:
        Distinct. Shape (min(M, count),).
    """
    xyz = np.ascontiguousarray(points[:, :3].T)
    kept = np.empty(min(points.shape[0], count), dtype=np.intp)
    nearest = np.full(points.shape[0], np.inf, dtype=xyz.dtype)
    following = int(_squared_distance(xyz, xyz.mean(axis=1)).argmax())
    for index in range(len(kept)):
        kept[index] = following
        np.minimum(nearest, _squared_distance(xyz, xyz[:, following]), out=nearest)
        # Points that lie on one another are all 0 away: what is kept already must not be chosen again.
        nearest[following] = -1.0
        following = int(nearest.argmax())
    return kept


def sample_cloud(points: FloatArray, workspace: Workspace, count: int, stream: str = "points") -> AnyArray:
    """A cloud of exactly `count` points inside the workspace.

    Too few are repeated in turn, which changes nothing for an encoder that takes the largest feature over the points.
    From far too many, every n-th is a candidate: sampling among a picture's hundred thousand would not fit a tick.

    Args:
        points: As `points_from_depth` gives them. Shape (M, D).
        workspace: What lies outside is left out.
        count: `P`.
        stream: Name for the error.

    Returns:
        float32, shape (P, D).

    Raises:
        StaleSensor: No point lies inside: the camera is covered, or its pose or the workspace is wrong.
    """
    inside = points[workspace.holds(points)]
    if len(inside) == 0:
        raise StaleSensor(
            f"stream '{stream}' has no point in the workspace {workspace.low} to {workspace.high} m (of "
            f"{len(points)} seen): uncover the camera, or check its pose and the workspace"
        )
    most = MOST_CANDIDATES * count
    if len(inside) > most:
        inside = inside[np.arange(most) * len(inside) // most]
    kept = farthest_points(inside, count)
    repeated = kept[np.arange(count) % len(kept)]
    return inside[repeated].astype(np.float32)


def _squared_distance(xyz: FloatArray, place: FloatArray) -> FloatArray:
    """From each of some points (3, M) to one place (3,). Shape (M,)."""
    x, y, z = (axis - value for axis, value in zip(xyz, place, strict=True))
    squared: FloatArray = x * x + y * y + z * z
    return squared
