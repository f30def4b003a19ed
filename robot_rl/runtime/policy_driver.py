"""Asks a policy for chunks and hands out their rows."""

from __future__ import annotations

from collections import deque

from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Policy
from robot_rl.core.specs import FloatArray
from robot_rl.runtime.cadence import CadenceRecorder
from robot_rl.runtime.chunk_schedule import ChunkSchedule
from robot_rl.runtime.inference import Inference


class PolicyDriver:
    """Turns a policy into one requested action per tick.

    A new chunk is asked for when `execute_horizon` ticks of the last one are used up: exactly then where inference
    takes no time, earlier by the expected latency where it does. Until it comes, the rest of the old chunk runs on.

    Args:
        policy: What to ask.
        inference: How to ask it.
        schedule: Where its chunks are merged.
        execute_horizon: Ticks to execute of each chunk; None is all of it.
        blend_ns: Cross-fade from one chunk to the next [ns].
        handover_ns: Cross-fade into the first chunk after somebody else had control [ns].
        cadence: Told of chunks, waiting and starving.
    """

    def __init__(
        self,
        policy: Policy,
        inference: Inference,
        schedule: ChunkSchedule,
        execute_horizon: int | None,
        blend_ns: int,
        handover_ns: int,
        cadence: CadenceRecorder,
    ) -> None:
        self._inference = inference
        self._schedule = schedule
        self._tick_ns = policy.spec.tick_ns
        self._execute_ns = None if execute_horizon is None else execute_horizon * self._tick_ns
        self._blend_ns = blend_ns
        self._handover_ns = handover_ns
        self._cadence = cadence
        self._history: deque[Observation] = deque(maxlen=policy.observation_count)
        self._used_up_ns: int | None = None
        self._fade_ns = blend_ns

    def see(self, observation: Observation) -> None:
        """Takes a tick's observation, whoever has control."""
        self._history.append(observation)

    def let_go(self) -> None:
        """Somebody else takes control: what was planned is void, and giving back begins with a fresh chunk."""
        self._inference.forget()
        self._schedule.clear()
        self._used_up_ns = None
        self._fade_ns = self._handover_ns

    def requested(self, now_ns: int, last_applied: FloatArray | None) -> FloatArray | None:
        """The policy's action for a tick, None if it has none. Shapes (A,).

        Raises:
            PolicyFault: It raised, answered nonsense or did not answer in time.
        """
        self._adopt(now_ns, last_applied)
        if self._should_ask(now_ns):
            self._inference.request(tuple(self._history))
            self._adopt(now_ns, last_applied)
        row = self._schedule.row(now_ns)
        if self._used_up_ns is None:
            self._cadence.waited()
        elif row is None:
            self._cadence.starved()
        return row

    def _should_ask(self, now_ns: int) -> bool:
        sees_now = bool(self._history) and self._history[-1].stamp_ns == now_ns
        is_due = self._used_up_ns is None or now_ns + self._inference.lead_ns >= self._used_up_ns
        return sees_now and is_due and not self._inference.busy

    def _adopt(self, now_ns: int, last_applied: FloatArray | None) -> None:
        answer = self._inference.take()
        if answer is None:
            return
        late_rows = self._schedule.splice(answer.chunk, now_ns, last_applied, self._fade_ns)
        self._cadence.chunk(answer.latency_ns, late_rows)
        self._fade_ns = self._blend_ns
        self._used_up_ns = self._schedule.runs_out_ns()
        if self._execute_ns is not None:
            self._used_up_ns = min(self._used_up_ns, now_ns + self._execute_ns)
