"""Several residual networks of one shape that train and answer in one batched product.

Legend: `Z` members, `B` batch, `W` features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.value import EnsembleLinear


class EnsembleMlp(nn.Module):
    """A residual MLP per member: (Z, B, inputs) to (Z, B, outputs).

    Args:
        members: `Z`.
        inputs: Features in.
        outputs: Features out.
        width: Features of every hidden layer.
        blocks: Residual blocks of one layer each, normalised first.
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = EnsembleLinear(members, inputs, width)
        self.blocks = nn.ModuleList(EnsembleLinear(members, width, width) for _ in range(blocks))
        self.leave = EnsembleLinear(members, width, outputs)

    def forward(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Shapes (Z, B, inputs) to (Z, B, outputs); `members` names those that answer, in this order, None all."""
        features = _through(self.enter, inputs, members)
        for block in self.blocks:
            normalized = F.silu(F.layer_norm(features, features.shape[-1:]))
            features = features + _through(block, normalized, members)
        return _through(self.leave, F.silu(features), members)


def _through(layer: nn.Module, features: Tensor, members: Sequence[int] | None) -> Tensor:
    assert isinstance(layer, EnsembleLinear)
    if members is None:
        answer: Tensor = layer(features)
        return answer
    chosen = list(members)
    return torch.baddbmm(layer.bias[chosen], features, layer.weight[chosen])
