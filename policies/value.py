"""Networks that say what a state, or a chunk of actions in it, is worth.

Layers are normalised: without LayerNorm a Q network extrapolates without bound to actions that the data does not hold
(RLPD, arXiv 2302.02948, section 4.2).

Legend: `B` batch, `C` size of the observation encoding, `n` executed rows of a chunk, `A` action dimension, `Z` members
of an ensemble, `W` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_SPREAD = 1e-3
"""Encoding elements that vary less count as constant: they are centred, not blown up."""


class EnsembleLinear(nn.Module):
    """One linear layer for each member of an ensemble, computed together.

    Args:
        members: Number of layers, `Z`.
        size_in: Features in.
        size_out: Features out.
    """

    def __init__(self, members: int, size_in: int, size_out: int) -> None:
        super().__init__()
        bound = size_in**-0.5
        self.weight = nn.Parameter(torch.empty(members, size_in, size_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, size_out).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Shape (Z, B, size_in), or (B, size_in) for all members alike, to (Z, B, size_out)."""
        if features.dim() == 2:
            features = features.expand(len(self.weight), *features.shape)
        return torch.baddbmm(self.bias, features, self.weight)


class EnsembleLayerNorm(nn.Module):
    """LayerNorm (arXiv 1607.06450) with a scale and a shift of their own for each member. (Z, B, W) to the same."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, features: Tensor) -> Tensor:
        """Shapes (Z, B, W) to (Z, B, W)."""
        return torch.addcmul(self.bias, F.layer_norm(features, features.shape[-1:]), self.weight)


class Standardizer(nn.Module):
    """Encodings to zero mean and unit spread, element by element; the identity until fitted. (B, C) to (B, C)."""

    mean: Tensor
    inverse: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("inverse", torch.ones(size))

    def fit(self, condition: Tensor) -> None:
        """Takes the data's mean and spread. Shape (M, C)."""
        spread = condition.std(dim=0, correction=0)
        self.mean.copy_(condition.mean(dim=0))
        self.inverse.copy_(torch.where(spread > SMALLEST_SPREAD, 1.0 / spread.clamp(min=SMALLEST_SPREAD), 1.0))

    def forward(self, condition: Tensor) -> Tensor:
        """Shapes (B, C) to (B, C)."""
        return (condition - self.mean) * self.inverse


class ValueEnsemble(nn.Module):
    """Several MLPs with one output each, over the same input, computed together: (B, in) to (Z, B).

    The last layer begins at zero, so that what the data never shows starts at the value of nothing.

    Args:
        members: Number of networks, `Z`.
        size_in: Features in.
        width: Of every hidden layer.
        blocks: Hidden layers.
    """

    def __init__(self, members: int, size_in: int, width: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(blocks):
            linear = EnsembleLinear(members, size_in if block == 0 else width, width)
            layers += [linear, EnsembleLayerNorm(members, width), nn.SiLU()]
        self.hidden = nn.Sequential(*layers)
        self.leave = EnsembleLinear(members, width if blocks else size_in, 1)
        with torch.no_grad():
            self.leave.weight.zero_()
            self.leave.bias.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Shapes (B, in) to (Z, B)."""
        values: Tensor = self.leave(self.hidden(features))
        return values[..., 0]


class QEnsemble(nn.Module):
    """What a chunk is worth in a state, by several networks.

    Args:
        members: Number of networks, `Z`.
        condition_size: `C`.
        rows: `n`.
        action_size: `A`.
        width: Of every hidden layer.
        blocks: Hidden layers.
    """

    def __init__(
        self, members: int, condition_size: int, rows: int, action_size: int, width: int = 256, blocks: int = 2
    ) -> None:
        super().__init__()
        self.standardizer = Standardizer(condition_size)
        self.networks = ValueEnsemble(members, condition_size + rows * action_size, width, blocks)

    def forward(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """Shapes (B, C) and (B, n, A), normalised, to (Z, B)."""
        values: Tensor = self.networks(torch.cat([self.standardizer(condition), chunk.flatten(1)], dim=-1))
        return values


class QNetwork(nn.Module):
    """What a chunk is worth in a state, by one network; arguments as `QEnsemble`'s."""

    def __init__(self, condition_size: int, rows: int, action_size: int, width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.ensemble = QEnsemble(1, condition_size, rows, action_size, width, blocks)

    @property
    def standardizer(self) -> Standardizer:
        """Scales the conditions; fit it before training."""
        return self.ensemble.standardizer

    def forward(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """Shapes (B, C) and (B, n, A), normalised, to (B,)."""
        values: Tensor = self.ensemble(condition, chunk)
        return values[0]


class ValueNetwork(nn.Module):
    """What a state is worth.

    Args:
        condition_size: `C`.
        width: Of every hidden layer.
        blocks: Hidden layers.
    """

    def __init__(self, condition_size: int, width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.standardizer = Standardizer(condition_size)
        self.network = ValueEnsemble(1, condition_size, width, blocks)

    def forward(self, condition: Tensor) -> Tensor:
        """Shape (B, C) to (B,)."""
        values: Tensor = self.network(self.standardizer(condition))
        return values[0]
