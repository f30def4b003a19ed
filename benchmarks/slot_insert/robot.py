"""SlotInsert2D: a point drives through a slot in a wall; the smallest task on which the whole method can be judged.

The point must pass a wall 0.15 m thick through a slot 0.10 m wide. It sees the slot exactly, yet its demonstrator
aims beside it by an amount that changes from episode to episode, so that imitation alone cannot do well and a critic
has good and bad attempts to tell apart. Every episode of a batch moves at once, in numpy.

Legend: `E` episodes, `T` ticks, `K` denoising steps, `H` chunk length, `n` executed rows, `A` = 2 action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from policies.diffusion import DiffusionPolicy
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Source, Stream
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.learning.collected import CollectedEpisode, SampledChunk

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

STREAM = "state"
WALL_X_M = 0.8
GOAL_X_M = 0.95
STEP_M = 0.1
"""Largest displacement per tick and axis [m]: an action of 1."""

SPEC = RobotSpec(
    name="slot_insert_2d",
    observations={STREAM: ArraySpec((4,), "float32", "m", names=("dx", "dy", "y_slot", "x"))},
    action=ArraySpec((2,), "float32", "0.1 m/tick", low=-1.0, high=1.0, names=("x", "y")),
    action_kinds=(ActionKind.RATE, ActionKind.RATE),
    control_hz=10.0,
)


@dataclass(frozen=True)
class SlotTask:
    """A variant of the task.

    Attributes:
        half_width: Of the slot [m].
        actuation_noise: Standard deviation added to every executed action [0.1 m/tick].
        ticks: Time limit.
        bias: Standard deviation over episodes of where the demonstrator aims beside the slot's centre [m].
        noise: Standard deviation of the demonstrator's hand [0.1 m/tick].
    """

    half_width: float = 0.05
    actuation_noise: float = 0.0
    ticks: int = 48
    bias: float = 0.06
    noise: float = 0.15


class Starts(NamedTuple):
    """Where episodes begin."""

    position: npt.NDArray[np.float64]
    """Shape (E, 2) [m]."""
    slot: npt.NDArray[np.float64]
    """Height of the slot's centre. Shape (E,) [m]."""


def draw_starts(episodes: int, generator: np.random.Generator) -> Starts:
    """Episodes' starts: left of the wall, the slot anywhere in its middle."""
    x, y = generator.uniform(0.0, 0.2, episodes), generator.uniform(-0.5, 0.5, episodes)
    return Starts(np.stack([x, y], axis=1), generator.uniform(-0.4, 0.4, episodes))


class SlotInsert2D:
    """A batch of episodes; those that have ended stand still.

    Args:
        task: The variant.
        starts: Where they begin.

    Attributes:
        success: Shape (E,).
        failure: Touched the wall. Shape (E,).
    """

    def __init__(self, task: SlotTask, starts: Starts) -> None:
        self.task = task
        self.success: Flags = np.zeros(len(starts.slot), dtype=bool)
        self.failure: Flags = np.zeros(len(starts.slot), dtype=bool)
        self._position = starts.position.copy()
        self._slot = starts.slot

    @property
    def running(self) -> Flags:
        """Episodes that have not ended. Shape (E,)."""
        return ~(self.success | self.failure)

    def observe(self) -> Floats:
        """(dx, dy, y_slot, x), the first two to the slot's mouth. Shape (E, 4)."""
        x, y = self._position.T
        return np.stack([WALL_X_M - x, self._slot - y, self._slot, x], axis=1).astype(np.float32)

    def step(self, action: Floats, disturbance: npt.NDArray[np.float64] | float = 0.0) -> Floats:
        """Moves every running episode.

        Args:
            action: Shape (E, 2); clipped to [-1, 1].
            disturbance: Added to the clipped action.

        Returns:
            What was applied, before the disturbance. Shape (E, 2).
        """
        applied = np.clip(action, -1.0, 1.0).astype(np.float32)
        move = np.where(self.running[:, None], STEP_M * (applied + disturbance), 0.0)
        before = self._position
        after = before + move
        crossing = (before[:, 0] < WALL_X_M) & (after[:, 0] >= WALL_X_M)
        share = np.divide(WALL_X_M - before[:, 0], move[:, 0], out=np.zeros(len(move)), where=crossing)
        mouth = before[:, 1] + share * move[:, 1]
        touched = crossing & (np.abs(mouth - self._slot) > self.task.half_width)
        touched |= (after[:, 0] >= WALL_X_M) & (np.abs(after[:, 1] - self._slot) > self.task.half_width)
        running = self.running
        self.failure |= running & touched
        self.success |= running & ~touched & (after[:, 0] > GOAL_X_M)
        self._position = after
        return applied


class Trace(NamedTuple):
    """What a batch of episodes did."""

    observation: Floats
    """Shape (T, E, 4)."""
    requested: Floats
    """Shape (T, E, 2)."""
    applied: Floats
    """Shape (T, E, 2)."""
    length: npt.NDArray[np.int64]
    """Ticks of each episode. Shape (E,)."""
    success: Flags
    failure: Flags


Driver = Callable[[int, Floats, Flags], Floats]
"""From tick, observations (E, 4) and which episodes run, to actions (E, 2)."""


def drive(task: SlotTask, starts: Starts, driver: Driver, generator: np.random.Generator) -> Trace:
    """Runs a batch of episodes to their ends or to the time limit."""
    world = SlotInsert2D(task, starts)
    length = np.zeros(len(starts.slot), dtype=np.int64)
    observed, requested, applied = [], [], []
    for tick in range(task.ticks):
        running = world.running
        if not running.any():
            break
        length += running
        observed.append(world.observe())
        requested.append(driver(tick, observed[-1], running).astype(np.float32))
        disturbance = task.actuation_noise * generator.standard_normal(requested[-1].shape)
        applied.append(world.step(requested[-1], disturbance))
    return Trace(np.stack(observed), np.stack(requested), np.stack(applied), length, world.success, world.failure)


def demonstrate(episodes: int, seed: int, task: SlotTask | None = None) -> list[Episode]:
    """Scripted demonstrations that aim beside the slot, differently in every episode; about 0.4 succeed."""
    task = task or SlotTask()
    generator = np.random.default_rng([seed, 1])
    starts = draw_starts(episodes, generator)
    bias = generator.normal(0.0, task.bias, episodes)

    def driver(tick: int, observation: Floats, running: Flags) -> Floats:
        """Forward as fast as what is left to go sideways allows, with a proportional, noisy hand."""
        aim = observation[:, 1] + bias
        forward = np.clip(observation[:, 0] / np.maximum(np.abs(aim), 0.1), 0.3, 0.6)
        sideways = np.clip(aim / STEP_M * 0.5, -1.0, 1.0)
        return np.stack([forward, sideways], axis=1) + generator.normal(0.0, task.noise, (episodes, 2))

    trace = drive(task, starts, driver, generator)
    return episodes_of(trace, seed, Source.OPERATOR)


def episodes_of(trace: Trace, seed: int, source: Source | npt.NDArray[np.uint8], policy: str = "") -> list[Episode]:
    """A batch's episodes as the library stores them; episode `i` is named by `seed` and its place.

    Args:
        trace: What happened.
        seed: Of the batch.
        source: Who drove, always or at every tick, shape (T, E).
        policy: Its name.
    """
    sources = np.broadcast_to(np.asarray(source, dtype=np.uint8), trace.requested.shape[:2])
    return [_episode(trace, index, seed, sources[:, index], policy) for index in range(len(trace.length))]


def _episode(trace: Trace, index: int, seed: int, source: npt.NDArray[np.uint8], policy: str) -> Episode:
    length = int(trace.length[index])
    stamps = np.arange(length, dtype=np.int64) * SPEC.tick_ns
    success, failure = bool(trace.success[index]), bool(trace.failure[index])
    reward = np.zeros(length, dtype=np.float32)
    reward[-1] = success
    reason = "through the slot" if success else "touched the wall" if failure else "time limit"
    result = EpisodeResult(
        outcome=Outcome.SUCCESS if success else Outcome.FAILURE,
        terminated=success or failure,
        truncated=not (success or failure),
        reason=reason,
        ticks=length,
        reward_sum=float(success),
        reward_max=float(success),
    )
    return Episode(
        spec=SPEC,
        header=EpisodeHeader("slot-insert", "script", policy, seed * 100_000 + index, "2026-01-01T00:00:00+00:00", "0"),
        result=result,
        stamps_ns=stamps,
        streams={STREAM: Stream(stamps, trace.observation[:length, index])},
        frame_index={STREAM: np.arange(length)},
        requested=trace.requested[:length, index],
        applied=trace.applied[:length, index],
        source=source[:length].copy(),
        reward=reward,
        filter_reasons=np.zeros(length, dtype=np.uint32),
    )


class ChunkPlayer:
    """Drives a batch with chunks that something else decides every `rows` ticks.

    Args:
        decide: From the newest observations (E, N, 4) to chunks in robot units (E, H, 2), at least `rows` long.
        rows: Executed per decision, `n`.
        observation_count: Newest observations seen at once, `N`.
    """

    def __init__(self, decide: Callable[[Floats], Floats], rows: int, observation_count: int = 1) -> None:
        self._decide, self._rows, self._count = decide, rows, observation_count
        self._chunk: Floats = np.zeros((0, 0, 2), dtype=np.float32)
        self._seen: list[Floats] = []

    def __call__(self, tick: int, observation: Floats, running: Flags) -> Floats:
        """A `Driver`."""
        self._seen = [*(self._seen or [observation] * self._count), observation][-self._count :]
        row = tick % self._rows
        if row == 0:
            self._chunk = self._decide(np.stack(self._seen, axis=1))
        return self._chunk[:, row]


class BatchOperator(Protocol):
    """Watches a batch of episodes and drives those that it does not trust the policy with."""

    def begin(self, episodes: int, rows: int, seed: int) -> None:
        """A new batch; the policy decides at every tick that is a multiple of `rows`, and drives first."""

    def __call__(self, tick: int, observation: Floats, running: Flags) -> tuple[Flags, Floats]:
        """Which episodes it drives at this tick, shape (E,), and what it does in them, shape (E, 2)."""


class SupervisedDriver:
    """Somebody drives while an operator watches; what the operator does not want, is done as if nobody watched.

    Args:
        driver: Drives all other episodes.
        operator: Has begun.
    """

    def __init__(self, driver: Driver, operator: BatchOperator) -> None:
        self._driver, self._operator = driver, operator
        self._source: list[npt.NDArray[np.uint8]] = []

    @property
    def source(self) -> npt.NDArray[np.uint8]:
        """Who drove at every tick so far. Shape (T, E)."""
        return np.stack(self._source)

    def __call__(self, tick: int, observation: Floats, running: Flags) -> Floats:
        """A `Driver`."""
        action = self._driver(tick, observation, running)
        driving, correction = self._operator(tick, observation, running)
        self._source.append(np.where(driving, Source.OPERATOR, Source.POLICY).astype(np.uint8))
        return np.where(driving[:, None], correction, action)


class Sampler:
    """Decides chunks with a diffusion policy and remembers its denoising chains.

    Args:
        policy: In evaluation mode, on the CPU.
        generator: Source of the noise, the same for every policy of one shape.
        explore: Makes the last denoising step noisy too.
    """

    def __init__(self, policy: DiffusionPolicy, generator: np.random.Generator, explore: bool) -> None:
        self._policy, self._generator = policy, generator
        steps, horizon, size = policy.noise_shape
        self._shape = (steps + explore, horizon, size)
        self.chains: list[Floats] = []
        """One per decision. Shapes (E, K + 1, H, A), normalised."""

    @torch.inference_mode()
    def __call__(self, observations: Floats) -> Floats:
        """Chunks in robot units. Shape (E, H, A)."""
        noise = self._generator.standard_normal((len(observations), *self._shape), dtype=np.float32)
        condition = self._policy.encode({STREAM: torch.from_numpy(observations)})
        chain = self._policy.denoise(condition, torch.from_numpy(noise)).states
        self.chains.append(chain.numpy())
        return self._policy.to_actions(chain[:, -1]).numpy()


def roll_out(
    policy: DiffusionPolicy,
    episodes: int,
    seed: int,
    explore: bool,
    task: SlotTask | None = None,
    operator: BatchOperator | None = None,
) -> list[CollectedEpisode]:
    """Acts in a batch of episodes and keeps what learning needs.

    What the policy decides for a tick at which the operator drives comes to nothing and is no decision.

    Args:
        policy: To act with.
        episodes: How many, `E`.
        seed: Of the starts and of the sampling noise; the same for every policy.
        explore: Makes the last denoising step noisy too, so that every one of the `K` steps has a density.
        task: The variant.
        operator: May take over; None for nobody.
    """
    trace, sampler, source = _run(policy, episodes, seed, explore, task or SlotTask(), operator)
    recorded = episodes_of(trace, seed, source, "exploring" if explore else "acting")
    rows = policy.execute_horizon
    return [
        CollectedEpisode(
            episode,
            tuple(
                SampledChunk(number * rows, chain[index])
                for number, chain in enumerate(sampler.chains)
                if explore and number * rows < len(episode) and episode.source[number * rows] == Source.POLICY
            ),
        )
        for index, episode in enumerate(recorded)
    ]


def outcomes(policy: DiffusionPolicy, episodes: int, seed: int, task: SlotTask | None = None) -> Flags:
    """Which of some fixed episodes succeed without exploration noise. Shape (E,)."""
    return _run(policy, episodes, seed, False, task or SlotTask())[0].success


def success_rate(policy: DiffusionPolicy, episodes: int, seed: int, task: SlotTask | None = None) -> float:
    """Share of `outcomes` that succeed."""
    return float(outcomes(policy, episodes, seed, task).mean())


def _run(
    policy: DiffusionPolicy,
    episodes: int,
    seed: int,
    explore: bool,
    task: SlotTask,
    operator: BatchOperator | None = None,
) -> tuple[Trace, Sampler, Source | npt.NDArray[np.uint8]]:
    """What happened, the policy's chains, and who drove, always or at every tick."""
    starts = draw_starts(episodes, np.random.default_rng([seed, 2]))
    sampler = Sampler(policy.eval(), np.random.default_rng([seed, 3]), explore)
    player = ChunkPlayer(sampler, policy.execute_horizon, policy.observation_count)
    disturbance = np.random.default_rng([seed, 4])
    if operator is None:
        return drive(task, starts, player, disturbance), sampler, Source.POLICY
    operator.begin(episodes, policy.execute_horizon, seed)
    supervised = SupervisedDriver(player, operator)
    trace = drive(task, starts, supervised, disturbance)
    return trace, sampler, supervised.source


def succeeded(episodes: Sequence[Episode]) -> list[Episode]:
    """Those labelled a success."""
    return [each for each in episodes if each.result.outcome is Outcome.SUCCESS]
