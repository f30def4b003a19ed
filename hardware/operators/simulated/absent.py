"""Nobody at the controls: the policy runs until the task or the time ends."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorCommand


class AbsentOperator:
    """An operator who never acts, labels or stops."""

    name = "none"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def poll(self, observation: Observation) -> OperatorCommand:
        """Always leaves the policy in control."""
        return OperatorCommand()
