"""The arm's thread: whatever fails in it, the arm is braked and not left."""

import threading
import time

import numpy as np
import pytest

from hardware.arm.controller import ArmController
from hardware.arm.mail import Arrival, Mailbox, RowMail
from hardware.arm.settings import ArmSettings
from hardware.arm.state import Enable, Heartbeat
from hardware.arm.thread import ArmThread
from hardware.sim.joint_arm import JointArm
from tests.hardware.ros.arm_bench import LIMITS

GIVE_UP_S = 20.0


class Outlet:
    """Says nothing, and raises once it is told to fail."""

    def __init__(self, fails_at):
        self.fails_at, self.failing, self.modes = fails_at, threading.Event(), []

    def _say(self, what):
        if self.failing.is_set() and what == self.fails_at:
            raise ValueError(f"cannot make a message to {what}")

    def show(self, observation):
        self._say("show")

    def acknowledge(self, row):
        self._say("acknowledge")

    def judge(self, stamp_ns, judgement):
        self._say("judge")

    def tell(self, mode):
        self.modes.append(mode)
        self._say("tell")


class KeptArm(JointArm):
    def __init__(self):
        super().__init__()
        self.told, self.stops = [], 0

    def apply(self, action):
        self.told.append(float(action[0]))
        return super().apply(action)

    def stop(self):
        self.stops += 1
        super().stop()


@pytest.mark.parametrize("fails_at", ["show", "acknowledge"])
def test_a_message_that_cannot_be_made_brakes_the_arm_and_ends_its_thread_with_the_reason(fails_at):
    arm, mailbox, outlet = KeptArm(), Mailbox(), Outlet(fails_at)
    settings = ArmSettings({}, "/sim", watchdog_s=5.0, deadman_timeout_s=5.0)
    loop = ArmController(
        arm, settings, {**LIMITS, "following": {"lag_s": 0.05, "wait": 0.057, "fault": 3.0}}, 20.0, outlet
    )
    stream = ArmThread(arm, loop, mailbox, time.time_ns, 100.0)
    stream.start()

    def say(mail):
        mailbox.put(Arrival(mail, time.monotonic_ns(), time.time_ns()))

    place, until_s = arm.position(), time.monotonic() + GIVE_UP_S
    while stream.alive and time.monotonic() < until_s:
        say(Enable(True))
        say(Heartbeat("a"))
        if loop.state.active:
            place[0] += 0.02
            say(RowMail(time.time_ns(), "a", place.astype(np.float32)))
        if arm.told and arm.told[-1] - arm.told[0] > 0.1:
            outlet.failing.set()
        time.sleep(0.05)
    assert not stream.alive
    assert isinstance(stream.failure, ValueError)
    steps = np.abs(np.diff(arm.told))
    assert steps[-1] < 1e-6
    # Braked within its limits of 5 rad/s^2, at 100 Hz, not dropped; a stream that stalled may begin at rest.
    assert np.abs(np.diff(np.diff(arm.told))).max() <= 5.0 / 100**2 * 1.05 or loop.counters.stalls
    assert arm.stops >= 1
