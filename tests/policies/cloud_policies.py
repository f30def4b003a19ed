"""A robot with a state, a camera and a coloured point cloud, and small policies for it."""

import numpy as np
import torch

from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from policies.diffusion_config import AuxiliaryConfig, PointConfig
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from tests.policies.tiny_policies import tiny_config

SPEC = RobotSpec(
    name="tiny",
    observations={
        "state": ArraySpec((3,), "float32", "m"),
        "camera": ArraySpec((12, 20, 3), "uint8", "rgb"),
        "points": ArraySpec((9, 6), "float32", "m xyz, rgb"),
    },
    action=ArraySpec((2,), "float32", "cm/tick"),
    action_kinds=(ActionKind.RATE, ActionKind.RATE),
    control_hz=10.0,
)
EVERYTHING = ("state", "camera", "points")
STATISTICS = {
    "state": {"min": np.array([0.0, -1.0, 5.0]), "max": np.array([1.0, 1.0, 9.0])},
    "points": {
        "min": np.array([-0.5, 0.4, 0.0, 0.2, 0.2, 0.2]),
        "max": np.array([0.5, 0.9, 0.3, 0.6, 0.6, 0.6]),
    },
    "action": {"min": np.array([-1.0, -3.0]), "max": np.array([1.0, 3.0])},
}
BOTH = AuxiliaryConfig(reconstruction=0.5, bottleneck=0.01, image_size=(4, 4), points=6, width=16)


def cloud_config(streams=("state", "points"), **overrides) -> DiffusionPolicyConfig:
    return tiny_config(streams, **{"points": PointConfig(widths=(8, 16), features=5), **overrides})


def cloud_policy(streams=("state", "points"), *, seed=0, **overrides) -> DiffusionPolicy:
    torch.manual_seed(seed)
    policy = DiffusionPolicy(SPEC, cloud_config(streams, **overrides))
    policy.set_statistics(STATISTICS)
    return policy
