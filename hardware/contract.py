"""The `Robot` contract as a check that anything calling itself a robot can be put through.

A learning system survives almost any slow or clumsy robot, and hardly any that lies: one that reports another action
than it executed, hands out an array that later changes, starts differently from the same seed, or says that its time
stands still while it moves. Each rule here is one of those lies.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from hardware.contract_answers import (
    capability_problems,
    judgement_problems,
    observation_problems,
    spec_problems,
    value_problem,
)
from robot_rl.core.capabilities import misshapen
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import ROBOT_CAPABILITIES, Clock, Judge, Judgement, KeptAlive, Robot, stands_still
from robot_rl.core.specs import NS_PER_S, AnyArray, FloatArray, RobotSpec

SEED = 7
OTHER_SEED = 8
BOUND_SLACK = 1e-5
"""Share of an action's range by which float32 rounding may overstep a bound."""
SAME_MOTION = 1e-3
"""Largest difference, per unit of a stream, between a motion and its repetition from the applied actions."""
STILL_TICKS = 6
STILL_S = 0.03
"""How long a robot whose time stands still is left alone at each of `STILL_TICKS` ticks [s]."""


def check_robot(
    make: Callable[[], Robot], *, ticks: int = 20, clock: Clock | None = None, repeatable: bool = True
) -> list[str]:
    """Every way in which a robot breaks the contract, in words; [] if it keeps it.

    The robot is driven with random actions, some far outside its bounds and some not finite: use it on simulated
    robots, or on a real one that is free to move anywhere within its own limits with a person at the stop.

    Args:
        make: Makes a new robot, not yet entered. Called twice if `repeatable`.
        ticks: Length of each of the drives.
        clock: The robot's clock; without it, time is made up, which only a robot may be run in that declares
            `SimulatedTime`.
        repeatable: Whether the same seed and actions must give the same trajectory. False for a real robot.
    """
    found = _Findings()
    with found.guarded("making and entering it"):
        robot = make()
        found.extend(spec_problems(robot.spec))
        found.extend(misshapen(robot, ROBOT_CAPABILITIES))
        if found.violations:
            return found.violations
        if clock is None and not _declares_stillness(robot, found):
            return found.violations
        _check_life(robot, found)
        with robot as entered:
            if entered is not robot:
                found.add("enter", "entering returns something else than the robot: return self")
            drive = _Drive(robot, clock, found)
            _check_drives(drive, make, ticks, repeatable)
    return found.violations


@dataclass
class _Findings:
    """Violations, each kind told once, when it first happened."""

    violations: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def add(self, kind: str, message: str) -> None:
        if kind not in self.kinds:
            self.kinds.add(kind)
            self.violations.append(message)

    def extend(self, messages: list[str]) -> None:
        for message in messages:
            self.add(message, message)

    @contextmanager
    def guarded(self, doing: str) -> Iterator[None]:
        """Turns an error of the robot's into a violation: the check itself must not fail."""
        try:
            yield
        except _Unusable as error:
            self.add(str(error), str(error))
        except Exception as error:
            self.add(f"error while {doing}", f"{doing} raised {type(error).__name__}: {error}")


@dataclass
class _Run:
    """One drive, copied: what was seen, what was reported as applied, how it was judged."""

    observations: list[Observation] = field(default_factory=list)
    applied: list[FloatArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def until(self, tick: int) -> _Run:
        """Its first ticks."""
        return _Run(self.observations[:tick], self.applied[:tick], self.rewards[:tick])


class _Unusable(Exception):
    """An answer so wrong that the drive cannot go on."""


class _Drive:
    """Drives a robot through one episode and checks every answer on the way."""

    def __init__(self, robot: Robot, clock: Clock | None, found: _Findings) -> None:
        self.robot = robot
        self.clock = clock
        self.found = found
        self._handed_out: list[tuple[str, AnyArray, AnyArray]] = []

    def on(self, robot: Robot) -> _Drive:
        """The same drive of another robot."""
        return _Drive(robot, self.clock, self.found)

    def run(
        self, seed: int, actions: FloatArray, *, looks: int = 1, scribble: bool = False, linger_s: float = 0.0
    ) -> _Run:
        """One episode.

        Args:
            seed: For `reset`.
            actions: Shape (ticks, A).
            looks: How often to observe every tick.
            scribble: Overwrites every array that changed hands, as a careless caller might.
            linger_s: How long to leave the robot alone at every tick, which must make no difference [s].
        """
        run = _Run()
        self._handed_out.clear()
        self.robot.reset(seed)
        start_ns = self.clock.now_ns() if self.clock else NS_PER_S
        captured_ns: dict[str, int] = {}
        for tick, action in enumerate(actions):
            tick_ns = start_ns + tick * self.robot.spec.tick_ns
            if self.clock:
                self.clock.sleep_until_ns(tick_ns)
            if isinstance(self.robot, KeptAlive):
                self.robot.keep_alive()
            run.observations.append(self._look(tick_ns, captured_ns, scribble))
            for _ in range(looks - 1):
                self._look(tick_ns, captured_ns, scribble)
            if linger_s:
                self._linger(linger_s, tick_ns, captured_ns)
            run.applied.append(self._act(action, scribble))
            judgement = self._judged()
            run.rewards.append(judgement.reward)
            if judgement.done:
                break
        if not scribble:
            self._check_handed_out()
        return run

    def _look(self, tick_ns: int, captured_ns: dict[str, int], scribble: bool) -> Observation:
        observation = self.robot.observe(tick_ns)
        for kind, message in observation_problems(self.robot.spec, observation, tick_ns):
            self.found.add(kind, message)
        for name, age_ns in observation.age_ns.items():
            if tick_ns - age_ns < captured_ns.get(name, tick_ns - age_ns):
                self.found.add(f"backwards {name}", f"stream '{name}' went back to a frame older than one shown before")
            captured_ns[name] = tick_ns - age_ns
        copies = {name: np.array(value) for name, value in observation.values.items()}
        for name, value in observation.values.items():
            self._hand_out(f"stream '{name}'", value, copies[name], scribble)
        return Observation(observation.stamp_ns, copies, dict(observation.age_ns))

    def _linger(self, linger_s: float, tick_ns: int, captured_ns: dict[str, int]) -> None:
        """Looks twice at once and once more after a while, in which time stood still or did not."""
        looks = []
        for wait_s in (0.0, 0.0, linger_s):
            time.sleep(wait_s)
            looks.append(self._look(tick_ns, captured_ns, scribble=False))
        for name in self.robot.spec.observations:
            by_looking, by_waiting = (_change(one, other, name) for one, other in itertools.pairwise(looks))
            # One that moves when it is looked at is told so elsewhere.
            if by_waiting > 3.0 * by_looking:
                self.found.add(
                    "still",
                    f"simulated_time is declared, but stream '{name}' changed within {1e3 * linger_s:.0f} ms without a "
                    "command: a robot that moves by itself must not declare it, so that it is run in real time",
                )

    def _act(self, action: FloatArray, scribble: bool) -> FloatArray:
        """Applies an action and returns a copy of what the robot says that it executed."""
        spec = self.robot.spec
        given = action.astype(spec.action.dtype)
        applied: object = self.robot.apply(given)
        if not np.array_equal(given, action.astype(spec.action.dtype)):
            self.found.add("input", "apply changed the array it was given: work on a copy")
        if scribble:
            given.fill(0)
        problem = value_problem(spec.action, applied)
        if problem or not isinstance(applied, np.ndarray):
            raise _Unusable(f"apply must return what was executed: {problem}")
        low, high = spec.action.bounds()
        slack = BOUND_SLACK * np.where(np.isfinite(high - low), high - low, 1.0)
        outside = (applied < low - slack) | (applied > high + slack)
        if outside.any():
            worst = int(np.argmax(outside))
            self.found.add(
                "limit",
                f"action[{worst}]: asked for {action[worst]:g}, executed {applied[worst]:g}, outside its bounds "
                f"{low[worst]:g} to {high[worst]:g}",
            )
        copy = np.array(applied)
        self._hand_out("the applied action", applied, copy, scribble)
        return copy

    def _judged(self) -> Judgement:
        nothing = Judgement(reward=0.0, success=False, done=False)
        if not isinstance(self.robot, Judge):
            return nothing
        judgement = self.robot.judge()
        for kind, message in judgement_problems(judgement):
            self.found.add(kind, message)
        return judgement if isinstance(judgement, Judgement) else nothing

    def _hand_out(self, what: str, live: AnyArray, copy: AnyArray, scribble: bool) -> None:
        if scribble and live.flags.writeable:
            live.fill(0)
        else:
            self._handed_out.append((what, live, copy))

    def _check_handed_out(self) -> None:
        for what, live, copy in self._handed_out:
            if not np.array_equal(live, copy, equal_nan=live.dtype.kind == "f"):
                self.found.add(f"alias {what}", f"{what} changed after it was handed out: return a copy every tick")


def _check_drives(drive: _Drive, make: Callable[[], Robot], ticks: int, repeatable: bool) -> None:
    """Drives, and drives again in every way that must make no difference."""
    found, spec = drive.found, drive.robot.spec
    actions = _random_actions(spec, ticks)
    with found.guarded("an episode"):
        first = drive.run(SEED, actions)
        _check_motion(spec, first, found)
        for kind, message in capability_problems(drive.robot):
            found.add(kind, message)
        with found.guarded("stopping"):
            drive.robot.stop()
            drive.robot.stop()
        _check_refusals(drive, found)
        # A robot that lies otherwise would be told so a second time.
        if stands_still(drive.robot) and not found.violations:
            drive.run(SEED, actions[:STILL_TICKS], linger_s=STILL_S)
        if repeatable and "still" not in found.kinds:
            _check_repeats(drive, first, actions, make)


def _declares_stillness(robot: Robot, found: _Findings) -> bool:
    """Whether made-up time is for this robot."""
    if stands_still(robot):
        return True
    found.add(
        "time",
        "time was made up for it, but it declares no simulated_time, so it moves by itself: give the check its clock, "
        "or declare simulated_time = True if time stands still between its commands",
    )
    return False


def _check_repeats(drive: _Drive, first: _Run, actions: FloatArray, make: Callable[[], Robot]) -> None:
    found, spec = drive.found, drive.robot.spec
    seen_by_camera = {*spec.images, *spec.point_clouds}

    def compare(kind: str, again: _Run, meaning: str, tolerance: float = 0.0) -> bool:
        whole = first.until(len(again.applied)) if kind == "slowly" else first
        difference = _first_difference(whole, again, tolerance, seen_by_camera)
        if difference:
            found.add(kind, f"{meaning}: {difference}")
        return difference is None

    if not compare("seed", drive.run(SEED, actions), "the same seed and actions gave another trajectory"):
        # Every comparison below would fail for the same reason.
        return
    drive.run(OTHER_SEED, actions[::-1])
    compare("history", drive.run(SEED, actions), "an earlier episode changed a later one of another seed")
    often = compare("looking", drive.run(SEED, actions, looks=3), "observing more often changed the trajectory")
    if often and stands_still(drive.robot):
        slowly = drive.run(SEED, actions[:STILL_TICKS], linger_s=STILL_S)
        compare("slowly", slowly, "simulated_time is declared, but time between the actions changed the trajectory")
    compare(
        "scribble",
        drive.run(SEED, actions, scribble=True),
        "overwriting arrays after they changed hands changed the trajectory, so the robot still uses them",
    )
    compare(
        "executed",
        drive.run(SEED, np.stack(first.applied)),
        "asking for the actions reported as applied gave another motion, so they are not what was executed",
        SAME_MOTION,
    )
    with make() as second:
        compare("instance", drive.on(second).run(SEED, actions), "two robots differ under the same seed and actions")


def _random_actions(spec: RobotSpec, ticks: int) -> FloatArray:
    """Uniform actions, every third one far outside its bounds. Shape (ticks, A)."""
    generator = np.random.default_rng(SEED)
    low, high = spec.action.bounds()
    low, high = np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)
    actions = generator.uniform(low, high, size=(ticks, *low.shape))
    centre, half = (low + high) / 2, (high - low) / 2
    actions[1::3] = centre + 5 * half * np.sign(actions[1::3] - centre)
    return actions


def _check_life(robot: Robot, found: _Findings) -> None:
    """What must hold around an episode: leaving is allowed at once, and errors pass through."""
    with found.guarded("entering and leaving without an episode"):
        robot.__enter__()
        robot.stop()
        swallowed: object = robot.__exit__(RobotRLError, RobotRLError("a test"), None)  # type: ignore[func-returns-value]
        if swallowed:
            found.add("exit", "leaving swallows errors: __exit__ must not return a true value")


def _check_motion(spec: RobotSpec, run: _Run, found: _Findings) -> None:
    if len(run.observations) < 2:
        return
    start = run.observations[0].values
    if all(np.array_equal(start[name], each.values[name]) for each in run.observations[1:] for name in start):
        found.add("frozen", f"no stream changed in {len(run.observations)} ticks of motion: observations are frozen")


def _check_refusals(drive: _Drive, found: _Findings) -> None:
    """Actions that mean nothing are refused, and refused before anything moves."""
    robot = drive.robot
    size = robot.spec.action.shape[0]
    dtype = robot.spec.action.dtype
    for kind, action in (
        ("an action with NaN", np.full(size, np.nan, dtype)),
        ("an action of another shape", np.zeros(size + 1, dtype)),
    ):
        robot.reset(SEED)
        try:
            robot.apply(action)
        except RobotRLError:
            continue
        except Exception as error:
            found.add(
                kind, f"{kind} raised {type(error).__name__} ({error}): raise a RobotRLError that says what to do"
            )
        else:
            found.add(kind, f"{kind} was accepted: raise RobotRLError before anything moves")


def _first_difference(one: _Run, other: _Run, tolerance: float, seen_by_camera: Collection[str]) -> str | None:
    """Where two runs first differ by more than a share of the larger value, in words.

    Of nearly the same scene, a picture may differ in a few pixels and a cloud hold other points: with a tolerance,
    those streams are not compared.
    """
    for tick, (mine, theirs) in enumerate(zip(one.observations, other.observations, strict=False)):
        for name, value in mine.values.items():
            if tolerance > 0.0 and name in seen_by_camera:
                continue
            if name not in theirs.values or not _same(value, theirs.values[name], tolerance):
                return f"stream '{name}' differs at tick {tick}"
    for tick, (mine_a, theirs_a) in enumerate(zip(one.applied, other.applied, strict=False)):
        if not _same(mine_a, theirs_a, tolerance):
            return f"the applied action differs at tick {tick}"
    if len(one.rewards) != len(other.rewards):
        return f"one ended after {len(one.rewards)} ticks, the other after {len(other.rewards)}"
    for tick, (mine_r, theirs_r) in enumerate(zip(one.rewards, other.rewards, strict=True)):
        if abs(mine_r - theirs_r) > tolerance * (1 + abs(mine_r)):
            return f"the reward differs at tick {tick}"
    return None


def _change(before: Observation, after: Observation, name: str) -> float:
    """How much a stream's numbers differ between two looks, all together."""
    one, other = (each.values[name].astype(np.float64) for each in (before, after))
    return float(np.abs(other - one).sum())


def _same(one: AnyArray, other: AnyArray, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if tolerance == 0.0 or one.dtype.kind != "f":
        return np.array_equal(one, other)
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance))
