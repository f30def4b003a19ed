import dataclasses
import json
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from policies.diffusion_config import CameraConfig, DiffusionPolicyConfig, InvalidPolicyConfig, MlpConfig, UnetConfig


def test_defaults_are_valid_once_streams_are_named():
    DiffusionPolicyConfig(streams=("state",)).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"streams": ()}, "policy.streams is empty"),
        ({"streams": ("state", "state")}, "names a stream twice"),
        ({"denoiser": "transformer"}, "policy.denoiser is 'transformer', wanted one of mlp, unet"),
        ({"prediction": "v"}, "policy.prediction is 'v'"),
        ({"timestep_spacing": "linspace"}, "policy.timestep_spacing"),
        ({"camera": CameraConfig(backbone="vit")}, "policy.camera.backbone is 'vit', wanted one of resnet18, small"),
        ({"horizon": 0}, "policy.horizon is 0, wanted at least 1"),
        ({"execute_horizon": 9}, "policy.execute_horizon is 9, wanted 1 to 8"),
        ({"sampling_steps": 101}, "policy.sampling_steps is 101, wanted 1 to 100"),
        ({"eta": 1.5}, "policy.eta is 1.5"),
        ({"eta": float("nan")}, "policy.eta is nan"),
        ({"sigma_min": 0.5, "sigma_max": 0.1}, "policy.sigma_min is 0.5, wanted 0.0 to 0.1"),
        ({"clean_clip": 0.0}, "policy.clean_clip is 0.0"),
        ({"mlp": MlpConfig(width=0)}, "policy.mlp.width is 0"),
        ({"mlp": MlpConfig(time_features=7)}, "time_features is 7"),
        ({"camera": CameraConfig(crop=(76, 90))}, "policy.camera.crop width is 90, wanted 1 to 84"),
        ({"denoiser": "unet", "horizon": 6}, "use a multiple of 4, fewer widths, or denoiser=mlp"),
        ({"denoiser": "unet", "unet": UnetConfig(widths=())}, "widths is empty"),
        ({"denoiser": "unet", "unet": UnetConfig(widths=(60, 64))}, "multiples of unet.groups=8"),
        ({"denoiser": "unet", "unet": UnetConfig(kernel_size=4)}, "kernel_size is 4, wanted an odd number"),
    ],
)
def test_a_config_that_cannot_work_names_the_field_and_what_it_may_be(change, message):
    config = DiffusionPolicyConfig(**{"streams": ("state",), **change})
    with pytest.raises(InvalidPolicyConfig, match=message):
        config.validate()


def test_json_gives_back_an_equal_config():
    config = DiffusionPolicyConfig(
        streams=("state", "camera"), unet=UnetConfig(widths=(8, 16)), camera=CameraConfig(crop=(60, 70)), sigma_max=0.8
    )
    assert DiffusionPolicyConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_field_lists_the_valid_ones():
    with pytest.raises(InvalidPolicyConfig, match=r"policy has no field horizons; it has streams, .*horizon"):
        DiffusionPolicyConfig.from_json({"horizons": 8})
    with pytest.raises(InvalidPolicyConfig, match="mlp has no field depth; it has width, blocks, time_features"):
        DiffusionPolicyConfig.from_json({"mlp": {"depth": 3}})


def test_configuration_files_can_fill_it():
    schema = OmegaConf.structured(DiffusionPolicyConfig)
    told = OmegaConf.create({"streams": ["state"], "camera": {"crop": [70, 72]}, "unet": {"widths": [32]}})
    built = OmegaConf.to_object(OmegaConf.merge(schema, told))
    expected = DiffusionPolicyConfig(
        streams=("state",), camera=CameraConfig(crop=(70, 72)), unet=UnetConfig(widths=(32,))
    )
    assert built == expected
    assert dataclasses.is_dataclass(built.camera)


def test_reading_the_config_needs_no_torch():
    code = "import sys, policies.diffusion_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
