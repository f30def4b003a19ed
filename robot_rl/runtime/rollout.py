"""`run_episode`: the only loop that runs in robot time.

Collecting runs it without a policy, correcting with a policy and an operator, evaluating and deploying with a policy
that somebody watches. Each tick observes, asks who is driving, filters the command, applies it, judges and records
(`episode_loop.py`). The tick never waits for inference, and whatever happens the robot is stopped at the end.

In simulated time (`SimulatedClock`) inference is inline and takes no time, so a seed determines the episode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from robot_rl.core.clock import SimulatedClock, prompt_thread
from robot_rl.core.episode import EpisodeHeader, EpisodeResult
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock, Policy, Robot, stands_still
from robot_rl.core.specs import NS_PER_S, RobotSpec
from robot_rl.runtime.cadence import CadenceRecorder
from robot_rl.runtime.chunk_schedule import ChunkSchedule
from robot_rl.runtime.ending import End, Ending
from robot_rl.runtime.episode_loop import EpisodeLoop
from robot_rl.runtime.inference import InlineInference, ThreadedInference
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.runtime.policy_driver import PolicyDriver

REAL_TIME_BLEND_S = 0.15


def run_episode(who: Meeting, options: RolloutSettings, seed: int, header: EpisodeHeader) -> EpisodeResult:
    """Runs one episode from reset to stop.

    A fault of the policy, a sensor or the operator ends the episode as aborted, with a ramped stop and the reason in
    the result. When a robot, operator or sink raises, the robot is stopped at once, the episode ends as aborted, and
    the error goes on to the caller; Ctrl-C likewise. What goes wrong on the way to rest does not change how an episode
    ended: its first reason stays, with the error behind it.

    Args:
        who: Who meets whom.
        options: How it is run.
        seed: For robot, policy and operator.
        header: Recorded with the episode.

    Returns:
        The result, also of an episode discarded for a redo; see `ending_of`.

    Raises:
        SpecMismatch: The policy is for another robot.
        RobotRLError: Simulated time for a robot that moves by itself.
    """
    _require_clock(who.clock, who.robot)
    if who.policy is not None:
        who.policy.spec.require(who.robot.spec, "the policy")
    cadence = CadenceRecorder(who.robot.spec.tick_ns, who.command_filter.reason_names)
    with contextlib.ExitStack() as stack:
        driver = None if who.policy is None else _driver(who.policy, who, options, cadence, stack)
        loop = EpisodeLoop(who, options, driver, cadence)
        end = _run_and_stop(loop, seed, header)
        # Before the stack waits for inference: the episode is safe first.
        return _hand_over(loop, end)


def _hand_over(loop: EpisodeLoop, end: End) -> EpisodeResult:
    """Gives the episode to the sink to keep, or to throw away."""
    result = loop.result(end)
    if end.ending is Ending.REDO:
        loop.who.sink.discard()
    else:
        loop.who.sink.end(result)
    return result


def _require_clock(clock: Clock, robot: Robot) -> None:
    """Refuses simulated time for a robot that has not declared it: commands would come as fast as they are computed."""
    if isinstance(clock, SimulatedClock) and not stands_still(robot):
        raise RobotRLError(
            f"robot '{robot.spec.name}' declares no simulated_time, so it moves by itself: run it in real time"
        )


def _run_and_stop(loop: EpisodeLoop, seed: int, header: EpisodeHeader) -> End:
    """Resets everybody, runs the loop, and stops the robot whatever happens."""
    who, begun = loop.who, False
    try:
        if who.policy is not None:
            who.policy.reset(seed)
        # From here on an arm may be waiting for commands: no more than has to be between this and the first tick.
        who.robot.reset(seed)
        who.operator.reset(seed)
        who.sink.begin(who.robot.spec, header)
        begun = True
        with _timeliness(who.clock, loop.options):
            end = loop.run()
        who.robot.stop()
    except BaseException as error:
        _stop_after(error, loop, begun)
        raise
    return end


def _driver(
    policy: Policy, who: Meeting, options: RolloutSettings, cadence: CadenceRecorder, stack: contextlib.ExitStack
) -> PolicyDriver:
    """The policy's side of an episode; its inference is closed when the stack unwinds."""
    simulated, spec = isinstance(who.clock, SimulatedClock), who.robot.spec
    inference = (
        InlineInference(policy, who.timer)
        if simulated
        else ThreadedInference(policy, who.timer, options.policy_timeout_s, spec.tick_ns)
    )
    stack.callback(inference.close)
    return PolicyDriver(
        policy,
        inference,
        ChunkSchedule(spec, _ns(options.action_latency_s or 0.0)),
        options.execute_horizon,
        _ns(blend_duration_s(options, spec, simulated)),
        _ns(options.handover_s),
        cadence,
    )


def blend_duration_s(options: RolloutSettings, spec: RobotSpec, simulated: bool) -> float:
    """How long one chunk is cross-faded into the next [s].

    By default never longer than half of what is executed of a chunk: a policy of 50 ms chunks that were always still
    fading in after 150 ms succeeded in 0 of 50 episodes instead of 43 (benchmarks/RESULTS.md).
    """
    if options.blend_s is not None:
        return options.blend_s
    if simulated:
        return 0.0
    if options.execute_horizon is None:
        return REAL_TIME_BLEND_S
    return min(REAL_TIME_BLEND_S, options.execute_horizon / spec.control_hz / 2)


def _timeliness(clock: Clock, options: RolloutSettings) -> contextlib.AbstractContextManager[object]:
    """In real time, makes this thread wake on time."""
    if isinstance(clock, SimulatedClock):
        return contextlib.nullcontext()
    return prompt_thread(options.realtime_priority)


def _stop_after(error: BaseException, loop: EpisodeLoop, begun: bool) -> None:
    """Stops the robot, then hands over what was recorded; further errors become notes on the first.

    An episode that had ended already and was on its way to rest keeps its first reason, with the error behind it.
    """
    what = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
    end = loop.end.then(what) if loop.end is not None else _end_by(error, what)
    _insist(loop.who.robot.stop, error)
    if begun:
        _insist(lambda: _hand_over(loop, end), error)


def _end_by(error: BaseException, what: str) -> End:
    return End(Ending.INTERRUPT) if isinstance(error, KeyboardInterrupt) else End(Ending.ERROR, what)


def _insist(action: Callable[[], object], error: BaseException) -> None:
    """Does what must be done after an error; a second Ctrl-C meanwhile does not keep it from being done."""
    for _ in range(2):
        try:
            action()
            return
        except KeyboardInterrupt:
            error.add_note("then also interrupted")
        except Exception as second:
            error.add_note(f"then also {type(second).__name__}: {second}")
            return


def _ns(duration_s: float) -> int:
    return round(duration_s * NS_PER_S)
