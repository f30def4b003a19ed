import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hardware.point_cloud import (
    MOST_CANDIDATES,
    PinholeCamera,
    Workspace,
    farthest_points,
    points_from_depth,
    sample_cloud,
)
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.specs import ArraySpec

CAMERA = PinholeCamera(focal_x_px=2.0, focal_y_px=4.0, centre_x_px=1.0, centre_y_px=0.0)
SPACE = Workspace((-10.0, -10.0, -10.0), (10.0, 10.0, 10.0))
CLOUDS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.sampled_from([3, 6])),
    elements=st.floats(-9, 9, width=16),
)


def test_a_pixel_becomes_the_point_it_shows():
    depth = np.array([[0.0, 2.0, 4.0], [np.nan, 1.0, np.inf]], np.float32)
    points = points_from_depth(depth, CAMERA, np.eye(4))
    np.testing.assert_array_equal(points, [[0, 0, 2], [2, 0, 4], [0, 0.25, 1]])
    assert points.dtype == np.float32


def test_points_are_in_the_base_frame():
    """A camera 1 m above the base that looks straight down, the top of its picture towards +x."""
    pose = np.array([[0, -1, 0, 0.5], [-1, 0, 0, 0.0], [0, 0, -1, 1.0], [0, 0, 0, 1.0]])
    depth = np.array([[0.0, 1.0, 0.5]], np.float32)
    np.testing.assert_allclose(points_from_depth(depth, CAMERA, pose), [[0.5, 0, 0], [0.5, -0.25, 0.5]])


def test_colours_follow_their_points():
    depth = np.array([[0.0, 2.0, 4.0]], np.float32)
    rgb = np.array([[[9, 9, 9], [255, 0, 51], [0, 255, 0]]], np.uint8)
    points = points_from_depth(depth, CAMERA, np.eye(4), rgb)
    np.testing.assert_allclose(points, [[0, 0, 2, 1, 0, 0.2], [2, 0, 4, 0, 1, 0]], rtol=1e-6)


def test_a_field_of_view_ends_at_the_picture_s_edge():
    camera = PinholeCamera.from_field_of_view(np.pi / 2, height_px=4, width_px=8)
    assert camera == PinholeCamera(pytest.approx(2.0), pytest.approx(2.0), 3.5, 1.5)


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(RobotRLError, match=r"depth has shape \(2, 2, 1\)"):
        points_from_depth(np.ones((2, 2, 1)), CAMERA, np.eye(4))
    with pytest.raises(RobotRLError, match=r"colours have shape \(2, 3, 3\), wanted \(2, 2, 3\)"):
        points_from_depth(np.ones((2, 2)), CAMERA, np.eye(4), np.zeros((2, 3, 3), np.uint8))


def test_only_the_workspace_is_kept():
    points = np.array([[0, 0, 0], [0, 0, 1.1], [1, 1, 1], [-0.1, 0, 0], [np.nan, 0, 0]], np.float32)
    assert Workspace((0, 0, 0), (1, 1, 1)).holds(points).tolist() == [True, False, True, False, False]


def test_an_empty_workspace_is_refused():
    with pytest.raises(RobotRLError, match="wanted x, y, z of a box that is not empty"):
        Workspace((0, 0, 1), (1, 1, 1))


def test_farthest_points_are_taken_one_after_the_other():
    """Centre 3.6: 10 is farthest; then 0; then 5 (5 from both); then 2 (2 from 0) before 1."""
    line = np.zeros((5, 3), np.float32)
    line[:, 0] = [0, 1, 2, 5, 10]
    assert farthest_points(line, 5).tolist() == [4, 0, 3, 2, 1]


def test_colour_does_not_count_as_distance():
    cloud = np.zeros((3, 6), np.float32)
    cloud[:, 0] = [0, 1, 4]
    cloud[1, 3:] = 100.0
    assert farthest_points(cloud, 2).tolist() == [2, 0]


@given(CLOUDS, st.integers(1, 60))
def test_sampled_points_are_points_of_the_cloud_in_the_number_asked_for(cloud, count):
    sampled = sample_cloud(cloud, SPACE, count)
    assert sampled.shape == (count, cloud.shape[1])
    assert {point.tobytes() for point in sampled + 0.0} <= {point.tobytes() for point in cloud + 0.0}
    assert ArraySpec(sampled.shape, "float32", "m").problem_with(sampled) is None


@given(CLOUDS, st.integers(1, 60))
def test_no_point_is_kept_twice_while_there_are_others(cloud, count):
    kept = farthest_points(cloud, count)
    assert len(set(kept.tolist())) == len(kept) == min(count, len(cloud))


@given(CLOUDS, st.integers(1, 40))
def test_every_point_is_as_near_to_a_kept_one_as_those_are_to_each_other(cloud, count):
    """Farthest point sampling's guarantee (Gonzalez, 1985)."""
    xyz = cloud[:, :3].astype(np.float64)
    kept = xyz[farthest_points(cloud, count)]
    reach = np.linalg.norm(xyz[:, None] - kept[None], axis=2).min(axis=1).max()
    apart = np.linalg.norm(kept[:, None] - kept[None], axis=2)[np.triu_indices(len(kept), 1)]
    assert len(apart) == 0 or reach <= apart.min() + 1e-4


def test_too_few_points_are_repeated_in_turn():
    cloud = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], np.float32)
    sampled = sample_cloud(cloud, SPACE, 7)
    np.testing.assert_array_equal(sampled[:3], sampled[3:6])
    assert len(np.unique(sampled, axis=0)) == 3


def test_a_large_cloud_is_thinned_over_its_whole_length_first():
    cloud = np.zeros((50 * MOST_CANDIDATES, 3), np.float32)
    cloud[:, 0] = np.linspace(-1, 1, len(cloud))
    sampled = sample_cloud(cloud, SPACE, 5)
    assert sampled[:, 0].min() < -0.9
    assert sampled[:, 0].max() > 0.9


def test_a_camera_that_sees_nothing_of_the_workspace_is_an_error():
    with pytest.raises(StaleSensor, match=r"'points' has no point in the workspace .* \(of 2 seen\): uncover"):
        sample_cloud(np.full((2, 3), 50.0, np.float32), SPACE, 4)


def test_the_unit_says_what_is_a_point_cloud():
    assert ArraySpec((8, 3), "float32", "m xyz").is_point_cloud
    assert ArraySpec((8, 6), "float32", "m xyz, rgb").is_point_cloud
    for shape, dtype, unit in (
        ((8, 3), "float32", "m"),
        ((8, 6), "float32", "m xyz"),
        ((8, 3), "float64", "m xyz"),
        ((3,), "float32", "m xyz"),
        ((8, 3, 3), "uint8", "rgb"),
    ):
        assert not ArraySpec(shape, dtype, unit).is_point_cloud
