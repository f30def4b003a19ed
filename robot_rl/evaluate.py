"""`robot-rl eval`: seeded episodes in simulated time, spread over processes; writes eval.json and a video."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from robot_rl.clock import SimulatedClock
from robot_rl.film import FILM_FPS, FilmSink
from robot_rl.rollout import RolloutOptions, run_episode
from robot_rl.session import (
    NoSink,
    TaskSettings,
    build_filter,
    build_operator,
    build_robot,
    header_for,
    judge_of,
    load_acting_policy,
    options_for,
    software_version,
)
from robot_rl.settings import MISSING, load
from robot_rl.summary import EvaluationIdentity, evaluation_document, write_json
from robot_rl.types import ActionChunk, EpisodeResult, Observation, Policy, RobotRLError
from robot_rl.video import Frame, captioned, play_together, write_video


@dataclass
class EvalSettings:
    """Settings of `robot-rl eval`.

    Attributes:
        policy: Bundle or run directory.
        episodes: Number of episodes, seeds `seed`, `seed + 1`, ...
        seed: First seed; far from the demonstrations', so that no layout was seen in training.
        workers: Processes.
        output: Directory for eval.json and eval.mp4; empty is `eval/` beside the policy.
        video_episodes: How many episodes to film, 0 for none.
        device: Where a checkpoint runs; a bundle always runs on the CPU.
        rollout: See `RolloutOptions`.
    """

    robot: dict[str, Any] = MISSING
    limits: dict[str, Any] = MISSING
    operator: dict[str, Any] = MISSING
    task: TaskSettings = field(default_factory=TaskSettings)
    policy: str = MISSING
    episodes: int = 50
    seed: int = 100_000
    workers: int = 1
    output: str = ""
    video_episodes: int = 4
    device: str = "cpu"
    rollout: RolloutOptions = field(default_factory=RolloutOptions)


@dataclass
class Evaluated:
    """Episodes of one process, in the order of their seeds.

    Attributes:
        results: How each ended.
        latency_ms: Time of every chunk [ms].
        films: Frames of the filmed episodes.
    """

    results: list[EpisodeResult] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    films: list[list[Frame]] = field(default_factory=list)


class TimedPolicy:
    """A policy whose time per chunk is kept."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.spec, self.observation_count, self.fingerprint = policy.spec, policy.observation_count, policy.fingerprint
        self.execute_horizon: int | None = getattr(policy, "execute_horizon", None)
        self.latency_ms: list[float] = []

    def reset(self, seed: int) -> None:
        """See `Policy`."""
        self._policy.reset(seed)

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """See `Policy`."""
        begun = time.perf_counter()
        chunk = self._policy.act(history)
        self.latency_ms.append((time.perf_counter() - begun) * 1e3)
        return chunk


def main(overrides: Sequence[str]) -> int:
    """Runs the command."""
    settings = load(EvalSettings, "eval", overrides)
    console = Console()
    document = evaluate(settings, console)
    low, high = document["interval"]
    console.print(
        f"{document['successes']} of {document['episodes']} succeeded "
        f"({document['rate']:.2f}, 95 % interval {low:.2f} to {high:.2f}); "
        f"mean best reward {document['reward_max']['mean']:.3f}; "
        f"chunk p50 {document['latency_ms']['p50']:.2f} ms, p99 {document['latency_ms']['p99']:.2f} ms"
    )
    console.print(f"{output_directory(settings) / 'eval.json'}", soft_wrap=True)
    return 0


def output_directory(settings: EvalSettings) -> Path:
    """Where an evaluation's files go."""
    return Path(settings.output) if settings.output else Path(settings.policy).parent / "eval"


def evaluate(settings: EvalSettings, console: Console) -> dict[str, Any]:
    """Runs every episode and writes eval.json, and a video where episodes were filmed.

    Returns:
        The content of eval.json, with every chunk's `latencies` [ms] besides.

    Raises:
        SpecMismatch: The policy is for another robot; raised before anything moves.
    """
    if settings.episodes < 1 or settings.workers < 1:
        raise RobotRLError(f"episodes={settings.episodes} workers={settings.workers}: wanted at least 1 of each")
    policy = load_acting_policy(settings.policy, settings.device)
    with build_robot(settings.robot) as robot:
        policy.spec.require(robot.spec, f"policy {settings.policy}")
        robot_name = robot.spec.name
    seeds = [settings.seed + index for index in range(settings.episodes)]
    evaluated = _in_processes(settings, seeds)
    provenance: Mapping[str, Any] = getattr(policy, "provenance", {})
    identity = EvaluationIdentity(
        robot=robot_name,
        task=settings.task.name,
        policy=settings.policy,
        policy_hash=policy.fingerprint,
        dataset=str(provenance.get("dataset", "")),
        dataset_snapshot=str(provenance.get("snapshot", "")),
        software_version=software_version(),
        clock="simulated",
    )
    document = evaluation_document(identity, seeds, evaluated.results, evaluated.latency_ms)
    directory = output_directory(settings)
    write_json(directory / "eval.json", document)
    if any(evaluated.films):
        clips = [
            captioned(film, f"seed {seed}", result.outcome)
            for seed, result, film in zip(seeds, evaluated.results, evaluated.films, strict=False)
        ]
        write_video(directory / "eval.mp4", play_together(clips, columns=2), FILM_FPS)
    elif settings.video_episodes:
        console.print(f"no video: robot '{robot_name}' has no cameras and cannot be pictured")
    return {**document, "latencies": evaluated.latency_ms}


def _in_processes(settings: EvalSettings, seeds: Sequence[int]) -> Evaluated:
    """Every episode, divided over `settings.workers` processes; the order of seeds is kept."""
    workers = min(settings.workers, len(seeds))
    if workers == 1:
        return run_seeds(settings, seeds, settings.video_episodes)
    shares = [share.tolist() for share in np.array_split(np.asarray(seeds), workers)]
    films = [settings.video_episodes, *[0] * (workers - 1)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(run_seeds, [settings] * workers, shares, films))
    whole = Evaluated()
    for part in parts:
        whole.results += part.results
        whole.latency_ms += part.latency_ms
        whole.films += part.films
    return whole


def run_seeds(settings: EvalSettings, seeds: Sequence[int], films: int) -> Evaluated:
    """One process's episodes; the first `films` of them are filmed."""
    evaluated = Evaluated()
    policy = TimedPolicy(load_acting_policy(settings.policy, settings.device))
    with ExitStack() as stack:
        robot = stack.enter_context(build_robot(settings.robot))
        operator = stack.enter_context(build_operator(settings.operator, robot.spec))
        options = options_for(policy, settings.task, settings.rollout)
        for index, seed in enumerate(seeds):
            sink = FilmSink(robot) if index < films else NoSink()
            command_filter = build_filter(robot.spec, settings.limits)
            header = header_for(settings.task, operator, policy, seed)
            judge, clock = judge_of(robot), SimulatedClock()
            result = run_episode(robot, policy, operator, judge, clock, command_filter, sink, options, seed, header)
            evaluated.results.append(result)
            if isinstance(sink, FilmSink):
                evaluated.films.append(sink.frames())
    evaluated.latency_ms = policy.latency_ms
    return evaluated
