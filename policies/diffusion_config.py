"""What a diffusion policy can be told; imports no torch, so that the command line can read it quickly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

from robot_rl.core.errors import RobotRLError

DENOISERS = ("mlp", "unet")
BACKBONES = ("resnet18", "small")
PREDICTIONS = ("epsilon", "sample")
SPACINGS = ("leading", "trailing")


_Config = TypeVar("_Config")


class InvalidPolicyConfig(RobotRLError):
    """A policy's configuration contradicts itself or the robot."""


@dataclass
class MlpConfig:
    """A residual MLP over the flattened chunk: by default about 0.2 M parameters; 768 wide with 3 blocks, 4 M.

    Attributes:
        width: Features of every layer.
        blocks: Residual blocks of two layers each.
        time_features: Size of the denoising step's embedding, even.
    """

    width: int = 192
    blocks: int = 2
    time_features: int = 32


@dataclass
class UnetConfig:
    """A 1-D convolutional U-Net over the chunk's time axis, conditioned by FiLM.

    Attributes:
        widths: Channels per level; the horizon must be a multiple of 2 to the number of levels less one.
            (256, 512, 1024) is about 65 M parameters, (64, 128, 256) about 4 M.
        kernel_size: Rows of the chunk seen by one convolution, odd.
        groups: Groups of every GroupNorm; divides every width.
        time_features: Size of the denoising step's embedding, even.
    """

    widths: tuple[int, ...] = (256, 512, 1024)
    kernel_size: int = 5
    groups: int = 8
    time_features: int = 128

    def __post_init__(self) -> None:
        """Restores tuples, which configuration files turn into lists."""
        self.widths = tuple(self.widths)


@dataclass
class CameraConfig:
    """How every camera stream is encoded.

    Attributes:
        backbone: `resnet18` (GroupNorm instead of BatchNorm) or `small`, three convolutions for laptops.
        image_size: Height and width after resizing by area, whatever the camera's own [px].
        crop: Height and width of the part seen, random in training and central otherwise [px]; equal to `image_size`
            for no cropping.
        keypoints: Spatial softmax keypoints.
        features: Encoding size per camera and frame.
        shared: One set of weights for all cameras instead of one each.
    """

    backbone: str = "resnet18"
    image_size: tuple[int, int] = (84, 84)
    crop: tuple[int, int] = (76, 76)
    keypoints: int = 32
    features: int = 64
    shared: bool = False

    def __post_init__(self) -> None:
        """Restores tuples, which configuration files turn into lists."""
        self.image_size = _pair(self.image_size)
        self.crop = _pair(self.crop)


@dataclass
class PointConfig:
    """How every point cloud is encoded: PointNet as in arXiv 2403.03954, with weights of its own for each stream.

    Attributes:
        widths: Features per point after each layer; the largest over the points of the last ones are kept.
        features: Encoding size per cloud and frame.
    """

    widths: tuple[int, ...] = (64, 128, 256)
    features: int = 64

    def __post_init__(self) -> None:
        """Restores tuples, which configuration files turn into lists."""
        self.widths = tuple(self.widths)


@dataclass
class AuxiliaryConfig:
    """Losses beside imitation's for the encoders of cameras and point clouds; see `policies/auxiliary.py`.

    Attributes:
        reconstruction: Weight of decoding the encoding back to what was seen; 0 for no decoders.
        bottleneck: Weight of the variational information bottleneck's divergence [per nat]; 0 for a plain encoder.
        image_size: Height and width of the picture that is decoded [px].
        points: Points of the cloud that is decoded.
        width: Features of the decoders' layers.
    """

    reconstruction: float = 0.0
    bottleneck: float = 0.0
    image_size: tuple[int, int] = (16, 16)
    points: int = 128
    width: int = 256

    def __post_init__(self) -> None:
        """Restores tuples, which configuration files turn into lists."""
        self.image_size = _pair(self.image_size)

    @property
    def on(self) -> bool:
        """Whether there is anything to add."""
        return self.reconstruction > 0 or self.bottleneck > 0


@dataclass
class DiffusionPolicyConfig:
    """Everything about a diffusion policy except the robot it drives.

    Attributes:
        streams: Observation streams to see, in this order; cameras, point clouds and low-dimensional ones alike.
        observation_count: Newest observations seen at once.
        horizon: Actions per chunk `H`; 1 is single-step control.
        execute_horizon: Rows of a chunk to execute before a newer chunk should replace it.
        denoiser: `mlp` or `unet`.
        mlp: Used by `mlp`.
        unet: Used by `unet`.
        camera: Used when a stream is a camera's.
        points: Used when a stream is a point cloud.
        auxiliary: Losses beside imitation's.
        state_features: Size of a small MLP's output over the low-dimensional streams; 0 hands them on as they are.
        prediction: What the network predicts: `epsilon`, the noise, or `sample`, the clean chunk.
        train_timesteps: Diffusion steps `T` of the squared-cosine schedule.
        sampling_steps: Denoising steps `K` at inference.
        timestep_spacing: Which `K` of the `T` steps are used: `leading` ends at step 0; `trailing` begins at `T - 1`,
            where no signal is left, so it suits `sample` prediction.
        eta: Stochasticity of a denoising step: 1 is DDPM's posterior, 0 deterministic DDIM.
        clean_clip: Bound of the predicted clean chunk in normalised units, where data lies in [-1, 1]; None for none.
        sigma_min: Smallest standard deviation of a denoising step; above 0 for policy gradients.
        sigma_max: Largest standard deviation of a denoising step; None for no bound.
    """

    streams: tuple[str, ...] = ()
    observation_count: int = 2
    horizon: int = 8
    execute_horizon: int = 4
    denoiser: str = "mlp"
    mlp: MlpConfig = field(default_factory=MlpConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    points: PointConfig = field(default_factory=PointConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    state_features: int = 0
    prediction: str = "epsilon"
    train_timesteps: int = 100
    sampling_steps: int = 10
    timestep_spacing: str = "leading"
    eta: float = 1.0
    clean_clip: float | None = 1.0
    sigma_min: float = 0.0
    sigma_max: float | None = None

    predictions: ClassVar[tuple[str, ...]] = PREDICTIONS

    def __post_init__(self) -> None:
        """Restores tuples, which configuration files turn into lists."""
        self.streams = tuple(self.streams)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width to which the policy shrinks cameras [px]."""
        return self.camera.image_size

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write; `from_json` reads it back equal."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The config that `to_json` wrote.

        Raises:
            InvalidPolicyConfig: An unknown key, for example of a newer version.
        """
        parts = {
            "mlp": MlpConfig,
            "unet": UnetConfig,
            "camera": CameraConfig,
            "points": PointConfig,
            "auxiliary": AuxiliaryConfig,
        }
        fields = {key: _build(parts[key], value, key) if key in parts else value for key, value in document.items()}
        return _build(cls, fields, "policy")

    def validate(self) -> None:
        """Refuses a config that cannot work, whatever the robot.

        Raises:
            InvalidPolicyConfig: Names the field, what it is and what it may be.
        """
        if not self.streams:
            raise InvalidPolicyConfig("policy.streams is empty: name the streams to see, for example [state]")
        if len(set(self.streams)) < len(self.streams):
            raise InvalidPolicyConfig(f"policy.streams names a stream twice: {', '.join(self.streams)}")
        _require_one_of("policy.denoiser", self.denoiser, DENOISERS)
        _require_one_of("policy.prediction", self.prediction, self.predictions)
        _require_one_of("policy.timestep_spacing", self.timestep_spacing, SPACINGS)
        _require_one_of("policy.camera.backbone", self.camera.backbone, BACKBONES)
        self._validate_counts()
        self._validate_noise()
        if self.denoiser == "unet":
            self._validate_unet()
        self._validate_auxiliary()
        for name, crop, image in zip(("height", "width"), self.camera.crop, self.camera.image_size, strict=True):
            _require_range(f"policy.camera.crop {name}", crop, 1, image)

    def _validate_counts(self) -> None:
        for name in ("observation_count", "horizon", "execute_horizon", "train_timesteps", "sampling_steps"):
            _require_range(f"policy.{name}", getattr(self, name), 1, None)
        _require_range("policy.execute_horizon", self.execute_horizon, 1, self.horizon)
        _require_range("policy.sampling_steps", self.sampling_steps, 1, self.train_timesteps)
        _require_range("policy.state_features", self.state_features, 0, None)
        owners = ("mlp", "unet", "camera", "points", "auxiliary")
        for owner, part in ((name, getattr(self, name)) for name in owners):
            for name, value in vars(part).items():
                if type(value) is int:
                    _require_range(f"policy.{owner}.{name}", value, 0 if name == "blocks" else 1, None)
        for owner, features in (("mlp", self.mlp.time_features), ("unet", self.unet.time_features)):
            if features % 2 or features < 4:
                raise InvalidPolicyConfig(f"policy.{owner}.time_features is {features}, wanted an even number from 4")

    def _validate_noise(self) -> None:
        _require_range("policy.eta", self.eta, 0.0, 1.0)
        _require_range("policy.sigma_min", self.sigma_min, 0.0, self.sigma_max)
        if self.clean_clip is not None and not self.clean_clip > 0:
            raise InvalidPolicyConfig(f"policy.clean_clip is {self.clean_clip}, wanted a positive number or null")

    def _validate_auxiliary(self) -> None:
        if not self.points.widths or min(self.points.widths) < 1:
            raise InvalidPolicyConfig(
                f"policy.points.widths is {self.points.widths}, wanted positive numbers of features"
            )
        for name in ("reconstruction", "bottleneck"):
            _require_range(f"policy.auxiliary.{name}", getattr(self.auxiliary, name), 0.0, None)
        for name, size in zip(("height", "width"), self.auxiliary.image_size, strict=True):
            _require_range(f"policy.auxiliary.image_size {name}", size, 1, None)

    def _validate_unet(self) -> None:
        if not self.unet.widths:
            raise InvalidPolicyConfig("policy.unet.widths is empty: name the channels per level, for example [64, 128]")
        multiple = 2 ** (len(self.unet.widths) - 1)
        if self.horizon % multiple:
            raise InvalidPolicyConfig(
                f"policy.horizon is {self.horizon}, but a U-Net of {len(self.unet.widths)} levels halves it "
                f"{len(self.unet.widths) - 1} times: use a multiple of {multiple}, fewer widths, or denoiser=mlp"
            )
        for width in self.unet.widths:
            if width < 1 or width % self.unet.groups:
                raise InvalidPolicyConfig(
                    f"policy.unet.widths has {width}, wanted positive multiples of unet.groups={self.unet.groups}"
                )
        if self.unet.kernel_size % 2 == 0:
            raise InvalidPolicyConfig(f"policy.unet.kernel_size is {self.unet.kernel_size}, wanted an odd number")


def _pair(values: Sequence[int]) -> tuple[int, int]:
    if len(values) != 2:
        raise InvalidPolicyConfig(f"an image size is {list(values)}, wanted [height, width]")
    return values[0], values[1]


def _build(kind: type[_Config], document: Mapping[str, Any], where: str) -> _Config:
    known = [each.name for each in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in document if key not in known]
    if unknown:
        raise InvalidPolicyConfig(f"{where} has no field {', '.join(unknown)}; it has {', '.join(known)}")
    return kind(**document)


def _require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidPolicyConfig(f"{name} is '{value}', wanted one of {', '.join(allowed)}")


def _require_range(name: str, value: float, low: float, high: float | None) -> None:
    if not (value >= low and (high is None or value <= high)):
        wanted = f"at least {low}" if high is None else f"{low} to {high}"
        raise InvalidPolicyConfig(f"{name} is {value}, wanted {wanted}")
