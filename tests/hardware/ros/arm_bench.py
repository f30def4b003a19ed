"""An arm node's controller between a script and a simulated arm, with made-up time, without ROS."""

import math
import time

import numpy as np

from hardware.arm.controller import ArmController
from hardware.arm.mail import ResetMail, RowMail
from hardware.arm.settings import ArmSettings
from hardware.arm.state import Enable, Heartbeat, Mode
from hardware.sim.joint_arm import JOINTS, JointArm
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import StaleSensor
from robot_rl.core.specs import NS_PER_S

MS = 1_000_000
EPOCH_NS = 1_700_000_000 * NS_PER_S
LIMITS = {
    "low": [-3.0] * 6 + [0.0],
    "high": [3.0] * 6 + [1.0],
    "max_step": [0.1] * 6 + [1.0],
    "max_velocity": [1.0] * 6 + [math.inf],
    "max_acceleration": [5.0] * 6 + [math.inf],
    "max_jerk": [50.0] * 6 + [math.inf],
    "max_age_s": {"joint_position": 0.05, "tool_pose": 0.05},
    "ramp_after_s": 0.1,
    "fault_after_s": 0.5,
    "start": {"gripper": 1.0},
    "measured": {name: {"stream": "joint_position", "index": index} for index, name in enumerate(JOINTS)},
    "following": {"lag_s": 0.05, "wait": 0.057, "fault": 0.25},
}


SEEN_TICKS = 12
"""After as many an arm at rest was seen for long enough to be enabled."""


class WatchedArm(JointArm):
    """A simulated arm that keeps what it was told, and fails on request."""

    slow = False

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.rows, self.stops, self.seeds = [], 0, []
        self.failing = self.stale = ""

    def observe(self, tick_ns):
        if self.failing == "observe":
            raise OSError("the wire is cut")
        if self.stale:
            raise StaleSensor(self.stale)
        return super().observe(tick_ns)

    def apply(self, action):
        if self.failing == "apply":
            raise OSError("the wire is cut")
        self.rows.append(np.array(action))
        return super().apply(action)

    def put(self, position):
        self._hold_at(position)

    def reset(self, seed):
        self.seeds.append(seed)
        super().reset(seed)

    def stop(self):
        self.stops += 1
        super().stop()


class Bench:
    """A controller between a script and an arm, with a clock that both share."""

    def __init__(self, driver=None, limits=None, row_hz=20.0, **settings):
        self.clock = SimulatedClock(NS_PER_S)
        self.jump_ns = 0
        self.arm = (driver or WatchedArm)(self.clock)
        self.settings = ArmSettings(driver={}, namespace="/sim", **settings)
        self.said, self.modes, self.acknowledged, self.shown = [], [], [], []
        self.loop = ArmController(self.arm, self.settings, limits or LIMITS, row_hz, self)
        self.loop.begin(self.now_ns, self.robot_ns)

    @property
    def now_ns(self):
        return self.clock.now_ns()

    @property
    def robot_ns(self):
        return EPOCH_NS + self.now_ns + self.jump_ns

    @property
    def mode(self):
        return self.modes[-1]

    def show(self, observation):
        self.said.append("show")
        self.shown.append(observation)

    def acknowledge(self, row):
        self.said.append("acknowledge")
        self.acknowledged.append(row)

    def judge(self, stamp_ns, judgement):
        self.said.append("judge")

    def tell(self, mode):
        self.modes.append(mode)

    def hear(self, *mail):
        for each in mail:
            self.loop.receive(each, self.now_ns, self.robot_ns)

    def row(self, values, session="a", late_s=0.0):
        stamp_ns = self.robot_ns - round(late_s * NS_PER_S)
        self.hear(RowMail(stamp_ns, session, None if values is None else np.asarray(values, np.float32)))
        return self.acknowledged[-1]

    def tick(self, count=1):
        for _ in range(count):
            self.clock.sleep_until_ns(self.now_ns + 10 * MS)
            self.loop.tick(self.now_ns, self.now_ns, self.robot_ns)

    def begin(self, session="a", seed=3):
        self.tick(SEEN_TICKS)
        self.hear(Enable(True), ResetMail(session, seed), Heartbeat(session))
        self.settle(session)

    def settle(self, session="a"):
        """Ticks until an episode has begun."""
        episode = self.mode.episode
        for _ in range(300):
            if self.mode.episode > episode or self.mode.mode is not Mode.ACTIVE:
                return
            self.hear(Heartbeat(session))
            self.tick()
            time.sleep(0.001 if self.arm.slow else 0.0)
        raise AssertionError(f"no episode began: {self.mode}")

    def by_hand(self, by, ticks=30):
        """Somebody moves the arm, as fast as a hand does; where it is then."""
        start = self.arm.position()
        for tick in range(1, ticks + 1):
            self.arm.put(start + np.asarray(by) * tick / ticks)
            self.tick()
        return self.arm.position()

    def drive(self, rows=10, step=0.02, session="a"):
        """Moves the first joint."""
        place = self.arm.position()
        for each in range(rows):
            place[0] += step * min(each, 4) / 4
            self.hear(Heartbeat(session))
            self.row(place, session)
            self.tick(5)
        return self
