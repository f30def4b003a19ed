"""Several networks of one shape that train and answer in one batched product.

Legend: `E` members, `B` batch, `W` features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleLinear(nn.Module):
    """One linear layer per member: (E, B, inputs) to (E, B, outputs).

    Args:
        members: `E`.
        inputs: Features in.
        outputs: Features out.
        generator: Draws the first weights, uniform within 1 / sqrt(inputs) as `nn.Linear` does.
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound, generator=generator))

    def forward(self, features: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """See the class; `members` names those that answer, in the order of `features`, None all."""
        if members is None:
            return torch.baddbmm(self.bias, features, self.weight)
        chosen = list(members)
        return torch.baddbmm(self.bias[chosen], features, self.weight[chosen])


class EnsembleMlp(nn.Module):
    """A residual MLP per member: (E, B, inputs) to (E, B, outputs).

    Args:
        members: `E`.
        inputs: Features in.
        outputs: Features out.
        width: Features of every hidden layer.
        blocks: Residual blocks of one layer each, normalised first.
        generator: Draws the first weights.
    """

    def __init__(
        self, members: int, inputs: int, outputs: int, *, width: int, blocks: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.enter = EnsembleLinear(members, inputs, width, generator)
        self.blocks = nn.ModuleList(EnsembleLinear(members, width, width, generator) for _ in range(blocks))
        self.leave = EnsembleLinear(members, width, outputs, generator)

    def forward(self, inputs: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """See the class; `members` as for `EnsembleLinear`."""
        features = self.enter(inputs, members)
        for block in self.blocks:
            features = features + block(F.silu(F.layer_norm(features, features.shape[-1:])), members)
        answer: Tensor = self.leave(F.silu(features), members)
        return answer
