"""A camera's lens as ROS's calibrator writes it: `camera_info` yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml

from robot_rl.core import section
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import Wanted

Pixels = Annotated[int, Wanted("pixels", lambda value: value >= 1)]
SIZES = {"camera_matrix": 9, "rectification_matrix": 9, "projection_matrix": 12}


class BadCalibration(RobotRLError):
    """A calibration that is not one, or not this camera's."""


@dataclass(frozen=True)
class Calibration:
    """Intrinsics for one picture size. Matrices are row by row.

    Attributes:
        width: [px].
        height: [px].
        distortion_model: For example `plumb_bob`; empty without distortion.
        distortion: As many coefficients as the model has.
        camera_matrix: K, 3x3 [px]; all 0 means uncalibrated.
        rectification_matrix: R, 3x3.
        projection_matrix: P, 3x4 [px].
    """

    width: int
    height: int
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()
    camera_matrix: tuple[float, ...] = (0.0,) * 9
    rectification_matrix: tuple[float, ...] = (0.0,) * 9
    projection_matrix: tuple[float, ...] = (0.0,) * 12

    def require_size(self, width: int, height: int) -> None:
        """Refuses a picture of another size: intrinsics are in pixels.

        Raises:
            BadCalibration: The sizes differ.
        """
        if (width, height) != (self.width, self.height):
            raise BadCalibration(
                f"the calibration is for {self.width}x{self.height}, the camera gives {width}x{height}; "
                "calibrate at the size that is used"
            )


def read_calibration(path: str) -> Calibration:
    """A calibration file.

    Args:
        path: Yaml with `image_width`, `image_height`, `camera_matrix`, `distortion_model`, `distortion_coefficients`,
            `rectification_matrix` and `projection_matrix`.

    Raises:
        BadCalibration: The file is missing, or a key is missing or of the wrong size.
    """
    try:
        document = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadCalibration(f"cannot read the calibration {path}: {error}") from error
    if not isinstance(document, Mapping):
        raise BadCalibration(f"{path} is no calibration: wanted the yaml that ROS's camera_calibration writes")
    matrices = {name: _numbers(path, document, name, size) for name, size in SIZES.items()}
    return Calibration(
        width=section.value_of(Pixels, document.get("image_width"), f"{path}: image_width", BadCalibration),
        height=section.value_of(Pixels, document.get("image_height"), f"{path}: image_height", BadCalibration),
        distortion_model=str(document.get("distortion_model", "plumb_bob")),
        distortion=_numbers(path, document, "distortion_coefficients", None),
        **matrices,
    )


def _numbers(path: str, document: Mapping[str, Any], key: str, count: int | None) -> tuple[float, ...]:
    matrix = document.get(key)
    data = matrix.get("data") if isinstance(matrix, Mapping) else None
    try:
        numbers = tuple(float(each) for each in data or ())
    except (TypeError, ValueError) as error:
        raise BadCalibration(f"{path}: {key}.data is {data!r}, wanted numbers") from error
    if data is None or (count is not None and len(numbers) != count):
        raise BadCalibration(f"{path}: {key}.data has {len(numbers)} numbers, wanted {count or 'a list'}")
    return numbers
