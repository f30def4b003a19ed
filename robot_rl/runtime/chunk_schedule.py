"""Which row of which action chunk is due now.

Rows carry times. A row is sent `action_latency_ns` before its time, so that the arm moves when the row says; what
could only be sent late is dropped. A chunk that arrives while another is being executed is cross-faded with it once,
on arrival, into a single plan: executing is then nothing but reading the plan at a time that only grows, so no row can
run twice, late or out of order.

Legend: `H` chunk length, `A` action dimension.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import ActionChunk
from robot_rl.core.specs import ActionKind, FloatArray, RobotSpec


def smooth_weight(fraction: float) -> float:
    """Weight of the new motion, from 0 to 1 with zero slope at both ends, so that velocity stays continuous too."""
    fraction = min(max(fraction, 0.0), 1.0)
    return fraction * fraction * (3.0 - 2.0 * fraction)


def mix(spec: RobotSpec, old: FloatArray, new: FloatArray, weight: float) -> FloatArray:
    """Part `weight` of a new action and the rest of an old one: positions as positions, rates as rates.

    A binary channel is always the new one's, since half a gripper command means nothing. Shapes (A,).
    """
    binary = spec.kind_mask(ActionKind.BINARY)
    mixed = np.where(binary, new, (1.0 - weight) * old.astype(np.float64) + weight * new.astype(np.float64))
    return mixed.astype(spec.action.dtype)


class ChunkSchedule:
    """The rows still to be executed, merged from every chunk that arrived.

    Args:
        spec: The robot's.
        action_latency_ns: From sending an action to the arm moving [ns].
    """

    def __init__(self, spec: RobotSpec, action_latency_ns: int = 0) -> None:
        self._spec = spec
        self._tick_ns = spec.tick_ns
        self._action_latency_ns = action_latency_ns
        self._start_ns = 0
        self._rows: npt.NDArray[np.floating] = self._no_rows()

    def clear(self) -> None:
        """Forgets every row."""
        self._rows = self._no_rows()

    def splice(self, chunk: ActionChunk, now_ns: int, last_applied: FloatArray | None, fade_ns: int) -> int:
        """Makes a chunk the plan from now on, cross-faded with what was planned before.

        Where the old plan has no row the new one fades in from the action that is being applied. Nothing is faded if
        neither exists.

        Args:
            chunk: Checked values (H, A); row `i` is for `start_ns + i * tick_ns`.
            now_ns: The tick [ns].
            last_applied: Shape (A,), None if nothing was applied yet.
            fade_ns: Duration of the cross-fade, 0 for none [ns].

        Returns:
            Number of rows dropped because they were late.
        """
        if now_ns >= self.runs_out_ns():
            # After starving, the filter may have brought the arm elsewhere than the last row said.
            self.clear()
        due_ns = now_ns + self._action_latency_ns
        late = min(len(chunk.values), max(0, self._index_from(due_ns, chunk.start_ns)))
        start_ns = chunk.start_ns + late * self._tick_ns
        rows = np.array(chunk.values[late:], dtype=self._spec.action.dtype)
        fading_rows = min(len(rows), -(-fade_ns // self._tick_ns))
        for index in range(fading_rows):
            stamp_ns = start_ns + index * self._tick_ns
            old = self._planned(stamp_ns, last_applied)
            if old is not None:
                # One tick ahead, so that already the first row has a share in the new motion.
                weight = smooth_weight((stamp_ns - start_ns + self._tick_ns) / (fade_ns + self._tick_ns))
                rows[index] = mix(self._spec, old, rows[index], weight)
        self._start_ns, self._rows = start_ns, rows
        return late

    def row(self, now_ns: int) -> FloatArray | None:
        """The action to send at a tick, None if the plan has none for it. Shape (A,)."""
        due_ns = now_ns + self._action_latency_ns
        index = self._index_from(due_ns, self._start_ns)
        is_due = 0 <= index < len(self._rows) and self._start_ns + index * self._tick_ns < due_ns + self._tick_ns
        return self._rows[index].copy() if is_due else None

    def runs_out_ns(self) -> int:
        """First time at which the plan has nothing to send [ns]; meaningless when cleared."""
        return self._start_ns + len(self._rows) * self._tick_ns - self._action_latency_ns

    def _planned(self, stamp_ns: int, last_applied: FloatArray | None) -> FloatArray | None:
        """The old plan at a row's time, at rest beyond its end; without a plan the action being applied."""
        if not len(self._rows):
            return last_applied
        nearest = (stamp_ns - self._start_ns + self._tick_ns // 2) // self._tick_ns
        if nearest < len(self._rows):
            old: FloatArray = self._rows[max(0, nearest)]
            return old
        return self._spec.hold(self._rows[-1])

    def _index_from(self, stamp_ns: int, start_ns: int) -> int:
        """Index of the first row not before a time, counted from `start_ns`; negative if that row is before it."""
        return -((start_ns - stamp_ns) // self._tick_ns)

    def _no_rows(self) -> FloatArray:
        return np.zeros((0, self._spec.action.size), dtype=self._spec.action.dtype)
