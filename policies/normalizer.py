"""Robot units to the networks' [-1, 1] and back; its numbers travel with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray

ACTION = "action"
"""Key of the action's statistics, beside the streams'."""

CONSTANT_RANGE = 1e-6
"""Ranges below this share of max(1, largest magnitude) count as constant: about eight float32 roundings."""


class MissingStatistics(RobotRLError):
    """A policy was asked to learn or act before it knew the range of its data."""


class Scaling(nn.Module):
    """Min-max scaling of one array, element by element.

    A constant element maps to 0 whatever its value at run time (it carried no information in training), and 0 maps back
    to the constant.
    """

    centre: Tensor
    half_range: Tensor
    inverse: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        for name in ("centre", "half_range", "inverse"):
            self.register_buffer(name, torch.zeros(shape))

    def fit(self, low: AnyArray, high: AnyArray) -> None:
        """Sets the range that maps to [-1, 1]. Both of this scaling's shape."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        half_range = (high - low) / 2
        largest = np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
        constant = 2 * half_range <= CONSTANT_RANGE * largest
        half_range = np.where(constant, 0.0, half_range)
        inverse = np.divide(1.0, half_range, out=np.zeros_like(half_range), where=~constant)
        for buffer, values in ((self.centre, (low + high) / 2), (self.half_range, half_range), (self.inverse, inverse)):
            buffer.copy_(torch.from_numpy(values))

    def normalize(self, values: Tensor) -> Tensor:
        """Robot units to [-1, 1]. Shape (..., *shape)."""
        return (values.to(self.centre.dtype) - self.centre) * self.inverse

    def unnormalize(self, values: Tensor) -> Tensor:
        """[-1, 1] to robot units. Shape (..., *shape)."""
        return values * self.half_range + self.centre


class Normalizer(nn.Module):
    """Scalings of every low-dimensional stream and of the action, fitted once, before training.

    Args:
        shapes: Stream name, or `action`, to the shape of one value.
    """

    fitted: Tensor

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        # The prefix keeps stream names such as "type" apart from the attributes of ModuleDict.
        self.scalings = nn.ModuleDict({_module_name(key): Scaling(shape) for key, shape in shapes.items()})
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes the data's range.

        Args:
            statistics: Key to `{"min": ..., "max": ...}` of the key's shape, robot units; more keys may be there.

        Raises:
            MissingStatistics: A key is absent, of another shape, or not a finite range.
        """
        for key, shape in self.shapes.items():
            if key not in statistics:
                has = ", ".join(statistics) or "nothing"
                raise MissingStatistics(f"no statistics for '{key}'; they hold {has}: compute them with that stream")
            low, high = (np.asarray(statistics[key][name], dtype=np.float64) for name in ("min", "max"))
            if low.shape != shape or high.shape != shape:
                raise MissingStatistics(
                    f"statistics of '{key}' have shapes {low.shape} and {high.shape}, wanted {shape}"
                )
            if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
                raise MissingStatistics(f"statistics of '{key}' are no range: min {low.tolist()}, max {high.tolist()}")
            self._scaling(key).fit(low, high)
        self.fitted.fill_(True)

    def require_fitted(self) -> None:
        """Refuses to go on without statistics.

        Raises:
            MissingStatistics: `fit` was never called, here or before the weights were saved.
        """
        if not self.fitted.item():
            raise MissingStatistics("the policy has no statistics: call set_statistics, or load weights that hold them")

    def normalize(self, key: str, values: Tensor) -> Tensor:
        """Robot units to [-1, 1]. Shape (..., *shape)."""
        return self._scaling(key).normalize(values)

    def unnormalize(self, key: str, values: Tensor) -> Tensor:
        """[-1, 1] to robot units. Shape (..., *shape)."""
        return self._scaling(key).unnormalize(values)

    def _scaling(self, key: str) -> Scaling:
        scaling = self.scalings[_module_name(key)]
        assert isinstance(scaling, Scaling)
        return scaling


def _module_name(key: str) -> str:
    return "of_" + key.replace(".", "/")
