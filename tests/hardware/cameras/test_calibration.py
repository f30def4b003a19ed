from __future__ import annotations

import pytest

from hardware.cameras.calibration import BadCalibration, Calibration, read_calibration

TEXT = """
image_width: 640
image_height: 480
camera_name: wrist
camera_matrix: {rows: 3, cols: 3, data: [600, 0, 320, 0, 601, 240, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [600, 0, 320, 0, 0, 601, 240, 0, 0, 0, 1, 0]}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "wrist.yaml"
    file.write_text(TEXT)
    return file


def test_the_calibrators_yaml_is_read(path):
    calibration = read_calibration(str(path))
    assert (calibration.width, calibration.height, calibration.distortion_model) == (640, 480, "plumb_bob")
    assert calibration.distortion == (0.1, -0.2, 0.001, 0.002, 0.0)
    assert calibration.camera_matrix[:3] == (600.0, 0.0, 320.0)
    assert len(calibration.projection_matrix) == 12


def test_a_calibration_for_another_size_is_refused(path):
    with pytest.raises(BadCalibration, match="for 640x480, the camera gives 1280x720"):
        read_calibration(str(path)).require_size(1280, 720)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (TEXT.replace("image_width: 640", "image_width: wide"), "image_width is 'wide'"),
        (TEXT.replace("0, 0, 1]}\ndistortion_model", "0, 0]}\ndistortion_model"), "camera_matrix.data has 8 numbers"),
        (TEXT.replace("projection_matrix", "projection"), "projection_matrix.data has 0 numbers, wanted 12"),
        (TEXT.replace("[600, 0, 320, 0, 601", "[six, 0, 320, 0, 601"), "camera_matrix.data is"),
        ("just words", "no calibration"),
        ("a: [", "cannot read"),
    ],
)
def test_what_is_wrong_with_a_calibration_is_named(path, wrong, words):
    path.write_text(wrong)
    with pytest.raises(BadCalibration, match=words):
        read_calibration(str(path))


def test_a_missing_calibration_is_named():
    with pytest.raises(BadCalibration, match="cannot read the calibration /nowhere"):
        read_calibration("/nowhere/wrist.yaml")


def test_without_a_calibration_every_matrix_is_zero():
    assert set(Calibration(640, 480).camera_matrix) == {0.0}
