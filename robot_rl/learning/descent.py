"""One optimiser step, the same for every algorithm: down a gradient that is clipped, and finite or nothing changes.

g = clip(grad loss),    w <- optimiser(w, g)                   a step, if the loss and |g| are finite
slow <- slow + share (fast - slow)                             the average that follows the weights
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robot_rl.core.errors import RobotRLError


class Diverged(RobotRLError):
    """A number that learning rests on is NaN or infinite. It has changed no weight."""


class Weighted(Protocol):
    """A `torch.nn.Module`, or what else has weights."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them, always in the same order."""


class Descent:
    """An optimiser and how its steps are taken.

    Args:
        name: What learns, for the error: `the critic`.
        optimizer: Over the weights that a step changes.
        remedy: What to do about a step that is not finite, for the error.
        clip: Largest norm of the gradient; None for no limit.
        accelerator: Scales and sums gradients, where the optimiser is one it has prepared.
    """

    def __init__(
        self,
        name: str,
        optimizer: torch.optim.Optimizer,
        remedy: str,
        clip: float | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self._name, self._optimizer, self._remedy = name, optimizer, remedy
        self._limit = math.inf if clip is None else clip
        self._accelerator = accelerator
        self._weights: list[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]

    def step(self, loss: Tensor, learning_rate: float | None = None) -> float:
        """One step down a loss.

        Args:
            loss: A scalar.
            learning_rate: Of this step and the following ones; None for the last one's.

        Returns:
            The gradient's norm before it was clipped.

        Raises:
            Diverged: The loss or its gradient is not finite. Under float16's gradient scaler it is not raised: the
                scaler leaves such a step out by itself and goes on with a smaller scale.
        """
        self._optimizer.zero_grad(set_to_none=True)
        norm = self._gradient(loss)
        value = float(loss.detach())
        if self._scaler is None and not (math.isfinite(value) and math.isfinite(norm)):
            self._optimizer.zero_grad(set_to_none=True)
            raise Diverged(
                f"{self._name}: the loss is {value:g} at step {self._steps() + 1}, its gradient norm {norm:g}: "
                f"{self._remedy}. No weight was changed"
            )
        if learning_rate is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """The optimiser's own, not a copy: the next step writes into it."""
        return self._optimizer.state_dict()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave, which stays as it is."""
        # The optimiser keeps the tensors it is given and writes into them: a state must survive being loaded.
        self._optimizer.load_state_dict(copy.deepcopy(dict(state)))

    def checkpoint(self) -> dict[str, Any]:
        """What an exact resume needs of a step that an accelerator takes: the optimiser and the gradient scaler."""
        scaler = self._scaler
        return {"optimizer": self.state(), "scaler": scaler.state_dict() if scaler is not None else {}}

    def load_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Takes back what `checkpoint` gave, from among what else a state holds."""
        self.load_state(state["optimizer"])
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return None if self._accelerator is None else self._accelerator.scaler

    def _gradient(self, loss: Tensor) -> float:
        """Computes and clips it. Returns its norm before."""
        if self._accelerator is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return float(nn.utils.clip_grad_norm_(self._weights, self._limit))
        self._accelerator.backward(loss)
        return float(self._accelerator.clip_grad_norm_(self._weights, self._limit))

    def _steps(self) -> int:
        """Steps taken, as Adam counts them in its state: right after a resume too."""
        return int(max((each["step"] for each in self._optimizer.state.values()), default=0))


@torch.no_grad()
def follow(slow: Weighted, fast: Weighted, share: float) -> None:
    """Moves the weights of a slow copy by a share of their distance to those it follows."""
    averages: list[Tensor] = [*slow.parameters()]
    torch._foreach_lerp_(averages, [*fast.parameters()], share)
