"""Networks that predict, from a noisy action chunk, its noise or the clean chunk.

Legend: `B` batch, `H` chunk length, `A` action dimension, `C` size of the observation encoding, `W` channels.
Both take `(noisy (B, H, A), timestep (B,), condition (B, C))` and return (B, H, A).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from policies.diffusion_config import DiffusionPolicyConfig, MlpConfig, UnetConfig


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep (arXiv 1706.03762, section 3.5) through a small MLP: (B,) to (B, features)."""

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        half = features // 2
        frequencies = torch.exp(torch.arange(half) * (-math.log(10_000.0) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, 4 * features), nn.SiLU(), nn.Linear(4 * features, features))

    def forward(self, timestep: Tensor) -> Tensor:
        """Timesteps (B,) to features (B, features)."""
        angles = timestep[:, None].to(self.frequencies.dtype) * self.frequencies
        embedded: Tensor = self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return embedded


class ResidualBlock(nn.Module):
    """Two layers around a shortcut, normalised first so that depth keeps a clean gradient path. (B, W) to (B, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Shapes (B, W) to (B, W)."""
        out: Tensor = features + self.body(features)
        return out


class MlpDenoiser(nn.Module):
    """Chunk, timestep and condition concatenated through residual blocks."""

    def __init__(self, horizon: int, action_size: int, condition_size: int, config: MlpConfig) -> None:
        super().__init__()
        self.time = TimestepEmbedding(config.time_features)
        chunk_size = horizon * action_size
        self.enter = nn.Linear(chunk_size + config.time_features + condition_size, config.width)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.leave = nn.Sequential(nn.LayerNorm(config.width), nn.SiLU(), nn.Linear(config.width, chunk_size))

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Shapes (B, H, A), (B,) and (B, C) to the raw output, (B, H, A)."""
        features = self.enter(torch.cat([noisy.flatten(1), self.time(timestep), condition], dim=-1))
        flat: Tensor = self.leave(self.blocks(features))
        return flat.reshape(noisy.shape)


class ConvBlock(nn.Sequential):
    """Convolution over time, GroupNorm, SiLU: (B, in, H) to (B, out, H)."""

    def __init__(self, channels_in: int, channels_out: int, config: UnetConfig) -> None:
        convolution = nn.Conv1d(channels_in, channels_out, config.kernel_size, padding=config.kernel_size // 2)
        super().__init__(convolution, nn.GroupNorm(config.groups, channels_out), nn.SiLU())


class FilmBlock(nn.Module):
    """Two convolutions around a shortcut, with scale and shift per channel between them (FiLM, arXiv 1709.07871)."""

    def __init__(self, channels_in: int, channels_out: int, condition_size: int, config: UnetConfig) -> None:
        super().__init__()
        self.before = ConvBlock(channels_in, channels_out, config)
        self.after = ConvBlock(channels_out, channels_out, config)
        self.film = nn.Sequential(nn.SiLU(), nn.Linear(condition_size, 2 * channels_out))
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Shapes (B, in, H) and (B, condition_size) to (B, out, H)."""
        scale, shift = self.film(condition)[:, :, None].chunk(2, dim=1)
        modulated = self.before(features) * (1 + scale) + shift
        out: Tensor = self.after(modulated) + self.shortcut(features)
        return out


class UnetDenoiser(nn.Module):
    """The conditional 1-D U-Net of Diffusion Policy (arXiv 2303.04137, section 3.1), written from its description.

    Each level has two FiLM blocks and halves the time axis, except the last; two more blocks sit at the bottom; the way
    up mirrors the way down and sees its features.
    """

    def __init__(self, action_size: int, condition_size: int, config: UnetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.time = TimestepEmbedding(config.time_features)
        size = config.time_features + condition_size

        def block(channels_in: int, channels_out: int) -> FilmBlock:
            return FilmBlock(channels_in, channels_out, size, config)

        self.down = nn.ModuleList(
            nn.ModuleList([block(before, after), block(after, after)])
            for before, after in zip((action_size, *widths), widths, strict=False)
        )
        self.shrink = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.bottom = nn.ModuleList([block(widths[-1], widths[-1]), block(widths[-1], widths[-1])])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * before, after), block(after, after)]) for before, after in pairs
        )
        self.grow = nn.ModuleList(nn.ConvTranspose1d(after, after, 4, stride=2, padding=1) for _, after in pairs)
        self.leave = nn.Sequential(ConvBlock(widths[0], widths[0], config), nn.Conv1d(widths[0], action_size, 1))

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Shapes (B, H, A), (B,) and (B, C) to the raw output, (B, H, A)."""
        seen = torch.cat([self.time(timestep), condition], dim=-1)
        features = noisy.transpose(1, 2)
        skipped: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            features = self._through(blocks, features, seen)
            skipped.append(features)
            if level < len(self.shrink):
                features = self.shrink[level](features)
        features = self._through(self.bottom, features, seen)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            features = self._through(blocks, torch.cat([features, skipped.pop()], dim=1), seen)
            features = grow(features)
        out: Tensor = self.leave(features)
        return out.transpose(1, 2)

    @staticmethod
    def _through(blocks: nn.Module, features: Tensor, condition: Tensor) -> Tensor:
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            features = block(features, condition)
        return features


def build_denoiser(action_size: int, condition_size: int, config: DiffusionPolicyConfig) -> nn.Module:
    """The network that the config names."""
    if config.denoiser == "unet":
        return UnetDenoiser(action_size, condition_size, config.unet)
    return MlpDenoiser(config.horizon, action_size, condition_size, config.mlp)
