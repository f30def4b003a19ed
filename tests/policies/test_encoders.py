import numpy as np
import pytest
import torch

from policies.diffusion import CameraConfig
from policies.encoders import CameraEncoder, ObservationEncoder, SpatialSoftmax
from robot_rl.core.specs import ArraySpec
from tests.policies.tiny_policies import EVERYTHING, LOW_DIMENSIONAL, SPEC, random_batch, tiny_config, tiny_policy


def test_spatial_softmax_finds_where_the_feature_is():
    layer = SpatialSoftmax(1, (5, 9), keypoints=1)
    with torch.no_grad():
        layer.to_heat.weight.fill_(50.0)
        layer.to_heat.bias.fill_(0.0)
    features = torch.zeros(2, 1, 5, 9)
    features[0, 0, 0, 8] = 1.0
    features[1, 0, 2, 4] = 1.0
    torch.testing.assert_close(layer(features), torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))


@pytest.mark.parametrize("backbone", ["small", "resnet18"])
def test_a_camera_encoder_reaches_every_weight(backbone):
    encoder = CameraEncoder(CameraConfig(backbone=backbone, crop=(48, 40), keypoints=3, features=7))
    out = encoder(torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (2, 7)
    out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in encoder.parameters())


def test_the_residual_backbone_has_the_size_of_resnet18():
    encoder = CameraEncoder(CameraConfig())
    assert sum(weight.numel() for weight in encoder.backbone.parameters()) == 11_176_512


@pytest.mark.parametrize(
    ("streams", "overrides", "size"),
    [
        (LOW_DIMENSIONAL, {}, 2 * (3 + 8)),
        (LOW_DIMENSIONAL, {"state_features": 5}, 5),
        (EVERYTHING, {}, 2 * (3 + 8 + 6)),
        (("camera",), {"observation_count": 3}, 3 * 6),
    ],
)
def test_the_encoding_has_the_announced_size(streams, overrides, size):
    policy = tiny_policy(streams, **overrides)
    batch = random_batch(policy)
    observations = {name: batch[f"obs/{name}"] for name in streams}
    assert policy.encoder.output_size == size
    assert policy.encode(observations).shape == (6, size)


def two_cameras(shared):
    spec = SPEC.select(("camera",))
    spec = type(spec)(
        spec.name,
        {"left": ArraySpec((12, 20, 3), "uint8", "rgb"), "right": ArraySpec((30, 30, 3), "uint8", "rgb")},
        spec.action,
        spec.action_kinds,
        spec.control_hz,
    )
    torch.manual_seed(0)
    config = tiny_config(("left", "right"))
    config.camera.shared = shared
    return ObservationEncoder(spec, config)


def test_cameras_have_their_own_weights_unless_shared():
    own, shared = two_cameras(False), two_cameras(True)
    assert len(list(own.parameters())) == 2 * len(list(shared.parameters()))
    frame = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 2, 10, 10, 3), dtype=np.uint8))
    for encoder, equal in ((own, False), (shared, True)):
        left, right = encoder({}, {"left": frame, "right": frame}, None).chunk(2, dim=1)
        assert torch.equal(left, right) is equal


def test_frames_keep_their_order_in_the_encoding():
    encoder = two_cameras(True)
    frames = torch.randint(0, 256, (3, 2, 10, 10, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    forward = encoder({}, {"left": frames, "right": frames}, None)
    swapped = encoder({}, {"left": frames.flip(1), "right": frames}, None)
    torch.testing.assert_close(swapped[:, :6], forward[:, 6:12])
    torch.testing.assert_close(swapped[:, 6:12], forward[:, :6])
