"""What keeps a visual encoder honest beside imitation: it must remember what it saw, and say no more than it needs.

RL-100 (arXiv 2510.14830) adds both to imitation, because an encoder trained by actions alone forgets whatever the
demonstrations do not need, and reinforcement learning then builds on it. Reconstruction decodes the encoding back to
the cloud (Chamfer distance), to a small picture and to the proprioception (squared error). The variational
information bottleneck (arXiv 1612.00410) samples the encoding around its mean in training; acting uses the mean.

Legend: `B` batch, `N` observations seen at once, `F` features of one view, `P` points, `D` columns of a point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policies.diffusion_config import AuxiliaryConfig

FIRST_LOG_VARIANCE = -4.0
"""Where training begins: a standard deviation of 0.14, so that imitation starts almost undisturbed."""
LOG_VARIANCE_RANGE = (-12.0, 4.0)


class View(NamedTuple):
    """One camera's or depth camera's frames and what the encoder makes of them."""

    stream: str
    seen: Tensor
    """Images (B N, 3, height, width) in [-1, 1], or points (B N, P, D), normalised."""
    mean: Tensor
    """Shape (B N, F)."""
    log_variance: Tensor | None
    """Shape (B N, F); None without a bottleneck."""
    features: Tensor
    """What the policy is given: a sample in training, else the mean. Shape (B N, F)."""


class Encoding(NamedTuple):
    """The conditioning vector, and what the auxiliary losses need of its making."""

    condition: Tensor
    """`c`, shape (B, C)."""
    views: tuple[View, ...]
    state: Tensor | None
    """Normalised low-dimensional streams end to end, shape (B, S); None where there are none."""
    state_features: Tensor | None
    """Their part of `c`."""


class Bottleneck(nn.Module):
    """A Gaussian around each feature; its variance is learnt as a function of the features, which are its mean."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_variance = nn.Linear(features, features)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, FIRST_LOG_VARIANCE)

    def forward(self, mean: Tensor) -> Tensor:
        """Log-variance of shape (B, F) for means of that shape."""
        log_variance: Tensor = self.log_variance(mean).float().clamp(*LOG_VARIANCE_RANGE)
        return log_variance


def draw(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """A sample that gradients pass through (arXiv 1312.6114, section 2.4). Shapes (B, F)."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def divergence_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence from the standard normal (arXiv 1312.6114, appendix B) [nat]. Shapes (B, F) to (B,)."""
    mean = mean.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def chamfer_distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of each point to the other cloud's nearest, both ways. (B, P, D), (B, Q, D) to (B,)."""
    with torch.no_grad():
        apart = torch.cdist(one, other)
        to_other, to_one = apart.argmin(dim=2), apart.argmin(dim=1)

    def nearest(points: Tensor, index: Tensor) -> Tensor:
        return points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))

    there = (one - nearest(other, to_other)).square().sum(dim=2).mean(dim=1)
    back = (other - nearest(one, to_one)).square().sum(dim=2).mean(dim=1)
    return there + back


class Decoder(nn.Module):
    """Two hidden layers from an encoding to an array: (B, features) to (B, *shape)."""

    def __init__(self, features: int, shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.layers = nn.Sequential(
            nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, math.prod(self.shape)),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Shapes (B, features) to (B, *shape)."""
        return torch.unflatten(self.layers(features).float(), 1, self.shape)


class AuxiliaryLoss(nn.Module):
    """The weighted sum of reconstruction and bottleneck; holds the decoders, which nothing but training uses.

    Args:
        config: See `AuxiliaryConfig`.
        cameras: Camera stream to features per frame.
        clouds: Point cloud stream to features per frame and columns of a point.
        state: Features and size of the low-dimensional streams' part of the encoding; None where they are handed on
            as they are, hence cannot be forgotten.
    """

    def __init__(
        self,
        config: AuxiliaryConfig,
        cameras: dict[str, int],
        clouds: dict[str, tuple[int, int]],
        state: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.config = config
        width, on = config.width, config.reconstruction > 0
        shapes: dict[str, tuple[int, tuple[int, ...]]] = {
            **{name: (features, (3, *config.image_size)) for name, features in cameras.items()},
            **{name: (features, (config.points, columns)) for name, (features, columns) in clouds.items()},
        }
        self.streams = tuple(shapes) if on else ()
        self.views = nn.ModuleList(Decoder(*shapes[name], width) for name in self.streams)
        self.state = Decoder(state[0], (state[1],), width) if on and state is not None else None

    def forward(self, encoding: Encoding) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to add to imitation's, and detached metrics."""
        metrics: dict[str, Tensor] = {}
        total = encoding.condition.new_zeros(())
        if self.config.reconstruction > 0:
            metrics["reconstruction"] = self._reconstruction(encoding)
            total = total + self.config.reconstruction * metrics["reconstruction"]
        spread = [
            divergence_from_prior(view.mean, view.log_variance).mean()
            for view in encoding.views
            if view.log_variance is not None
        ]
        if spread:
            metrics["bottleneck"] = torch.stack(spread).mean()
            total = total + self.config.bottleneck * metrics["bottleneck"]
        return total, {name: value.detach() for name, value in metrics.items()}

    def _reconstruction(self, encoding: Encoding) -> Tensor:
        """Mean over views, plus the proprioception's error."""
        by_stream = {view.stream: view for view in encoding.views}
        errors = [
            self._view_error(decoder(by_stream[name].features), by_stream[name].seen)
            for name, decoder in zip(self.streams, self.views, strict=True)
        ]
        error = torch.stack(errors).mean() if errors else encoding.condition.new_zeros(())
        if self.state is not None and encoding.state is not None and encoding.state_features is not None:
            error = error + (self.state(encoding.state_features) - encoding.state).square().mean()
        return error

    def _view_error(self, decoded: Tensor, seen: Tensor) -> Tensor:
        if decoded.ndim == 3:
            return chamfer_distance(decoded, seen.float()).mean()
        small = nn.functional.adaptive_avg_pool2d(seen.float(), self.config.image_size)
        return (decoded - small).square().mean()
