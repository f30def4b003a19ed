"""A small robot, filter, policy, operator and sink that behave, for the tests of the running episode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import ActionChunk, EpisodeHeader, EpisodeResult, Observation, Step
from robot_rl.core.errors import StaleSensor
from robot_rl.core.protocols import Judgement, OperatorCommand
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.runtime.rollout import run_episode

MS = 1_000_000
TICK_NS = 100 * MS
SILENCE = OperatorCommand()
HEADER = EpisodeHeader("reach", "nobody", "", 0, "2026-11-20T00:00:00Z", "0")


def spec_at(control_hz: float) -> RobotSpec:
    return RobotSpec(
        "slider",
        {"state": ArraySpec((3,), "float32", "m,m,1"), "image": ArraySpec((2, 2, 3), "uint8", "rgb")},
        ArraySpec((3,), "float32", "m,m/tick,1", low=-1.0, high=1.0),
        (ActionKind.POSITION, ActionKind.RATE, ActionKind.BINARY),
        control_hz,
    )


SPEC = spec_at(10.0)


class Slider:
    """One positioned axis, one driven by rates, one gripper. Success is having both axes near 0.5; it judges itself.

    Args:
        spec: Of the shape of `SPEC`.
        camera_freezes: Tick from which the camera's frame stays the same and grows old.
        blind: Ticks at which `observe` raises.
        fails: Tick at which `apply` raises.
    """

    simulated_time = True

    def __init__(
        self,
        spec: RobotSpec = SPEC,
        camera_freezes: int | None = None,
        blind: Sequence[int] | range = (),
        fails: int | None = None,
    ) -> None:
        self.spec = spec
        self.camera_freezes = camera_freezes
        self.blind = blind
        self.fails = fails
        self.executed: list[np.ndarray] = []
        self.stops = 0
        self.observed = 0
        self.position = np.zeros(3, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.stop()

    def reset(self, seed: int) -> None:
        self.position = np.append(np.random.default_rng(seed).uniform(-0.5, 0.0, 2), 0.0).astype(np.float32)
        self.executed, self.observed = [], 0

    def observe(self, tick_ns: int) -> Observation:
        tick, self.observed = self.observed, self.observed + 1
        if tick in self.blind:
            raise StaleSensor("state is 400 ms old, limit is 50 ms")
        age_ns = 0 if self.camera_freezes is None else max(0, tick - self.camera_freezes) * self.spec.tick_ns
        values = {"state": self.position.copy(), "image": np.full((2, 2, 3), tick % 256, np.uint8)}
        return Observation(tick_ns, values, {"state": 0, "image": age_ns})

    def apply(self, action: np.ndarray) -> np.ndarray:
        if len(self.executed) == self.fails:
            raise ConnectionError("the arm has gone away")
        assert self.spec.action.problem_with(action) is None
        executed = np.clip(action, -1.0, 1.0)
        self.position[[0, 2]] = executed[[0, 2]]
        self.position[1] += executed[1]
        self.executed.append(executed)
        return executed

    def judge(self) -> Judgement:
        away = float(np.abs(self.position[:2] - 0.5).max())
        return Judgement(-away, away < 0.02, away < 0.02)

    def stop(self) -> None:
        self.stops += 1


class BrakingFilter:
    """Passes sound requests through; without one, or when blind or silent, halves the last step every tick.

    A stream older than `fault_age_ns` latches a fault.
    """

    reason_names: Mapping[int, str] = {1: "missing", 2: "invalid", 4: "stale", 8: "deadman"}
    doubt = ""

    def __init__(self, spec: RobotSpec = SPEC, max_age_ns: int = 250 * MS, fault_age_ns: int = 500 * MS) -> None:
        self.spec, self.max_age_ns, self.fault_age_ns = spec, max_age_ns, fault_age_ns
        self.rate = spec.kind_mask(ActionKind.RATE)
        self.binary = spec.kind_mask(ActionKind.BINARY)
        self.elapsed_s: list[float] = []
        self.fault: str | None = None

    def reset(self, observation: Observation) -> None:
        self.last = np.where(self.rate, 0.0, observation.values["state"])
        self.step = np.zeros(3)

    @property
    def at_rest(self) -> bool:
        return not self.step.any()

    def __call__(
        self, requested: np.ndarray | None, observation: Observation | None, dt_s: float, operator_alive: bool
    ) -> tuple[np.ndarray, int]:
        self.elapsed_s.append(dt_s)
        reasons = 1 if requested is None else 0 if self.spec.action.problem_with(requested) is None else 2
        age_ns = max(observation.age_ns.values()) if observation else 0
        reasons |= 4 if observation is None or age_ns > self.max_age_ns else 0
        reasons |= 0 if operator_alive else 8
        if age_ns > self.fault_age_ns:
            self.fault = f"a stream is {age_ns // MS} ms old"
        if reasons:
            braked = np.where(self.binary, 0.0, self.step / 2)
            self.step = np.where(np.abs(braked) < 1e-2, 0.0, braked)
            self.last = np.where(self.rate, self.step, self.last + self.step)
        else:
            self.step = np.where(self.binary, 0.0, np.where(self.rate, requested, requested - self.last))
            self.last = requested.astype(np.float64)
        return self.last.astype(np.float32), reasons


class SeekingPolicy:
    """Moves both axes towards 0.5 with a seeded tremble; `spoil` may replace its `n`-th chunk, counting from 0."""

    fingerprint = "seeking"

    def __init__(
        self,
        spec: RobotSpec = SPEC,
        horizon: int = 8,
        observation_count: int = 2,
        spoil: Callable[[int, ActionChunk], Any] = lambda n, chunk: chunk,
    ) -> None:
        self.spec, self.horizon, self.observation_count, self.spoil = spec, horizon, observation_count, spoil
        self.histories: list[Sequence[Observation]] = []
        self.generator = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.histories = []

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        self.histories.append(history)
        x, y, _ = history[-1].values["state"].astype(np.float64)
        rows = np.zeros((self.horizon, 3), np.float32)
        for row in rows:
            x, step = x + 0.2 * (0.5 - x), 0.2 * (0.5 - y)
            y += step
            row[:] = (x, step, 1.0)
        rows[:, :2] += self.generator.normal(0.0, 1e-3, (self.horizon, 2)).astype(np.float32)
        return self.spoil(len(self.histories) - 1, ActionChunk(rows, history[-1].stamp_ns))


class TimelineOperator:
    """Says at each poll what its timeline says for it, counting from 0; otherwise `idle`."""

    name = "timeline"

    def __init__(self, timeline: Mapping[int, OperatorCommand] | None = None, idle: OperatorCommand = SILENCE) -> None:
        self.timeline, self.idle = timeline or {}, idle
        self.polls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass

    def reset(self, seed: int) -> None:
        self.polls = 0

    def poll(self, observation: Observation) -> OperatorCommand:
        said = self.timeline.get(self.polls, self.idle)
        self.polls += 1
        return said


class ListSink:
    """Keeps episodes in memory; raises at step `full_at`, as a full disk does."""

    def __init__(self, full_at: int | None = None) -> None:
        self.full_at = full_at
        self.steps: list[Step] = []
        self.result: EpisodeResult | None = None
        self.discarded = False

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        self.steps, self.result = [], None

    def append(self, step: Step) -> None:
        if len(self.steps) == self.full_at:
            raise OSError("no space left on device")
        self.steps.append(step)

    def end(self, result: EpisodeResult) -> None:
        self.result = result

    def discard(self) -> None:
        self.steps, self.discarded = [], True


def run(policy: Any = None, *, seed: int = 0, **given: Any) -> tuple[EpisodeResult, ListSink, Slider]:
    """Runs one episode with these fakes, in simulated time unless a clock is given; options by their names."""
    robot = given.pop("robot", None) or Slider()
    sink = given.pop("sink", None) or ListSink()
    operator = given.pop("operator", None) or TimelineOperator()
    judge = given.pop("judge", robot)
    clock = given.pop("clock", None) or SimulatedClock()
    command_filter = given.pop("command_filter", None) or BrakingFilter(robot.spec)
    timer = given.pop("timer", time.perf_counter_ns)
    options = RolloutSettings(**{"max_ticks": 40, **given})
    who = Meeting(robot, policy, operator, judge, clock, command_filter, sink, timer)
    result = run_episode(who, options, seed, HEADER)
    return result, sink, robot
