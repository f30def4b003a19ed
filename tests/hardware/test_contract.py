"""The contract check finds nothing wrong with a good robot and names the fault of every broken one."""

import dataclasses
import math
import re
import time

import numpy as np
import pytest

from hardware.contract import check_robot
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import ROBOT_CAPABILITIES, Judgement
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

MS = 1_000_000
REACH_M = 0.5


class PlanarArm:
    """A point that moves on a table, seen by a camera: the smallest robot that keeps the contract."""

    simulated_time = True

    def __init__(self):
        self.spec = RobotSpec(
            name="planar",
            observations={
                "position": ArraySpec((2,), "float32", "m", low=-REACH_M, high=REACH_M, names=("x", "y")),
                "image": ArraySpec((4, 4, 3), "uint8", "rgb"),
            },
            action=ArraySpec((2,), "float32", "m/tick", low=-0.1, high=0.1),
            action_kinds=(ActionKind.RATE, ActionKind.RATE),
            control_hz=50.0,
        )
        self.position = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.stop()

    def reset(self, seed):
        self.position = np.random.default_rng(seed).uniform(-0.1, 0.1, 2).astype(np.float32)

    def observe(self, tick_ns):
        if self.position is None:
            raise StaleSensor("reset first")
        image = np.full((4, 4, 3), int(100 + 200 * self.position[0]), np.uint8)
        return Observation(
            tick_ns, {"position": self.position.copy(), "image": image}, {"position": 0, "image": 5 * MS}
        )

    def apply(self, action):
        problem = self.spec.action.problem_with(action)
        if problem:
            raise RobotRLError(f"planar arm cannot move: {problem}")
        return self.move(np.clip(action, -0.1, 0.1))

    def move(self, action):
        before = self.position
        self.position = np.clip(before + action, -REACH_M, REACH_M).astype(np.float32)
        return np.clip(self.position - before, -0.1, 0.1)

    def judge(self):
        return Judgement(reward=float(self.position[0]), success=False, done=False)

    def stop(self):
        pass


def edited(robot, tick_ns, ages=None, **values):
    """A planar arm's observation with some values or ages replaced."""
    seen = PlanarArm.observe(robot, tick_ns)
    return dataclasses.replace(seen, values={**seen.values, **values}, age_ns={**seen.age_ns, **(ages or {})})


class WrongDtype(PlanarArm):
    fault = "stream 'position': dtype is float64, wanted float32"

    def observe(self, tick_ns):
        return edited(self, tick_ns, position=self.position.astype(np.float64))


class WrongShape(PlanarArm):
    fault = r"stream 'position': shape is \(3,\), wanted \(2,\)"

    def observe(self, tick_ns):
        return edited(self, tick_ns, position=np.append(self.position, np.float32(0)))


class NotAnArray(PlanarArm):
    fault = "stream 'position': type is list, wanted a numpy array"

    def observe(self, tick_ns):
        return edited(self, tick_ns, position=[0.0, 0.0])


class ShowsNaN(PlanarArm):
    fault = "stream 'position': holds NaN or infinity"

    def observe(self, tick_ns):
        return edited(self, tick_ns, position=np.full(2, np.nan, np.float32))


class ShowsMoreThanItsBounds(PlanarArm):
    fault = "stream 'position': 3.0 is outside the spec's bounds"

    def observe(self, tick_ns):
        return edited(self, tick_ns, position=np.full(2, 3, np.float32))


class MissingStream(PlanarArm):
    fault = "stream 'image' of the spec is missing from values"

    def observe(self, tick_ns):
        seen = super().observe(tick_ns)
        return dataclasses.replace(seen, values={"position": seen.values["position"]})


class MissingAge(PlanarArm):
    fault = "stream 'image' of the spec is missing from age_ns"

    def observe(self, tick_ns):
        return dataclasses.replace(super().observe(tick_ns), age_ns={"position": 0})


class UnannouncedStream(PlanarArm):
    fault = "stream 'torque' in values is not in the spec"

    def observe(self, tick_ns):
        return edited(self, tick_ns, torque=np.zeros(2, np.float32))


class StaleStamp(PlanarArm):
    fault = "observation is stamped .* wanted the tick asked for"

    def observe(self, tick_ns):
        return super().observe(tick_ns - 20 * MS)


class FutureStamp(PlanarArm):
    fault = "observation is stamped .* wanted the tick asked for"

    def observe(self, tick_ns):
        return super().observe(tick_ns + 1)


class FrameFromTheFuture(PlanarArm):
    fault = "age of stream 'image' is -3000000 ns: captured after the tick"

    def observe(self, tick_ns):
        return edited(self, tick_ns, ages={"image": -3 * MS})


class StaleFrame(PlanarArm):
    fault = "stream 'image' is 900 ms old and stale: raise StaleSensor"

    def observe(self, tick_ns):
        return edited(self, tick_ns, ages={"image": 900 * MS})


class FractionalAge(PlanarArm):
    fault = "age of stream 'image' is of type float, wanted int"

    def observe(self, tick_ns):
        return edited(self, tick_ns, ages={"image": 0.5})


class FramesGoBack(PlanarArm):
    fault = "stream 'image' went back to a frame older than one shown before"

    def observe(self, tick_ns):
        return edited(self, tick_ns, ages={"image": 400 * MS if tick_ns // (20 * MS) % 2 else 0})


class Frozen(PlanarArm):
    fault = "observations are frozen"

    def reset(self, seed):
        super().reset(seed)
        self.first = None

    def observe(self, tick_ns):
        self.first = self.first or super().observe(tick_ns)
        return edited(self, tick_ns, position=self.first.values["position"].copy(), image=self.first.values["image"])


class IgnoresLimits(PlanarArm):
    fault = "asked for .* outside its bounds -0.1 to 0.1"

    def apply(self, action):
        if self.spec.action.problem_with(action):
            raise RobotRLError("cannot")
        self.move(action)
        return action.copy()


class ReturnsNothing(PlanarArm):
    fault = "apply must return what was executed: type is NoneType"

    def apply(self, action):
        super().apply(action)


class ReturnsAnotherDtype(PlanarArm):
    fault = "apply must return what was executed: dtype is float64"

    def apply(self, action):
        return super().apply(action).astype(np.float64)


class ReportsTheRequestInsteadOfTheMotion(PlanarArm):
    """Moves only along x, says that it moved as asked."""

    fault = "not what was executed"

    def move(self, action):
        done = super().move(action)
        return done / 2


class ChangesItsInput(PlanarArm):
    fault = "apply changed the array it was given"

    def apply(self, action):
        applied = super().apply(action)
        action[:] = applied
        return applied


class AcceptsNaN(PlanarArm):
    fault = "an action with NaN was accepted"

    def apply(self, action):
        return super().apply(np.nan_to_num(action))


class AcceptsAnyShape(PlanarArm):
    fault = "an action of another shape was accepted"

    def apply(self, action):
        return super().apply(action[:2])


class RefusesWithAnotherError(PlanarArm):
    fault = r"an action with NaN raised ValueError \(bad\): raise a RobotRLError"

    def apply(self, action):
        if not np.isfinite(action).all():
            raise ValueError("bad")
        return super().apply(action)


class ForgetsItsSeed(PlanarArm):
    fault = "the same seed and actions gave another trajectory: stream 'position' differs at tick 0"

    def reset(self, seed):
        super().reset(int(np.random.default_rng().integers(1 << 30)))


class RemembersOtherEpisodes(PlanarArm):
    fault = "an earlier episode changed a later one of another seed"

    def reset(self, seed):
        self.drift = getattr(self, "drift", 0.0) + (0.001 if seed != 7 else 0.0)
        super().reset(seed)
        self.position += np.float32(self.drift)


class DiffersFromItsTwin(PlanarArm):
    fault = "two robots differ under the same seed and actions"
    made = 0

    def __init__(self):
        super().__init__()
        DiffersFromItsTwin.made += 1
        self.offset = np.float32(DiffersFromItsTwin.made / 100)

    def reset(self, seed):
        super().reset(seed)
        self.position += self.offset


class MovesWhenLookedAt(PlanarArm):
    fault = "observing more often changed the trajectory"

    def observe(self, tick_ns):
        seen = super().observe(tick_ns)
        self.position = self.position * np.float32(0.99)
        return seen


class HandsOutItsState(PlanarArm):
    """The array handed out is the one that later ticks write into."""

    fault = "stream 'position' changed after it was handed out"

    def observe(self, tick_ns):
        return edited(self, tick_ns, position=self.position)

    def move(self, action):
        before = self.position.copy()
        np.clip(before + action, -REACH_M, REACH_M, out=self.position)
        return np.clip(self.position - before, -0.1, 0.1)


class ReusesTheAppliedArray(PlanarArm):
    fault = "the applied action changed after it was handed out"

    def move(self, action):
        self.answer = getattr(self, "answer", np.zeros(2, np.float32))
        self.answer[:] = super().move(action)
        return self.answer


class KeepsWhatItWasGiven(PlanarArm):
    """Starts every move from the array of the last one, which the caller may have overwritten."""

    fault = "overwriting arrays after they changed hands changed the trajectory"

    def reset(self, seed):
        super().reset(seed)
        self.last = None

    def apply(self, action):
        lagged = super().apply(action) if self.last is None else super().apply(self.last)
        self.last = action
        return lagged


class StopsOnlyOnce(PlanarArm):
    fault = "stopping raised RuntimeError: already stopped"
    running = False

    def reset(self, seed):
        super().reset(seed)
        self.running = True

    def __exit__(self, kind, error, trace):
        pass

    def stop(self):
        if self.position is not None and not self.running:
            raise RuntimeError("already stopped")
        self.running = False


class CannotStopBeforeAnEpisode(PlanarArm):
    fault = "entering and leaving without an episode raised AttributeError"

    def stop(self):
        self.position.fill(0)


class SwallowsErrors(PlanarArm):
    fault = "leaving swallows errors"

    def __exit__(self, kind, error, trace):
        return True


class EntersAsAnother(PlanarArm):
    fault = "entering returns something else"

    def __enter__(self):
        return PlanarArm()


class InfiniteReward(PlanarArm):
    fault = "judge gave a reward of inf"

    def judge(self):
        return Judgement(float("inf"), success=False, done=False)


class NumpyVerdict(PlanarArm):
    fault = "judge's success and done must be of type bool"

    def judge(self):
        return Judgement(0.0, success=np.bool_(False), done=False)


class RewardsAtRandom(PlanarArm):
    fault = "the same seed and actions gave another trajectory: the reward differs at tick 0"

    def judge(self):
        return Judgement(float(np.random.default_rng().random()), success=False, done=False)


class CannotBeMade(PlanarArm):
    fault = "making and entering it raised RobotRLError: no such arm"

    def __init__(self):
        raise RobotRLError("no such arm")


class FailsInMotion(PlanarArm):
    fault = "an episode raised OSError: cable"

    def move(self, action):
        raise OSError("cable")


class NoStreams(PlanarArm):
    fault = "spec.observations is empty"

    def __init__(self):
        super().__init__()
        self.spec = dataclasses.replace(self.spec, observations={})


class BoundsOfAnotherSize(PlanarArm):
    fault = "spec of 'action'"

    def __init__(self):
        super().__init__()
        self.spec = dataclasses.replace(self.spec, action=ArraySpec((2,), "float32", "m", low=(0.0, 0.0, 0.0)))


class TooFewNames(PlanarArm):
    fault = "spec of 'action': 1 names for 2 elements"

    def __init__(self):
        super().__init__()
        self.spec = dataclasses.replace(self.spec, action=ArraySpec((2,), "float32", "m", names=("x",)))


class SpecOfLists(PlanarArm):
    fault = "spec does not survive to_json and from_json"

    def __init__(self):
        super().__init__()
        self.spec = dataclasses.replace(self.spec, action=ArraySpec((2,), "float32", "m", low=[-1.0, -1.0]))


class MovesByItself(PlanarArm):
    """Goes on where it was sent, by the machine's time, as an arm does; from another's class it has a false word."""

    fault = "simulated_time is declared, but stream 'position' changed within 30 ms without a command"
    lag_s, delay_s = 0.05, 0.0

    def reset(self, seed):
        super().reset(seed)
        self.start, self.goal, self.since_s = self.position, self.position, time.monotonic()

    def now(self):
        left = math.exp(-max(0.0, time.monotonic() - self.since_s - self.delay_s) / self.lag_s)
        return (self.goal + left * (self.start - self.goal)).astype(np.float32)

    def observe(self, tick_ns):
        return super().observe(tick_ns) if self.position is None else edited(self, tick_ns, position=self.now())

    def move(self, action):
        self.start, self.since_s = self.now(), time.monotonic()
        self.goal = np.clip(self.start + action, -REACH_M, REACH_M).astype(np.float32)
        return (self.goal - self.start).clip(-0.1, 0.1)


class MovesByItselfAfterAWhile(MovesByItself):
    delay_s = 0.02


class ShowsTheTimeThatPasses(PlanarArm):
    """Stands still, but what it shows does not."""

    fault = "simulated_time is declared, but stream 'image' changed within 30 ms without a command"

    def observe(self, tick_ns):
        return edited(self, tick_ns, image=np.full((4, 4, 3), time.monotonic_ns() // (25 * MS) % 200, np.uint8))


class DeclaresNothing(PlanarArm):
    fault = "declares no simulated_time, so it moves by itself: give the check its clock"
    simulated_time = False


class DeclaresByAMethod(PlanarArm):
    fault = "simulated_time of DeclaresByAMethod is .*, wanted True or False"

    def simulated_time(self):
        return False


class DeclaresInWords(PlanarArm):
    fault = "simulated_time of DeclaresInWords is 'no', wanted True or False"
    simulated_time = "no"


class JudgesByAnAttribute(PlanarArm):
    fault = r"judge of JudgesByAnAttribute is 'well', wanted a method judge\(\), which Judge in .* asks for"
    judge = "well"


class JudgesWhatItIsGiven(PlanarArm):
    fault = r"judge of JudgesWhatItIsGiven cannot be called as judge\(\) \(missing a required argument: 'tick'\)"

    def judge(self, tick):
        return super().judge()


class JudgesByANumber(PlanarArm):
    fault = "judge gave float, wanted a robot_rl.core.protocols.Judgement"

    def judge(self):
        return 1.0


class PicturedInGrey(PlanarArm):
    fault = r"picture\(\) gave uint8 of shape \(4, 4\), wanted None or uint8 of shape \(height, width, 3\)"

    def picture(self):
        return np.zeros((4, 4), np.uint8)


class LandmarksWithoutABox(PlanarArm):
    fault = "it has landmarks but no landmarks_box, which Landmarked in"

    def landmarks(self):
        return {"hand": np.zeros(3)}


class FlatLandmarks(LandmarksWithoutABox):
    fault = r"landmarks\(\) gave, for 'hand', float64 of shape \(2,\), wanted floating-point numbers of shape \(3,\)"
    landmarks_box = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def landmarks(self):
        return {"hand": np.zeros(2)}


class BoxOfOneCorner(FlatLandmarks):
    fault = "landmarks_box is .*, wanted its lowest and its highest corner"
    landmarks_box = ((0.0, 0.0, 0.0),)

    def landmarks(self):
        return {"hand": np.zeros(3)}


class KeepsATargetOfAnotherSize(PlanarArm):
    fault = r"ahead\(\) gave float64 of shape \(1,\), wanted floating-point numbers of shape \(2,\)"

    def ahead(self):
        return np.zeros(1)


class WatchedInWords(PlanarArm):
    fault = "watched of WatchedInWords is 'yes', wanted True or False"
    watched = "yes"


class KeptAliveByAnAttribute(PlanarArm):
    fault = r"keep_alive of KeptAliveByAnAttribute is True, wanted a method keep_alive\(\)"
    keep_alive = True


BROKEN = [each for each in list(globals().values()) if isinstance(each, type) and hasattr(each, "fault")]


def test_a_robot_that_keeps_the_contract_has_no_violations():
    assert check_robot(PlanarArm) == []


def test_a_robot_with_every_capability_is_kept_alive_and_keeps_the_contract():
    beats = []

    class Able(PlanarArm):
        watched = True
        landmarks_box = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

        def keep_alive(self):
            beats.append(self)

        def ahead(self):
            return np.full(2, np.nan)

        def picture(self):
            return None

        def landmarks(self):
            return {"hand": np.zeros(3), "goal": np.ones(3, np.float32)}

    assert all(isinstance(Able(), each) for each in ROBOT_CAPABILITIES)
    assert check_robot(Able, ticks=9) == []
    assert len(beats) >= 9


@pytest.mark.parametrize("robot", BROKEN, ids=lambda robot: robot.__name__)
def test_a_broken_robot_is_caught_and_its_fault_named(robot):
    violations = check_robot(robot)
    assert any(re.search(robot.fault, violation) for violation in violations), violations


@pytest.mark.parametrize("robot", BROKEN, ids=lambda robot: robot.__name__)
def test_a_fault_is_told_in_few_lines(robot):
    assert len(check_robot(robot, ticks=60)) <= 4


def test_a_robot_that_moves_by_the_time_between_commands_does_not_stand_still(monkeypatch):
    slept_s = []
    monkeypatch.setattr("hardware.contract.time.sleep", slept_s.append)

    class Integrates(PlanarArm):
        def move(self, action):
            return super().move(np.clip(action * (0.5 + sum(slept_s)), -0.1, 0.1))

        def reset(self, seed):
            super().reset(seed)
            slept_s.clear()

    assert any("time between the actions changed the trajectory" in each for each in check_robot(Integrates))


def test_a_real_robot_is_driven_on_its_clock_and_not_asked_to_repeat_itself():
    class Watch:
        now = 123_000_000_000
        slept = 0

        def now_ns(self):
            return self.now

        def sleep_until_ns(self, deadline_ns):
            self.slept += deadline_ns > self.now
            self.now = max(self.now, deadline_ns)

    class Real(ForgetsItsSeed):
        simulated_time = False

    watch = Watch()
    assert check_robot(Real, clock=watch, repeatable=False, ticks=9) == []
    assert watch.slept == 8
