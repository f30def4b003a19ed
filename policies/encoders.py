"""Observation encoders: recent observations in, one conditioning vector out.

Legend: `B` batch, `N` observations seen at once, `C` size of the encoding, `F` features of one view.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policies.auxiliary import AuxiliaryLoss, Bottleneck, Encoding, View, draw
from policies.diffusion_config import CameraConfig, DiffusionPolicyConfig, InvalidPolicyConfig
from policies.images import ImageScaling, centre_crop, random_crop
from policies.point_encoder import PointEncoder
from robot_rl.core.specs import RobotSpec

GROUP_CHANNELS = 16
"""Channels per GroupNorm group in the camera backbones, after Wu and He (arXiv 1803.08494)."""


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // GROUP_CHANNELS, channels)


class ResidualBlock2d(nn.Module):
    """Two 3x3 convolutions and a shortcut (arXiv 1512.03385) with GroupNorm: batch statistics and EMA do not mix."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            _norm(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            _norm(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), _norm(channels_out)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Shape (B, channels_in, h, w) to (B, channels_out, h / stride, w / stride)."""
        out: Tensor = torch.relu(self.body(images) + self.shortcut(images))
        return out


def resnet18() -> tuple[nn.Sequential, int]:
    """An 18-layer residual network without its classifier: 512 channels at a 32nd of the resolution."""
    stem = [nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), _norm(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    widths = (64, 64, 128, 256, 512)
    blocks: list[nn.Module] = []
    for level, (before, after) in enumerate(itertools.pairwise(widths)):
        blocks += [ResidualBlock2d(before, after, 1 if level == 0 else 2), ResidualBlock2d(after, after, 1)]
    return nn.Sequential(*stem, *blocks), widths[-1]


def small_cnn() -> tuple[nn.Sequential, int]:
    """Three convolutions, 64 channels at a quarter of the resolution: trains on a laptop."""
    layers: list[nn.Module] = []
    for before, after, kernel, stride in ((3, 32, 5, 2), (32, 64, 3, 2), (64, 64, 3, 1)):
        convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        layers += [convolution, _norm(after), nn.ReLU()]
    return nn.Sequential(*layers), 64


class SpatialSoftmax(nn.Module):
    """Where each of several learnt features is: expected image coordinates in [-1, 1] (arXiv 1504.00702).

    Args:
        channels: Of the feature map.
        size: Height and width of the feature map.
        keypoints: Features located.
    """

    positions: Tensor

    def __init__(self, channels: int, size: tuple[int, int], keypoints: int) -> None:
        super().__init__()
        self.to_heat = nn.Conv2d(channels, keypoints, 1)
        y, x = (torch.linspace(-1, 1, each) if each > 1 else torch.zeros(1) for each in size)
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 2)
        self.register_buffer("positions", grid, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Shape (B, channels, h, w) to (B, 2 keypoints)."""
        attention = self.to_heat(features).flatten(2).softmax(dim=-1)
        located: Tensor = (attention @ self.positions).flatten(1)
        return located


class CameraEncoder(nn.Module):
    """Backbone, spatial softmax and a linear layer: (B, 3, *crop) in [-1, 1] to (B, features)."""

    def __init__(self, config: CameraConfig) -> None:
        super().__init__()
        self.backbone, channels = resnet18() if config.backbone == "resnet18" else small_cnn()
        with torch.no_grad():
            height, width = self.backbone(torch.zeros(1, 3, *config.crop)).shape[-2:]
        self.keypoints = SpatialSoftmax(channels, (height, width), config.keypoints)
        self.project = nn.Linear(2 * config.keypoints, config.features)

    def forward(self, images: Tensor) -> Tensor:
        """Crops in [-1, 1] (B, 3, height, width) to (B, features)."""
        features: Tensor = self.project(self.keypoints(self.backbone(images)))
        return features


class ObservationEncoder(nn.Module):
    """Every stream of `N` observations into one vector: low-dimensional streams, then cameras, then point clouds.

    Args:
        spec: Of the selected streams.
        config: The policy's.
    """

    def __init__(self, spec: RobotSpec, config: DiffusionPolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.cameras, self.point_clouds = spec.images, spec.point_clouds
        views = (*self.cameras, *self.point_clouds)
        self.low_dimensional = tuple(name for name in spec.observations if name not in views)
        self.state_size = sum(spec.observations[name].size for name in self.low_dimensional) * config.observation_count
        low_size = self.state_size
        self.state: nn.Module = nn.Identity()
        if config.state_features and low_size:
            width = config.state_features
            self.state = nn.Sequential(nn.Linear(low_size, width), nn.SiLU(), nn.Linear(width, width))
            low_size = width
        sizes = {name: (spec.observations[name].shape[0], spec.observations[name].shape[1]) for name in self.cameras}
        self.scalings = nn.ModuleList(ImageScaling(sizes[name], config.camera.image_size) for name in self.cameras)
        distinct = min(1, len(self.cameras)) if config.camera.shared else len(self.cameras)
        self.images = nn.ModuleList(CameraEncoder(config.camera) for _ in range(distinct))
        self.columns = {name: spec.observations[name].shape[1] for name in self.point_clouds}
        self.clouds = nn.ModuleList(PointEncoder(columns, config.points) for columns in self.columns.values())
        features = [config.camera.features] * len(self.cameras) + [config.points.features] * len(self.point_clouds)
        bottlenecks = features if config.auxiliary.bottleneck > 0 else []
        self.bottlenecks = nn.ModuleList(Bottleneck(size) for size in bottlenecks)
        self.output_size = low_size + sum(features) * config.observation_count

    def forward(
        self, normalized: Mapping[str, Tensor], frames: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> Tensor:
        """Encodes.

        Args:
            normalized: Low-dimensional streams and point clouds in [-1, 1]. Shapes (B, N, *shape).
            frames: Camera streams, uint8. Shapes (B, N, height, width, 3).
            generator: Crops at random places drawn from it and, in training mode, draws from the bottleneck; None
                crops the centre and takes the mean.

        Returns:
            Shape (B, C).
        """
        return self.encode(normalized, frames, generator).condition

    def encode(
        self, normalized: Mapping[str, Tensor], frames: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> Encoding:
        """As `forward`, with what the auxiliary losses need."""
        state = state_features = None
        parts: list[Tensor] = []
        if self.low_dimensional:
            state = torch.cat([normalized[name].flatten(1) for name in self.low_dimensional], dim=1)
            state_features = self.state(state)
            parts.append(state_features)
        views = []
        for index, name in enumerate((*self.cameras, *self.point_clouds)):
            if name in self.point_clouds:
                count = normalized[name].shape[1]
                seen = normalized[name].flatten(0, 1)
                mean = self.clouds[index - len(self.cameras)](seen)
            else:
                count = frames[name].shape[1]
                seen = self._crop(self.scalings[index](frames[name].flatten(0, 1)), count, generator)
                mean = self.images[0 if self.config.camera.shared else index](seen)
            views.append(self._view(index, name, seen, mean, generator))
            parts.append(views[-1].features.reshape(-1, count * mean.shape[-1]))
        return Encoding(torch.cat(parts, dim=1), tuple(views), state, state_features)

    def make_auxiliary(self) -> AuxiliaryLoss | None:
        """The losses beside imitation's that the config asks for; None if it asks for none.

        Raises:
            InvalidPolicyConfig: There is nothing that they could act on.
        """
        config = self.config
        if not config.auxiliary.on:
            return None
        learnt_state = (config.state_features, self.state_size) if config.state_features and self.state_size else None
        if not self.cameras and not self.point_clouds and (learnt_state is None or config.auxiliary.bottleneck > 0):
            raise InvalidPolicyConfig(
                "policy.auxiliary is for the encoders of cameras and point clouds, and no such stream is named: set "
                "its weights to 0, or add cameras or point_clouds to policy.streams"
            )
        cameras = dict.fromkeys(self.cameras, config.camera.features)
        clouds = {name: (config.points.features, columns) for name, columns in self.columns.items()}
        return AuxiliaryLoss(config.auxiliary, cameras, clouds, learnt_state)

    def _view(self, index: int, name: str, seen: Tensor, mean: Tensor, generator: torch.Generator | None) -> View:
        """A view as the policy is given it: sampled only in training, so that everything else sees one encoding."""
        if not len(self.bottlenecks):
            return View(name, seen, mean, None, mean)
        log_variance = self.bottlenecks[index](mean)
        if not self.training or generator is None:
            return View(name, seen, mean, log_variance, mean)
        return View(name, seen, mean, log_variance, draw(mean, log_variance, generator))

    def _crop(self, images: Tensor, frames_per_sample: int, generator: torch.Generator | None) -> Tensor:
        size = self.config.camera.crop
        if size == self.config.camera.image_size:
            return images
        if generator is None:
            return centre_crop(images, size)
        return random_crop(images, size, frames_per_sample, generator)
