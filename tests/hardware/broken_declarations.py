"""Robots that break the contract in what they say of themselves: verdicts, specs, how time goes on, capabilities."""

import dataclasses
import math
import time

import numpy as np

from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import ArraySpec
from tests.hardware.broken_robots import MS, REACH_M, PlanarArm, edited


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
