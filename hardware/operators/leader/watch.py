"""Whether a leader arm moves as an arm can: one whose reading jumps is lost, and is not followed to where it jumped.

A leader tells positions, and a joint whose encoder wraps, whose servo does not answer or whose bus garbles a byte tells
a false one. What is heard on a topic has been judged sample by sample before; this judges whatever is about to be
followed, from any leader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hardware.operators.layout import LayoutError
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.plausibility import SEVERAL, Plausibility
from robot_rl.core.specs import ArraySpec, FloatArray

Bound = float | Sequence[float] | None


class LeaderWatch:
    """Compares every reading of a leader with the one before.

    Args:
        joints: The leader's, as readings name them.
        max_speed: Faster than a person moves any of them, one number or one per joint [1/s].
        margin: By how much two readings may differ beyond that, likewise.

    Raises:
        LayoutError: A bound is missing or is none.
    """

    def __init__(self, joints: Sequence[str], max_speed: Bound, margin: Bound) -> None:
        self._joints = tuple(joints)
        self._bound = _bound(self._joints, max_speed, margin)
        self._lost = ""
        self._agreeing = 0
        self._last: tuple[int, FloatArray] | None = None

    def forget(self) -> None:
        """The next reading has nothing to be compared with: the leader was silent."""
        self._lost, self._agreeing, self._last = "", 0, None

    def problem(self, positions: Mapping[str, float], stamp_ns: int) -> str:
        """Why the leader must not be followed, in words; empty if it may.

        Once a reading jumped, that lasts until several in a row agree with each other, wherever they are.

        Args:
            positions: Joint to position, every joint.
            stamp_ns: When it was there [ns].
        """
        value = np.array([positions[joint] for joint in self._joints], dtype=np.float64)
        if self._last is not None and stamp_ns == self._last[0] and np.array_equal(value, self._last[1]):
            return self._lost
        found = str(self._bound.unfit(value) or "")
        if not found and self._last is not None:
            found = self._bound.problem(self._last[1], self._last[0], value, stamp_ns)
        self._last = (stamp_ns, value)
        self._agreeing = 0 if found else self._agreeing + 1
        if found:
            self._lost = self._lost or found
        elif self._agreeing >= SEVERAL:
            self._lost = ""
        return self._lost


def _bound(joints: tuple[str, ...], max_speed: Bound, margin: Bound) -> Plausibility:
    wanted = "give operator.max_speed and operator.margin, one number or one per joint of the leader, above 0"
    if max_speed is None or margin is None:
        raise LayoutError(f"operator.max_speed is {max_speed}, operator.margin is {margin}; {wanted}")
    speed, slack = (tuple(each) if isinstance(each, Sequence) else each for each in (max_speed, margin))
    try:
        spec = ArraySpec((len(joints),), "float64", "rad", names=joints, max_speed=speed, margin=slack)
        bound = Plausibility.for_spec(spec)
    except (SpecMismatch, TypeError, ValueError) as error:
        raise LayoutError(
            f"operator.max_speed is {max_speed}, operator.margin is {margin} ({error}); {wanted}"
        ) from None
    assert bound is not None
    return bound
