"""How far an arm may be behind its command: the part `limits.following` of a robot's yaml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from hardware.safety.dimensions import LimitError, dimension_name, per_dimension
from robot_rl.core import section
from robot_rl.core.section import Seconds, Wanted
from robot_rl.core.specs import ActionKind, RobotSpec

ROUNDING = 1e-6
MOST_AHEAD = 1.05
"""`following.wait` may let an arm that is let go move this much faster than its velocity limit, for what jitters."""
Distance = Annotated[
    float, Wanted("a distance of at least 0 (.inf for a binary dimension only)", lambda value: value >= 0.0)
]


@dataclass(frozen=True)
class FollowingLimits:
    """How far an arm may be behind its command, one value per action dimension, in action units.

    Attributes:
        lag_s: How long the arm and its driver take to show a command [s]. Shape (A,).
        wait: Beyond it the command waits for the arm: about `max_velocity * lag_s`, so that an arm that is let go
            makes good within its velocity limit. Infinite for BINARY dimensions. Shape (A,).
        fault: Beyond it the arm has a fault. Shape (A,).
    """

    lag_s: tuple[float, ...]
    wait: tuple[float, ...]
    fault: tuple[float, ...]

    @classmethod
    def parse(cls, spec: RobotSpec, document: object) -> FollowingLimits:
        """From a robot's yaml.

        Raises:
            LimitError: A key is unknown or missing, or a value makes no sense; names it.
        """
        known, where = tuple(cls.__dataclass_fields__), "limits.following"
        written = section.mapping(document, where, LimitError, f" with {', '.join(known)}")
        section.refuse_unknown(written, known, where, LimitError)
        section.require(written, known, where, LimitError, f" for robot '{spec.name}'; write it down")
        lag_s = _each(spec, "following.lag_s", written["lag_s"], Seconds)
        wait, fault = (_each(spec, f"following.{key}", written[key], Distance, math.inf) for key in ("wait", "fault"))
        for index, (one, other) in enumerate(zip(wait, fault, strict=True)):
            if spec.action_kinds[index] is not ActionKind.BINARY and not one < other:
                where = dimension_name(spec, index)
                raise LimitError(f"limits.following.fault of {where} is {other}, wanted more than its wait {one}")
        return cls(lag_s, wait, fault)

    def require_wait(self, index: int, where: str, speed: float, hz: float) -> None:
        """Refuses a wait that does not fit the velocity limit.

        Args:
            index: The action dimension.
            where: Its name.
            speed: Its velocity limit [action unit / s].
            hz: Rate of the commands [Hz].

        Raises:
            LimitError: It is shorter than ordinary motion needs, or so long that an arm that is let go is too fast.
        """
        wait, lag_s = self.wait[index], self.lag_s[index]
        if speed == 0.0:
            return
        # Right after a command, an arm that closes the gap like a first-order lag is behind by so much time.
        behind_s = 1.0 / hz / -math.expm1(-1.0 / (hz * lag_s))
        least, most = speed * lag_s, MOST_AHEAD * speed * behind_s
        if not least * (1 - ROUNDING) <= wait <= most * (1 + ROUNDING):
            raise LimitError(
                f"limits.following.wait of {where} is {wait:g}, wanted {least:.4g} to {most:.4g}: at {speed:.4g} per "
                f"second an arm that lags by {lag_s:g} s is that far behind; with less it would wait in ordinary "
                "motion, with more it would move faster than its limit when it is let go"
            )


def _each(spec: RobotSpec, field: str, value: object, wanted: Any, binary: float | None = None) -> tuple[float, ...]:
    """One number per dimension, where one stands for all; `binary` is what a BINARY dimension may be besides."""
    if isinstance(value, int | float):
        value = [value if binary is None or kind is not ActionKind.BINARY else binary for kind in spec.action_kinds]
    values, count = per_dimension(spec, field, value), spec.action.shape[0]
    if len(values) != count:
        raise LimitError(f"limits.{field} has {len(values)} values, wanted {count}, one per action dimension, or one")
    for index, each in enumerate(values):
        if each != binary or spec.action_kinds[index] is not ActionKind.BINARY:
            section.value_of(wanted, each, f"limits.{field} of {dimension_name(spec, index)}", LimitError)
    return tuple(map(float, values))
