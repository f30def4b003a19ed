"""Camera frames from uint8 pixels to what an encoder sees: one arithmetic in training and in the exported graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robot_rl.core.errors import RobotRLError


def resampling_matrix(source: int, target: int) -> Tensor:
    """Weights that resize one axis by area: OpenCV's INTER_AREA where it shrinks, linear where it grows.

    Args:
        source: Pixels before.
        target: Pixels after.

    Returns:
        Shape (target, source), rows sum to 1.
    """
    scale = source / target
    if scale >= 1:
        starts = torch.arange(target, dtype=torch.float64)[:, None] * scale
        pixels = torch.arange(source, dtype=torch.float64)[None, :]
        overlap = torch.minimum(starts + scale, pixels + 1) - torch.maximum(starts, pixels)
        return (overlap.clamp(min=0) / scale).float()
    weights = torch.zeros(target, source)
    for row in range(target):
        position = min(max((row + 0.5) * scale - 0.5, 0.0), source - 1.0)
        left = min(math.floor(position), source - 2) if source > 1 else 0
        weights[row, left] = 1 - (position - left)
        if source > 1:
            weights[row, left + 1] = position - left
    return weights


class ImageScaling(nn.Module):
    """Resizes frames by area and scales them to [-1, 1].

    Two matrix products instead of an interpolation operator: every runtime computes them alike. Frames that already
    have the target size, such as a training cache's, pass unchanged.

    Args:
        source: Height and width of the camera's frames [px].
        target: Height and width afterwards [px].
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.register_buffer("rows", resampling_matrix(source[0], target[0]), persistent=False)
        self.register_buffer("columns", resampling_matrix(source[1], target[1]).T.contiguous(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames to channels-first floats.

        Args:
            frames: uint8, of the camera's size or of the target's. Shape (N, height, width, 3).

        Returns:
            Shape (N, 3, *target), in [-1, 1].
        """
        size = tuple(frames.shape[1:3])
        if frames.dtype != torch.uint8 or size not in (self.source, self.target):
            raise RobotRLError(
                f"camera frames are {frames.dtype} of {size}, wanted uint8 of {self.source} (the camera's) or "
                f"{self.target} (the encoder's)"
            )
        pixels = frames.to(self.rows.dtype)
        if size != self.target:
            count, height, width, channels = pixels.shape
            pixels = self.rows @ pixels.reshape(count, height, width * channels)
            pixels = pixels.reshape(count, self.target[0], width, channels).permute(0, 3, 1, 2) @ self.columns
        else:
            pixels = pixels.permute(0, 3, 1, 2)
        return pixels / 127.5 - 1.0


def centre_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The central part. Shapes (N, C, height, width) to (N, C, *size)."""
    top, left = (images.shape[-2] - size[0]) // 2, (images.shape[-1] - size[1]) // 2
    return images[..., top : top + size[0], left : left + size[1]]


def random_crop(images: Tensor, size: tuple[int, int], frames_per_sample: int, generator: torch.Generator) -> Tensor:
    """A random part, the same for all frames of a sample, so that motion between them is not hidden.

    Args:
        images: Samples one after the other, each with its frames. Shape (B * frames, C, height, width).
        size: Height and width of the part [px].
        frames_per_sample: Frames that share a crop.
        generator: Where the offsets come from.

    Returns:
        Shape (B * frames, C, *size).
    """
    samples = images.shape[0] // frames_per_sample
    offsets = [
        torch.randint(full - part + 1, (samples,), generator=generator, device=generator.device)
        .to(images.device)
        .repeat_interleave(frames_per_sample)
        for full, part in zip(images.shape[-2:], size, strict=True)
    ]
    rows, columns = (
        offset[:, None] + torch.arange(part, device=images.device) for offset, part in zip(offsets, size, strict=True)
    )
    frame = torch.arange(images.shape[0], device=images.device)[:, None, None]
    return images[frame, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
