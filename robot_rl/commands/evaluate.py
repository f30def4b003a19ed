"""`robot-rl eval`: seeded episodes, over processes where the robot is simulated; writes eval.json and a video."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from rich.console import Console
from rich.progress import track

from robot_rl.config.settings import MISSING, load
from robot_rl.core.episode import ActionChunk, EpisodeResult, Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import ExecutesRows, Policy, Traced
from robot_rl.core.version import software_version
from robot_rl.reports.film import FILM_FPS, FilmSink
from robot_rl.reports.summary import EvaluationIdentity, evaluation_document, write_json
from robot_rl.reports.video import Frame, captioned, play_together, write_video
from robot_rl.sessions.parallel import ProcessEpisodes
from robot_rl.sessions.setup import NoSink, SessionSettings, load_acting_policy

EPISODES = 50
"""Of an evaluation where nobody says how many."""


@dataclass
class EvaluationSettings:
    """The episodes that judge a policy; they only report and never choose.

    Attributes:
        episodes: Number of episodes, seeds `seed`, `seed + 1`, ...; where a command says so, null is its own choice.
        seed: First seed; far from the demonstrations', so that no layout was seen in training.
        film: How many episodes to film, 0 for none.
    """

    episodes: int | None = EPISODES
    seed: int = 100_000
    film: int = 4

    @property
    def seeds(self) -> range:
        """Seed of each episode."""
        return range(self.seed, self.seed + (self.episodes or 0))


@dataclass
class EvalSettings(EvaluationSettings, SessionSettings):
    """Settings of `robot-rl eval`.

    Attributes:
        policy: Bundle or run directory.
        workers: Processes.
        output: Directory for eval.json and eval.mp4; empty is `eval/` beside the policy.
        device: Where a checkpoint runs; a bundle always runs on the CPU.
        video_episodes: Earlier name of `film`.
    """

    policy: str = MISSING
    workers: int = 1
    output: str = ""
    device: str = "cpu"
    video_episodes: int | None = None

    def __post_init__(self) -> None:
        """The earlier name counts where it is used."""
        super().__post_init__()
        if self.video_episodes is not None:
            self.film = self.video_episodes

    @classmethod
    def within(cls, session: SessionSettings, evaluation: EvaluationSettings, **own: Any) -> Self:
        """The evaluation of a policy where another command meets robot, operator and task.

        Args:
            session: Settings of the other command.
            evaluation: Its episodes.
            own: The other fields, or other values of those.
        """
        told = {each.name: getattr(session, each.name) for each in fields(SessionSettings)}
        return cls(**{**told, **asdict(evaluation), **own})


class Evaluated(NamedTuple):
    """One evaluated episode.

    Attributes:
        result: How it ended.
        latency_ms: Time of every chunk [ms].
        film: Frames, empty if it was not filmed.
    """

    result: EpisodeResult
    latency_ms: list[float]
    film: list[Frame]


class TimedPolicy:
    """A policy whose time per chunk is kept."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.spec, self.observation_count, self.fingerprint = policy.spec, policy.observation_count, policy.fingerprint
        self.execute_horizon = policy.execute_horizon if isinstance(policy, ExecutesRows) else None
        self.latency_ms: list[float] = []

    def reset(self, seed: int) -> None:
        """Keeps the times of the episodes before."""
        self._policy.reset(seed)

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """The policy's chunk; how long it took is kept."""
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
    if not settings.seeds or settings.workers < 1:
        raise RobotRLError(f"episodes={settings.episodes} workers={settings.workers}: wanted at least 1 of each")
    policy = load_acting_policy(settings.policy, settings.device)
    planned = ProcessEpisodes(settings, settings.workers)
    robot_name, realtime = planned.robot.spec.name, planned.in_real_time
    policy.spec.require(planned.robot.spec, f"policy {settings.policy}")
    seeds = settings.seeds
    evaluated = run_seeds(settings, seeds, console)
    provenance: Mapping[str, Any] = policy.provenance if isinstance(policy, Traced) else {}
    identity = EvaluationIdentity(
        robot=robot_name,
        task=settings.task.name,
        policy=settings.policy,
        policy_hash=policy.fingerprint,
        dataset=str(provenance.get("dataset", "")),
        dataset_snapshot=str(provenance.get("snapshot", "")),
        software_version=software_version(),
        clock="real time" if realtime else "simulated",
    )
    latencies = [latency for each in evaluated for latency in each.latency_ms]
    document = evaluation_document(identity, seeds, [each.result for each in evaluated], latencies)
    directory = output_directory(settings)
    write_json(directory / "eval.json", document)
    clips = [
        captioned(each.film, f"seed {seed}", each.result.outcome)
        for seed, each in zip(seeds, evaluated, strict=True)
        if each.film
    ]
    if clips:
        write_video(directory / "eval.mp4", play_together(clips, columns=2), FILM_FPS)
    elif settings.film:
        console.print(f"no video: robot '{robot_name}' has no cameras and cannot be pictured")
    return {**document, "latencies": latencies}


def run_seeds(settings: EvalSettings, seeds: Sequence[int], console: Console) -> list[Evaluated]:
    """Every episode, in the order of the seeds, over `settings.workers` processes; the first ones are filmed."""
    filmed = [index < settings.film for index in range(len(seeds))]
    episodes: Iterator[Evaluated]
    with ExitStack() as stack:
        if settings.workers == 1:
            episodes = map(stack.enter_context(EpisodeRunner(settings)).run, seeds, filmed)
        else:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(settings.workers, context, initializer=_open_runner, initargs=(settings,))
            episodes = stack.enter_context(pool).map(_run_in_worker, seeds, filmed)
        return list(track(episodes, "evaluating", len(seeds), console=console, transient=True))


class EpisodeRunner:
    """Robot, operator and policy of one process, built once for all its episodes. A context manager."""

    def __init__(self, settings: EvalSettings) -> None:
        self._policy = TimedPolicy(load_acting_policy(settings.policy, settings.device))
        self._episodes = ProcessEpisodes(settings, settings.workers)

    def __enter__(self) -> Self:
        self._episodes.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._episodes.__exit__(kind, error, trace)

    def run(self, seed: int, film: bool) -> Evaluated:
        """One episode."""
        sink = FilmSink(self._episodes.robot) if film else NoSink()
        self._policy.latency_ms = []
        result = self._episodes.run(self._policy, sink, seed)
        return Evaluated(result, self._policy.latency_ms, sink.frames() if isinstance(sink, FilmSink) else [])


_worker: EpisodeRunner | None = None
"""A worker process's own; what `ProcessPoolExecutor` calls can only reach it here."""


def _open_runner(settings: EvalSettings) -> None:
    global _worker
    _worker = EpisodeRunner(settings).__enter__()


def _run_in_worker(seed: int, film: bool) -> Evaluated:
    assert _worker is not None
    return _worker.run(seed, film)
