import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.normalizer import MissingStatistics, Normalizer

finite = st.floats(-1e4, 1e4, width=32)


def fitted(low, high):
    low, high = np.asarray(low), np.asarray(high)
    normalizer = Normalizer({"state": low.shape})
    normalizer.fit({"state": {"min": low, "max": high}})
    return normalizer


def test_the_data_range_maps_to_plus_minus_one_element_by_element():
    normalizer = fitted([[0.0, -2.0]], [[512.0, 2.0]])
    values = torch.tensor([[[0.0, 2.0]], [[512.0, 0.0]]])
    assert normalizer.normalize("state", values).tolist() == [[[-1.0, 1.0]], [[1.0, 0.0]]]


@given(arrays(np.float32, (2, 5), elements=finite), arrays(np.float32, 5, elements=st.floats(-1, 1, width=32)))
def test_normalising_undoes_unnormalising(ends, normalized):
    low, high = ends.min(axis=0), ends.max(axis=0)
    normalizer = fitted(low, high)
    back = normalizer.normalize("state", normalizer.unnormalize("state", torch.from_numpy(normalized))).numpy()
    varies = (high.astype(float) - low) > 1e-6 * np.maximum(1, np.maximum(abs(low), abs(high)))
    rounding = 4e-7 * np.maximum(abs(low), abs(high))[varies] / (high - low)[varies]
    assert np.all(np.abs(back - normalized)[varies] <= 1e-5 + rounding)
    assert np.all(back[~varies] == 0)


def test_a_constant_element_maps_to_zero_whatever_comes_and_zero_maps_back_to_it():
    normalizer = fitted([7.0, 0.0], [7.0, 1.0])
    assert normalizer.normalize("state", torch.tensor([[7.0, 0.5], [1e6, 0.5]])).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert normalizer.unnormalize("state", torch.tensor([0.3, -1.0])).tolist() == [7.0, 0.0]


def test_a_small_range_that_is_no_rounding_error_is_kept():
    assert fitted([0.0], [2e-5]).normalize("state", torch.tensor([2e-5])).item() == pytest.approx(1.0)


def test_integers_and_doubles_come_out_as_float32():
    normalizer = fitted([0.0], [4.0])
    for dtype in (torch.int64, torch.float64):
        assert normalizer.normalize("state", torch.ones(1, dtype=dtype)).dtype == torch.float32


def test_an_unfitted_normaliser_says_what_to_do():
    with pytest.raises(MissingStatistics, match="call set_statistics"):
        Normalizer({"state": (2,)}).require_fitted()


def test_statistics_travel_in_the_state_dict_with_the_flag():
    source, copy = fitted([1.0, 2.0], [3.0, 2.0]), Normalizer({"state": (2,)})
    copy.load_state_dict(source.state_dict())
    copy.require_fitted()
    values = torch.tensor([1.5, 9.0])
    assert torch.equal(copy.normalize("state", values), source.normalize("state", values))


def test_stream_names_that_torch_reserves_are_fine():
    normalizer = Normalizer({"type": (1,), "observation.state": (1,), "values": (1,)})
    normalizer.fit({name: {"min": np.zeros(1), "max": np.ones(1)} for name in normalizer.shapes})
    assert normalizer.normalize("observation.state", torch.ones(1)).item() == 1.0


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"action": {"min": np.zeros(2), "max": np.ones(2)}}, "no statistics for 'state'; they hold action"),
        ({"state": {"min": np.zeros(3), "max": np.ones(3)}}, r"shapes \(3,\) and \(3,\), wanted \(2,\)"),
        ({"state": {"min": np.array([0, np.nan]), "max": np.ones(2)}}, "no range"),
        ({"state": {"min": np.ones(2), "max": np.zeros(2)}}, "no range"),
    ],
)
def test_unusable_statistics_are_refused_and_leave_it_unfitted(statistics, message):
    normalizer = Normalizer({"state": (2,)})
    with pytest.raises(MissingStatistics, match=message):
        normalizer.fit(statistics)
    with pytest.raises(MissingStatistics):
        normalizer.require_fitted()
