"""A two-stream robot with a camera, and policies for it that are small enough to test in milliseconds."""

import numpy as np
import torch

from policies.diffusion import CameraConfig, DiffusionPolicy, DiffusionPolicyConfig, MlpConfig, UnetConfig
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

SPEC = RobotSpec(
    name="tiny",
    observations={
        "state": ArraySpec((3,), "float32", "m"),
        "keypoint": ArraySpec((4, 2), "float64", "px"),
        "camera": ArraySpec((12, 20, 3), "uint8", "rgb"),
    },
    action=ArraySpec((3,), "float32", "cm/tick,cm/tick,1"),
    action_kinds=(ActionKind.RATE, ActionKind.RATE, ActionKind.BINARY),
    control_hz=10.0,
)
LOW_DIMENSIONAL = ("state", "keypoint")
EVERYTHING = ("state", "camera", "keypoint")
STATISTICS = {
    "state": {"min": np.array([0.0, -1.0, 5.0]), "max": np.array([1.0, 1.0, 9.0])},
    "keypoint": {"min": np.zeros((4, 2)), "max": np.full((4, 2), 512.0)},
    "action": {"min": np.array([-0.02, -3.0, 0.0]), "max": np.array([0.01, 3.0, 1.0])},
}


def tiny_config(streams=LOW_DIMENSIONAL, **overrides) -> DiffusionPolicyConfig:
    fields = {
        "horizon": 4,
        "execute_horizon": 2,
        "mlp": MlpConfig(width=24, blocks=1, time_features=8),
        "unet": UnetConfig(widths=(8, 16), kernel_size=3, groups=4, time_features=8),
        "camera": CameraConfig(backbone="small", image_size=(10, 10), crop=(8, 8), keypoints=4, features=6),
    }
    return DiffusionPolicyConfig(streams=streams, **{**fields, **overrides})


def tiny_policy(streams=LOW_DIMENSIONAL, *, seed=0, gain=1.5, spec=SPEC, **overrides) -> DiffusionPolicy:
    """A policy with statistics. `gain` scales its weights: an untrained network hides behind the clipped chunk."""
    torch.manual_seed(seed)
    policy = DiffusionPolicy(spec, tiny_config(streams, **overrides))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(gain)
    policy.set_statistics(STATISTICS)
    return policy


def random_streams(policy: DiffusionPolicy, size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    streams = {}
    for name, spec in policy.spec.observations.items():
        shape = (size, policy.observation_count, *spec.shape)
        if spec.is_image:
            streams[name] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        else:
            normalized = 2 * torch.rand(shape, generator=generator) - 1
            streams[name] = policy.normalizer.unnormalize(name, normalized)
    return streams


def random_batch(policy: DiffusionPolicy, size: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = {f"obs/{name}": values for name, values in random_streams(policy, size, generator).items()}
    action = 2 * torch.rand(size, policy.horizon, policy.action_size, generator=generator) - 1
    batch["action"] = policy.normalizer.unnormalize("action", action)
    batch["valid"] = torch.ones(size, policy.horizon, dtype=torch.bool)
    return batch


def random_observation(spec: RobotSpec, seed: int, stamp_ns: int = 0) -> Observation:
    generator = np.random.default_rng(seed)
    values = {
        name: generator.integers(0, 256, each.shape, dtype=np.uint8)
        if each.is_image
        else generator.uniform(0, 1, each.shape).astype(each.dtype)
        for name, each in spec.observations.items()
    }
    return Observation(stamp_ns, values, dict.fromkeys(values, 0))
