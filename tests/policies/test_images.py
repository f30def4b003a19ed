import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policies.images import ImageScaling, centre_crop, random_crop, resampling_matrix
from robot_rl.core.errors import RobotRLError


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("source", [(84, 84), (96, 128), (480, 640), (101, 97)])
def test_shrinking_equals_opencv_area_averaging_up_to_its_rounding(source):
    frame = picture(*source)
    ours = (ImageScaling(source, (84, 84))(torch.from_numpy(frame)[None])[0] + 1) * 127.5
    wanted = cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA).astype(np.float32)
    assert np.abs(ours.permute(1, 2, 0).numpy() - wanted).max() <= 0.51


def test_growing_equals_opencv_linear_interpolation():
    frame = picture(20, 31)
    ours = (ImageScaling((20, 31), (64, 64))(torch.from_numpy(frame)[None])[0] + 1) * 127.5
    wanted = cv2.resize(frame.astype(np.float32), (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours.permute(1, 2, 0).numpy() - wanted).max() < 0.05


@given(st.integers(1, 200), st.integers(1, 200))
def test_resampling_weights_average(source, target):
    weights = resampling_matrix(source, target)
    assert weights.shape == (target, source)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(target))


def test_a_frame_of_the_encoders_size_passes_unchanged():
    frame = torch.from_numpy(picture(10, 10))[None]
    scaled = ImageScaling((480, 640), (10, 10))(frame)
    torch.testing.assert_close(scaled, frame.permute(0, 3, 1, 2) / 127.5 - 1)
    assert scaled.min() >= -1
    assert scaled.max() <= 1


@pytest.mark.parametrize("frames", [torch.zeros(1, 9, 9, 3, dtype=torch.uint8), torch.zeros(1, 10, 10, 3)])
def test_frames_of_another_size_or_type_are_refused(frames):
    with pytest.raises(RobotRLError, match="wanted uint8 of"):
        ImageScaling((20, 20), (10, 10))(frames)


def test_the_centre_crop_is_central():
    images = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert centre_crop(images, (2, 4)).tolist() == [[[[13.0, 14.0, 15.0, 16.0], [19.0, 20.0, 21.0, 22.0]]]]


def test_random_crops_are_parts_shared_by_a_samples_frames_and_reach_every_place():
    images = torch.arange(36.0).reshape(1, 1, 6, 6).repeat(400, 1, 1, 1)
    crops = random_crop(images, (4, 5), frames_per_sample=2, generator=torch.Generator().manual_seed(0))
    assert crops.shape == (400, 1, 4, 5)
    first, second = crops[0::2], crops[1::2]
    assert torch.equal(first, second)
    corners = {int(each[0, 0, 0]) for each in crops}
    assert corners == {0, 1, 6, 7, 12, 13}
    for each in crops[:20]:
        top, left = divmod(int(each[0, 0, 0]), 6)
        assert torch.equal(each, images[0, :, top : top + 4, left : left + 5])
