"""Episodes of a policy, from processes that live as long as their robots; several only where time stands still.

Reinforcement learning changes the policy every few seconds, so robot and operator are built once per process and only
the pickled policy is sent anew. An episode is a function of policy and seed, whichever process runs it.

Robot and operator of one process, built once for all its episodes; in real time unless both can do without.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from robot_rl.core.clock import HostClock, SimulatedClock
from robot_rl.core.episode import EpisodeResult
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import EpisodeSink, Policy, RemembersChains
from robot_rl.core.specs import RobotSpec
from robot_rl.learning.collected import CollectedEpisode, MemorySink, decisions_of
from robot_rl.runtime.ending import ending_of
from robot_rl.runtime.meeting import Meeting
from robot_rl.runtime.rollout import run_episode
from robot_rl.sessions.setup import (
    SessionSettings,
    build_filter,
    build_operator,
    build_robot,
    header_for,
    judge_of,
    options_for,
    require_one_process,
    runs_in_real_time,
)

AHEAD = 2
"""Episodes handed to a process at a time, so that it need not wait for the next seed."""
STOP_TIMEOUT_S = 5.0


class CollectingFailed(RobotRLError):
    """A process that runs episodes could not be set up, failed or died."""


def _collect_one(episodes: ProcessEpisodes, policy: Policy, seed: int) -> CollectedEpisode:
    sink = MemorySink()
    with _one_torch_thread():
        episodes.run(policy, sink, seed)
    return collected(sink, policy)


def collected(sink: MemorySink, policy: Policy) -> CollectedEpisode:
    """The episode that a sink holds, with the chains of a policy that remembers them."""
    episode = sink.take()
    chains = policy.take_chains() if isinstance(policy, RemembersChains) else ()
    return CollectedEpisode(episode, decisions_of(episode, chains))


class EpisodeCollector:
    """Runs episodes over processes, or in this one. A context manager.

    Args:
        settings: Robot, limits, operator, task and rollout; they are sent to the processes.
        workers: Processes; 1 runs everything here.

    Attributes:
        spec: The robot's; known while entered.
    """

    spec: RobotSpec

    def __init__(self, settings: SessionSettings, workers: int = 1) -> None:
        if workers < 1:
            raise RobotRLError(f"workers is {workers}, wanted at least 1")
        self._settings = settings
        self._workers = workers
        self._pool: list[_Worker] = []
        self._here: ProcessEpisodes | None = None
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._workers == 1:
                self._here = stack.enter_context(ProcessEpisodes(self._settings))
                self.spec = self._here.robot.spec
            else:
                stack.callback(self._stop)
                self._pool = [_start(self._settings, self._workers) for _ in range(self._workers)]
                specs = [cast(RobotSpec, worker.receive()) for worker in self._pool]
                self.spec = specs[0]
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def collect(self, policy: Policy, seeds: Sequence[int]) -> Iterator[CollectedEpisode]:
        """One episode per seed, in the order of the seeds.

        Args:
            policy: Picklable; with `take_chains`, its chains become the episodes' decisions.
            seeds: Of robot, policy and operator.

        Raises:
            SpecMismatch: The policy is for another robot.
            CollectingFailed: See `CollectingFailed`; says which seed.
        """
        policy.spec.require(self.spec, "the policy")
        if self._here is not None:
            return map(partial(_collect_one, self._here, policy), seeds)
        return self._collect(pickle.dumps(policy), seeds)

    def _collect(self, policy: bytes, seeds: Sequence[int]) -> Iterator[CollectedEpisode]:
        for worker in self._pool:
            # Somebody may have stopped listening halfway through the last call.
            while worker.running:
                worker.episode()
            worker.send(policy)
        waiting = deque(enumerate(seeds))
        done: dict[int, CollectedEpisode] = {}
        for index in range(len(seeds)):
            while index not in done:
                self._hand_out(waiting)
                for worker in self._with_news():
                    done |= [worker.episode()]
            yield done.pop(index)

    def _hand_out(self, waiting: deque[tuple[int, int]]) -> None:
        for _ in range(AHEAD):
            for worker in self._pool:
                if waiting and len(worker.running) < AHEAD:
                    index, seed = waiting.popleft()
                    worker.send(seed)
                    worker.running.append((index, seed))

    def _with_news(self) -> list[_Worker]:
        busy = {worker.connection: worker for worker in self._pool if worker.running}
        return [busy[cast(Connection, ready)] for ready in wait([*busy])]

    def _stop(self) -> None:
        for worker in self._pool:
            # Closing the pipe ends an idle process; one in the middle of an episode has nothing worth waiting for.
            worker.connection.close()
            if worker.running:
                worker.process.terminate()
        for worker in self._pool:
            worker.process.join(STOP_TIMEOUT_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._pool = []


class _Failure(NamedTuple):
    """What a process answers instead of an episode."""

    message: str


@dataclass
class _Worker:
    """A process as seen from here.

    Attributes:
        process: The process.
        connection: Our end of the pipe.
        running: Index and seed of the episodes handed to it.
    """

    process: SpawnProcess
    connection: Connection
    running: deque[tuple[int, int]] = field(default_factory=deque)

    def send(self, what: bytes | int) -> None:
        """A pickled policy, or the seed of an episode to run with it."""
        try:
            self.connection.send(what)
        except OSError:
            raise self._last_words() from None

    def episode(self) -> tuple[int, CollectedEpisode]:
        """Waits for the oldest episode handed to it, and its index."""
        found = cast(CollectedEpisode, self.receive())
        index, _ = self.running.popleft()
        return index, found

    def receive(self) -> object:
        """Waits for the next answer.

        Raises:
            CollectingFailed: The process failed or died.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if isinstance(answer, _Failure):
            raise CollectingFailed(f"{answer.message}{self._where()}")
        return answer

    def _last_words(self) -> CollectingFailed:
        """Why it listens no more: it may have said so before it ended, behind episodes that nobody has taken yet."""
        try:
            while True:
                self.episode()
        except CollectingFailed as failure:
            return failure

    def _died(self) -> CollectingFailed:
        self.process.join(STOP_TIMEOUT_S)
        code = self.process.exitcode
        how = "it does not answer" if code is None else f"signal {-code}" if code < 0 else f"exit status {code}"
        return CollectingFailed(
            f"a process that runs episodes died{self._where()} ({how}): if memory ran out, use fewer workers; what was "
            "collected before is kept"
        )

    def _where(self) -> str:
        return f" in the episode of seed {self.running[0][1]}" if self.running else ""


def _start(settings: SessionSettings, processes: int) -> _Worker:
    # Not fork: a forked process inherits the threads' locks of torch and of the simulator.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, settings, processes), name="episodes", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, settings: SessionSettings, processes: int) -> None:
    """The life of a process: takes policies and seeds, answers with episodes, ends when the pipe is closed."""
    # Ctrl-C reaches every process of the terminal; the one that started this one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    policy: Policy | None = None
    try:
        with ProcessEpisodes(settings, processes) as episodes:
            connection.send(episodes.robot.spec)
            while True:
                asked = connection.recv()
                if isinstance(asked, bytes):
                    policy = cast(Policy, pickle.loads(asked))
                    continue
                assert policy is not None
                connection.send(_collect_one(episodes, policy, asked))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception as error:
        _report(connection, error)
    # Robot and operator are closed; taking torch apart module by module would cost seconds on a busy machine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _report(connection: Connection, error: Exception) -> None:
    """Says what went wrong, if anybody still listens."""
    name = "" if isinstance(error, RobotRLError) else f"{type(error).__name__}: "
    try:
        connection.send(_Failure(f"{name}{error}"))
    except OSError:
        return


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Runs torch, where it is loaded, on one thread: the same figures however many processes share the machine."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ProcessEpisodes:
    """A context manager: entering connects robot and operator.

    Args:
        settings: Robot, limits, operator, task and rollout.
        processes: How many run episodes of these settings at once.

    Attributes:
        robot: Its spec is known before it is connected.

    Raises:
        RobotRLError: Several processes, but robot or operator are there only once; or a limit that makes no sense.
    """

    def __init__(self, settings: SessionSettings, processes: int = 1) -> None:
        self.robot = build_robot(settings.robot)
        self._settings = settings
        self._operator = build_operator(settings.operator, self.robot.spec)
        require_one_process(self.robot, self._operator, processes)
        # Each episode has a filter of its own; limits that make no sense are refused before anything is connected.
        build_filter(self.robot.spec, settings.limits, self.robot)
        self._connected = ExitStack()

    def __enter__(self) -> Self:
        self._connected.enter_context(self.robot)
        self._connected.enter_context(self._operator)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connected.close()

    @property
    def in_real_time(self) -> bool:
        """Whether episodes run at the robot's own rate."""
        return runs_in_real_time(self.robot, self._operator)

    def run(self, policy: Policy, sink: EpisodeSink, seed: int) -> EpisodeResult:
        """One episode, with a command filter of its own so that a simulated fault ends with it.

        Raises:
            RobotRLError: A robot that moves by itself ended it by a fault, which only a person may clear.
        """
        settings = self._settings
        clock = HostClock() if self.in_real_time else SimulatedClock()
        command_filter = build_filter(self.robot.spec, settings.limits, self.robot)
        result = run_episode(
            Meeting(self.robot, policy, self._operator, judge_of(self.robot), clock, command_filter, sink),
            options_for(policy, settings.task, settings.rollout),
            seed,
            header_for(settings.task, self._operator, policy, seed),
        )
        if self.in_real_time and ending_of(result).is_fault:
            raise RobotRLError(f"{result.reason}. Look at the robot, then start the command again")
        return result
