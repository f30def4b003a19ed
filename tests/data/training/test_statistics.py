import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data.training.statistics as statistics_module
from data.training.statistics import cache_statistics
from robot_rl.core.errors import RobotRLError


class Columns:
    """Two cached episodes of known numbers."""

    streams = ("state", "image")
    episode_ends = np.array([40, 100])

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.state = generator.normal(1000.0, 0.01, (100, 2, 3)).astype(np.float32)
        self.actions = generator.normal(-2.0, 3.0, (100, 4)).astype(np.float32)

    def is_image(self, stream):
        return stream == "image"

    def is_point_cloud(self, stream):
        return False

    def episode_rows(self, episodes):
        return np.concatenate([np.arange(40) if each == 0 else np.arange(40, 100) for each in episodes] or [[]])

    def read(self, stream, rows):
        return self.state[rows]

    def read_actions(self, rows):
        return self.actions[rows]


@given(st.integers(1, 120))
def test_statistics_do_not_depend_on_how_many_rows_are_read_at_once(rows_at_once):
    columns = Columns()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics_module, "ROWS_AT_ONCE", rows_at_once)
        found = cache_statistics(columns, [0, 1])
    for key, values in (("state", columns.state), ("action", columns.actions)):
        exact = values.astype(np.float64)
        np.testing.assert_array_equal(found[key]["min"], exact.min(axis=0))
        np.testing.assert_array_equal(found[key]["max"], exact.max(axis=0))
        np.testing.assert_allclose(found[key]["mean"], exact.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found[key]["std"], exact.std(axis=0), rtol=1e-9)
        assert found[key]["count"] == 100


def test_episodes_kept_aside_do_not_leak_into_the_statistics():
    columns = Columns()
    columns.actions[40:] = 1e9
    assert cache_statistics(columns, [0])["action"]["max"].max() < 1e3


def test_cameras_have_no_statistics():
    assert set(cache_statistics(Columns(), [0])) == {"state", "action"}


def test_no_ticks_is_an_error():
    with pytest.raises(RobotRLError, match="no ticks"):
        cache_statistics(Columns(), [])


class Clouds(Columns):
    """The same numbers, taken for clouds of two points."""

    def is_point_cloud(self, stream):
        return stream == "state"


def test_the_points_of_a_cloud_share_their_statistics(monkeypatch):
    monkeypatch.setattr(statistics_module, "ELEMENTS_AT_ONCE", 50)
    columns = Clouds()
    found = cache_statistics(columns, [0, 1])["state"]
    points = columns.state.reshape(-1, 3).astype(np.float64)
    np.testing.assert_array_equal(found["min"], points.min(axis=0))
    np.testing.assert_array_equal(found["max"], points.max(axis=0))
    np.testing.assert_allclose(found["mean"], points.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["std"], points.std(axis=0), rtol=1e-9)
    assert found["count"] == 100
