"""PointNet for a policy's point clouds, as 3D Diffusion Policy has it (arXiv 2403.03954, section 3.2).

Legend: `B` batch, `P` points, `D` columns of a point: 3, or 6 with its colour.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from policies.diffusion_config import PointConfig

POSITION_COLUMNS = 3


class PointEncoder(nn.Module):
    """The same small MLP for every point, the largest of each feature over the points, and a linear layer.

    The order of the points and how often one is repeated do not matter. No normalisation follows the last layer: a
    bottleneck's mean must be free to shrink.

    Args:
        columns: `D`.
        config: See `PointConfig`.
    """

    def __init__(self, columns: int, config: PointConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((columns, *config.widths)):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.per_point = nn.Sequential(*layers)
        self.project = nn.Linear(config.widths[-1], config.features)

    def forward(self, points: Tensor) -> Tensor:
        """Normalised points (B, P, D) to (B, features)."""
        # Unlike `max`, `amax` spreads the gradient evenly over points that are repeated.
        features: Tensor = self.project(self.per_point(points).amax(dim=1))
        return features


def with_colour_range(
    statistics: Mapping[str, Mapping[str, Any]], clouds: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """Statistics in which colours range from 0 to 1 whatever the data shows: light differs from day to day.

    Args:
        statistics: `min` and `max` per stream; a point cloud's of shape (D,).
        clouds: Names of the point clouds.
    """
    found: dict[str, Mapping[str, Any]] = dict(statistics)
    for name in set(clouds) & set(found):
        low, high = (np.array(found[name][key], dtype=np.float64) for key in ("min", "max"))
        low[..., POSITION_COLUMNS:], high[..., POSITION_COLUMNS:] = 0.0, 1.0
        found[name] = {**found[name], "min": low, "max": high}
    return found
