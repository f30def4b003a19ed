"""Robots that break the contract in what they show, do or remember; each has its `fault` as a pattern."""

import dataclasses

import numpy as np

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judgement
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
