import numpy as np
import pytest

from policies.history import draw_noise, stack_history
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from tests.policies.tiny_policies import SPEC, random_observation

STATE = SPEC.select(("state",))


def seen(value, stamp_ns=0):
    return Observation(stamp_ns, {"state": np.full(3, value, np.float32)}, {"state": 0})


@pytest.mark.parametrize(
    ("values", "expected"), [([4], [4, 4, 4]), ([3, 4], [3, 3, 4]), ([2, 3, 4], [2, 3, 4]), ([1, 2, 3, 4], [2, 3, 4])]
)
def test_the_newest_observations_come_last_and_the_oldest_repeats(values, expected):
    stacked = stack_history([seen(value) for value in values], STATE, 3)["state"]
    assert stacked.shape == (1, 3, 3)
    assert stacked[0, :, 0].tolist() == expected


def test_types_and_shapes_are_the_specs():
    arrays = stack_history([random_observation(SPEC, seed=0)], SPEC, 2)
    for name, spec in SPEC.observations.items():
        assert arrays[name].shape == (1, 2, *spec.shape)
        assert arrays[name].dtype == spec.dtype


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "at least one observation, got none"),
        ([Observation(0, {"other": np.zeros(3)}, {})], "sees stream 'state'; the observation has other"),
        ([Observation(0, {"state": np.zeros(2, np.float32)}, {})], r"'state': shape is \(2,\), wanted \(3,\)"),
        ([Observation(0, {"state": np.zeros(3)}, {})], "'state': dtype is float64, wanted float32"),
        ([seen(np.nan)], "'state': holds NaN or infinity"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(history, message):
    with pytest.raises(RobotRLError, match=message):
        stack_history(history, STATE, 2)


def test_noise_is_standard_normal_float32_and_follows_its_seed():
    noise = draw_noise(np.random.default_rng(0), (10, 40, 50))
    assert noise.shape == (1, 10, 40, 50)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert np.array_equal(noise, draw_noise(np.random.default_rng(0), (10, 40, 50)))
