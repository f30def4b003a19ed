"""Asking a policy for chunks, at once in simulated time and in a thread of its own in real time.

Both ways look the same from the tick: `request` with the newest observations, `take` whatever is ready. A policy that
raises, answers nonsense or does not answer is a `PolicyFault`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Policy
from robot_rl.core.specs import NS_PER_S, RobotSpec

REMEMBERED_LATENCIES = 32
"""How many inferences the expected latency looks back on."""
JOIN_TIMEOUT_S = 1.0
"""How long a finished episode waits for the inference in flight."""


class PolicyFault(RobotRLError):
    """A policy that raised, answered nonsense or did not answer."""


class Answer(NamedTuple):
    """A checked chunk and how long the policy took for it [ns]."""

    chunk: ActionChunk
    latency_ns: int


class Inference(Protocol):
    """Where chunks come from."""

    @property
    def busy(self) -> bool:
        """Whether an answer that is still wanted is on its way."""

    @property
    def lead_ns(self) -> int:
        """How long before a chunk is needed it should be asked for [ns]."""

    def request(self, history: Sequence[Observation]) -> None:
        """Asks for a chunk from these observations, oldest first; replaces a request not yet begun."""

    def take(self) -> Answer | None:
        """The newest answer since the last call, if there is one. Never waits.

        Raises:
            PolicyFault: The policy raised, answered nonsense or did not answer in time.
        """

    def forget(self) -> None:
        """Makes every request so far void: its answer, when it comes, is dropped."""

    def close(self) -> None:
        """Ends the episode's inference."""


def check_chunk(chunk: object, spec: RobotSpec) -> ActionChunk:
    """A policy's answer, if a robot can execute it.

    Raises:
        PolicyFault: Not a chunk, wrong shape, no rows, or NaN or infinity in it; says which.
    """
    if not isinstance(chunk, ActionChunk) or not isinstance(chunk.values, np.ndarray):
        raise PolicyFault(f"the policy answered with {type(chunk).__name__}, wanted an ActionChunk of a numpy array")
    values = chunk.values
    if values.ndim != 2 or values.shape[1] != spec.action.size or len(values) == 0:
        raise PolicyFault(f"the policy's chunk has shape {values.shape}, wanted (H, {spec.action.size}) with H >= 1")
    if not np.issubdtype(values.dtype, np.floating):
        raise PolicyFault(f"the policy's chunk has dtype {values.dtype}, wanted a floating type")
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise PolicyFault(f"the policy's chunk holds {values[row, column]} in row {row}, action {column}")
    return chunk


def _ask(policy: Policy, history: Sequence[Observation], timer: Callable[[], int]) -> Answer:
    """One inference. Whatever a policy raises is its fault, so everything but an interrupt is caught here."""
    begun_ns = timer()
    try:
        chunk = policy.act(history)
    except Exception as error:
        raise PolicyFault(f"the policy raised {type(error).__name__}: {error}") from error
    return Answer(check_chunk(chunk, policy.spec), timer() - begun_ns)


class InlineInference:
    """Answers inside `request`, which takes no virtual time: deterministic. A hanging policy hangs the caller.

    Args:
        policy: Its `act` is called by the caller's thread.
        timer: Measures latency for the report only [ns].
    """

    busy = False
    lead_ns = 0

    def __init__(self, policy: Policy, timer: Callable[[], int]) -> None:
        self._policy = policy
        self._timer = timer
        self._answer: Answer | None = None

    def request(self, history: Sequence[Observation]) -> None:
        """Asks the policy at once and keeps its answer.

        Raises:
            PolicyFault: The policy raised or answered nonsense.
        """
        self._answer = _ask(self._policy, history, self._timer)

    def take(self) -> Answer | None:
        """The answer, once."""
        answer, self._answer = self._answer, None
        return answer

    def forget(self) -> None:
        """Drops the answer."""
        self._answer = None

    def close(self) -> None:
        """Nothing runs beside the tick."""


class _Request(NamedTuple):
    history: Sequence[Observation]
    epoch: int


class ThreadedInference:
    """Runs a policy in one thread of its own; request and answer are slots in which the newest replaces the older.

    A thread cannot be ended from outside. One that hangs is left behind as a daemon and its answer is ignored, so the
    policy must not be used again afterwards.

    Args:
        policy: Its `act` is called only by the new thread.
        timer: Monotonic [ns].
        timeout_s: A request unanswered for longer is a fault [s].
        tick_ns: Added to the expected latency, because answers are only looked at once per tick [ns].
    """

    def __init__(self, policy: Policy, timer: Callable[[], int], timeout_s: float, tick_ns: int) -> None:
        self._policy = policy
        self._timer = timer
        self._timeout_ns = round(timeout_s * NS_PER_S)
        self._tick_ns = tick_ns
        self._latencies_ns: deque[int] = deque(maxlen=REMEMBERED_LATENCIES)
        self._changed = threading.Condition()
        self._request: _Request | None = None
        self._answer: Answer | PolicyFault | None = None
        self._waiting_since_ns: int | None = None
        self._epoch = 0
        self._wanted = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether the thread has still to answer."""
        return self._wanted

    @property
    def lead_ns(self) -> int:
        """Longest of the last latencies plus a tick [ns]."""
        return max(self._latencies_ns, default=0) + self._tick_ns

    def request(self, history: Sequence[Observation]) -> None:
        """Wakes the thread, unless it is still at an earlier request, which this one then follows."""
        with self._changed:
            self._request = _Request(tuple(history), self._epoch)
            self._wanted = True
            if self._waiting_since_ns is None:
                self._waiting_since_ns = self._timer()
            self._changed.notify()

    def take(self) -> Answer | None:
        """The newest answer, once; never waits.

        Raises:
            PolicyFault: The policy raised, answered nonsense or did not answer in time.
        """
        with self._changed:
            answer, self._answer = self._answer, None
            since_ns = self._waiting_since_ns
        if isinstance(answer, PolicyFault):
            raise answer
        if answer is None and since_ns is not None and self._timer() - since_ns > self._timeout_ns:
            raise PolicyFault(
                f"the policy has not answered for {self._timeout_ns / NS_PER_S:g} s; restart to use it again"
            )
        return answer

    def forget(self) -> None:
        """Whatever the thread is at, its answer is dropped."""
        with self._changed:
            self._epoch += 1
            self._request = None
            self._wanted = False
            if not isinstance(self._answer, PolicyFault):
                self._answer = None

    def close(self) -> None:
        """Waits a little for the inference in flight, so that the policy is free again."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(JOIN_TIMEOUT_S)

    @property
    def hangs(self) -> bool:
        """Whether the policy is still busy although `close` waited for it."""
        return self._closed and self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._request is None and not self._closed:
                    self._changed.wait()
                request, self._request = self._request, None
            if self._closed or request is None:
                return
            answer: Answer | PolicyFault
            try:
                answer = _ask(self._policy, request.history, self._timer)
            except PolicyFault as fault:
                answer = fault
            self._deliver(answer, request.epoch)

    def _deliver(self, answer: Answer | PolicyFault, epoch: int) -> None:
        with self._changed:
            self._waiting_since_ns = None if self._request is None else self._timer()
            if isinstance(answer, Answer):
                self._latencies_ns.append(answer.latency_ns)
            if epoch == self._epoch:
                self._wanted = self._request is not None
                self._answer = answer
            elif isinstance(answer, PolicyFault):
                self._answer = answer
