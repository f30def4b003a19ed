"""Processes that die, hang or push in while an arm moves: it stops, says why, and moves again only when told to.

Only the order of events and the reasons are judged; benchmarks/ros/faults.py measures. The arm's patience is long, so
that a busy computer is not taken for a fault.
"""

from __future__ import annotations

import signal
import time

import pytest

from benchmarks.ros.fault_bench import environment, joint_arm_settings
from benchmarks.ros.fault_scene import Scene
from data.archive.store import DatasetStore
from data.archive.verify import verify_dataset
from data.recorder.recovery import recover
from hardware.arm.state import Mode
from tests.hardware.ros.conftest import loopback_environment, loopback_profile

pytestmark = pytest.mark.ros
STREAMS = ("joint_position", "tool_pose", "image_front")
PATIENT = (
    "arm.watchdog_s=1.0",
    "arm.deadman_timeout_s=0.7",
    "robot.command.silent_s=3.0",
    "limits.ramp_after_s=1.0",
    "limits.fault_after_s=3.0",
    *(f"robot.streams.{name}.max_age_s=1.0" for name in STREAMS),
    *(f"limits.max_age_s.{name}=1.0" for name in STREAMS),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory, ros_domain_id):
    place = tmp_path_factory.mktemp("faults")
    settings = joint_arm_settings(*PATIENT)
    with (
        environment(loopback_environment()),
        Scene("intruder", place, ros_domain_id, settings, loopback_profile()) as running,
    ):
        yield running
        running.end_policies()
        recover(str(running.dataset), wait_s=60.0)
        with DatasetStore.open(str(running.dataset)) as store:
            assert len(store.episode_ids()) == len(seeds.used), "every trial is an episode"
            wrong = [each for _, found in verify_dataset(store) for each in found if not each.warning]
        assert not wrong


class Seeds:
    def __init__(self):
        self.used = []

    def next(self):
        self.used.append(len(self.used) + 1)
        return self.used[-1]


seeds = Seeds()


def moving(scene, **request):
    """Begins an episode; returns when the arm moves. That it does shows that the fault before is over."""
    seed, observer = seeds.next(), scene.observer
    observer.wait_camera(time.monotonic_ns())
    scene.policy.ask(seed=seed, **request)
    scene.policy.wait_for("connected")
    observer.wait_for("the episode", lambda: observer.mode.seed == seed and observer.mode.session)
    observer.forget()
    observer.wait_for("motion", lambda: observer.moved(0.1))
    return observer


def stopped(observer):
    """Why, once it has stopped and rests."""
    observer.wait_for("the end of motion", lambda: observer.mode.mode is not Mode.ACTIVE)
    reason = observer.mode.reason
    observer.wait_rest()
    return reason


def test_a_killed_session_stops_the_arm_and_only_clearing_lets_the_next_one_move(scene):
    observer = moving(scene)
    scene.kill_policy()
    assert "no heartbeat from" in stopped(observer)
    assert observer.mode.mode is Mode.STOPPED
    assert observer.recover()


def test_a_hanging_session_loses_the_arm_and_does_not_get_it_back_when_it_goes_on(scene):
    observer = moving(scene)
    scene.policy.signal(signal.SIGSTOP)
    assert "no heartbeat from" in stopped(observer)
    scene.policy.signal(signal.SIGCONT)
    assert "no heartbeat from" in scene.policy.wait_for("ended")["reason"]
    assert observer.mode.mode is Mode.STOPPED
    assert observer.recover()


def test_a_killed_camera_ends_the_session_which_names_it_and_the_arm_rests(scene):
    observer = moving(scene)
    scene.camera.kill()
    stopped(observer)
    assert "image_front" in scene.policy.wait_for("ended")["reason"]
    scene.start_camera()
    assert observer.mode.mode is Mode.INACTIVE


def test_a_second_sender_of_commands_stops_the_arm_and_is_named(scene):
    observer = moving(scene)
    session = observer.mode.session
    scene.intruder.ask(send=True)
    assert f"second publisher of commands: {session} and intruder" in stopped(observer)
    scene.policy.wait_for("ended")
    assert observer.recover()


def test_a_flood_of_somebody_elses_heartbeats_neither_stops_nor_drives_the_arm(scene):
    observer = moving(scene, ticks=40)
    session = observer.mode.session
    scene.intruder.ask(flood=500, pause_s=0.001)
    assert scene.policy.wait_for("ended")["reason"] == "time limit: 40 ticks"
    scene.intruder.wait_for("flooded")
    assert {mode.session for _, mode in observer.modes if mode.mode is Mode.ACTIVE} == {session}
    assert observer.mode.mode is Mode.INACTIVE
