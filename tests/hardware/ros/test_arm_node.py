"""The arm node over the wire, told what to do by a scripted session.

Times are generous, since these tests share a machine; that they are kept is measured elsewhere."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.arm.state import Mode
from hardware.ros import arm_topics
from hardware.ros.decode import pose
from hardware.ros.spinning_thread import SpinningThread
from hardware.safety.filter import FilterReason
from hardware.sim.joint_arm import NAMES
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S
from tests.hardware.ros.arm_node_session import CONFIG, GIVE_UP_S, Session

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[3]


def config(**arm):
    return {**CONFIG, "arm": {**CONFIG["arm"], **arm}}


@pytest.fixture
def arm(ros_domain):
    """Starts arm nodes and sessions, and ends them."""
    from hardware.ros.arm_node import ArmNode
    from hardware.ros.client import SingleThreadedExecutor, rclpy

    rclpy.init(args=[])
    made, sessions = [], []

    class Bench:
        node = None

        def start(self, settings=CONFIG):
            self.node = ArmNode(settings)
            executor = SingleThreadedExecutor()
            hearing = SpinningThread(executor, "the arm node")
            made.append((self.node, hearing))
            self.node.start()
            executor.add_node(self.node)
            hearing.start()
            return self

        def session(self, name="a"):
            sessions.append(Session(name))
            return sessions[-1].connect()

    yield Bench()
    for session in sessions:
        session.close()
    for node, hearing in made:
        node.end()
        hearing.end()
        node.destroy_node()
    rclpy.shutdown()


def test_it_says_what_it_is_and_shows_its_streams(arm):
    session = arm.start().session()
    mode = session.modes[-1]
    assert (mode.mode, mode.lockstep) == (Mode.INACTIVE, False)
    assert mode.robot_spec().action.names == NAMES
    session.wait("a pose", lambda: session.poses)
    assert list(session.joints[-1].name) == list(NAMES)
    assert abs(session.joints[-1].header.stamp.sec - session.now_ns() // NS_PER_S) <= 2
    assert np.linalg.norm(pose(session.poses[-1])[3:]) == pytest.approx(1.0, abs=1e-5)


def test_an_enabled_arm_moves_and_acknowledges_and_rests_when_disabled(arm):
    session = arm.start().session().begin().go()
    session.wait("answers", lambda: len(session.answers) >= 10)
    assert {row.session for row in session.answers} == {"a"}
    session.enable(False)
    assert session.wait_mode(Mode.INACTIVE).reason == "disabled"
    session.driving = session.beating = False
    session.wait_rest()


def test_diagnostics_tell_rate_and_lateness(arm):
    session = arm.start().session()
    session.wait("diagnostics", lambda: session.lines)
    assert session.lines[-1].name == "arm: /sim"
    assert {"rate [Hz]", "lateness p99 [us]", "ticks missed in the last second"} <= {
        each.key for each in session.lines[-1].values
    }


@pytest.mark.parametrize(
    ("silence", "reason"),
    [("heartbeat", "no heartbeat from a for 1000 ms"), ("rows", "no usable command from a for 1000 ms")],
)
def test_silence_stops_the_arm_and_only_clearing_recovers(arm, silence, reason):
    session = arm.start().session().begin().go()
    if silence == "heartbeat":
        session.beating = False
    else:
        session.driving = False
    assert reason in session.wait_mode(Mode.STOPPED).reason
    session.driving = session.beating = False
    session.wait_rest()
    session.enable()
    session.wait("a refusal", lambda: "publish on `clear` first" in session.modes[-1].refusal)
    assert session.modes[-1].mode is Mode.STOPPED
    session.clear()
    assert session.wait_mode(Mode.INACTIVE).reason == "cleared by ada"
    session.begin(seed=4).go()


def test_a_stop_is_latched_whoever_pressed_it(arm):
    session = arm.start().session().begin().go()
    arm.session("button").stop()
    assert "the stop was pressed" in session.wait_mode(Mode.STOPPED).reason
    assert FilterReason(session.answer(session.row(session.place)).reasons) & FilterReason.DISABLED
    session.driving = session.beating = False
    session.wait_rest()


def test_a_second_publisher_of_commands_stops_the_arm_and_is_named(arm):
    session = arm.start().session().begin().go()
    arm.session("b").row(session.place)
    assert "second publisher of commands: a and b" in session.wait_mode(Mode.STOPPED).reason


def test_a_stop_right_before_its_opposite_is_heard(arm):
    # A `false` right behind the `true`, or a panel that repeats it, made the stop unheard where only the last was kept.
    session = arm.start().session().begin().go()
    panel = arm.session("panel")
    for pressed in (*[False] * 50, True, *[False] * 50):
        panel.say(arm_topics.STOP, arm_topics.STOP.message()(data=pressed))
    assert "the stop was pressed" in session.wait_mode(Mode.STOPPED).reason


def test_motion_taken_away_right_before_it_is_allowed_again_is_taken_away(arm):
    session = arm.start().session().begin().go()
    before = len(session.modes)
    other = arm.session("other")
    other.enable(False)
    other.enable(True)
    session.wait("disabling", lambda: any(each.mode is Mode.INACTIVE for each in session.modes[before:]))


def test_a_second_senders_row_is_seen_though_the_first_sends_at_once_again(arm):
    # With a queue of one it was overwritten unseen, 32 of 32.
    session = arm.start().session().begin().go()
    other = arm.session("b")
    other.row(session.place)
    for _ in range(20):
        session.row(session.place)
    assert "second publisher of commands: a and b" in session.wait_mode(Mode.STOPPED).reason


def test_somebody_else_who_beats_under_the_sessions_name_is_noticed_and_stops_the_arm(arm):
    session = arm.start().session()
    session.counts = True
    session.begin().go()
    arm.session("thief").beat_as(session.name, 1)
    assert "somebody else speaks as session a: heartbeat 1 came after" in session.wait_mode(Mode.STOPPED).reason


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"values": [float("nan")] * 7}, FilterReason.NOT_FINITE),
        ({"values": [0.0] * 3, "names": NAMES[:3]}, FilterReason.SHAPE),
        ({"values": [0.0] * 7, "names": (*NAMES[:6], "tail")}, FilterReason.SHAPE),
    ],
)
def test_a_malformed_row_is_refused_with_its_reason(arm, broken, reason):
    session = arm.start().session().begin()
    session.beating = True
    answer = session.answer(session.row(**broken))
    assert answer.reasons & reason
    session.wait("the words", lambda: "command of a" in session.modes[-1].refusal)


def test_a_row_from_another_time_is_refused_and_the_offset_told(arm):
    session = arm.start().session().begin()
    session.beating = True
    answer = session.answer(session.row([0.0] * 7, stamp_ns=session.now_ns() - 60 * NS_PER_S))
    assert answer.reasons & FilterReason.CLOCK
    session.wait("the words", lambda: "synchronise the two clocks" in session.modes[-1].refusal)


def test_a_driver_that_raises_is_a_fault(arm):
    session = arm.start().session().begin().go()

    def cut(action):
        raise OSError("the wire is cut")

    arm.node._driver.apply = cut
    assert session.wait_mode(Mode.FAULT).reason == "driver failed to apply a command: OSError: the wire is cut"
    session.driving = session.beating = False
    session.wait_rest()


@pytest.mark.parametrize("outlet", ["publisher", "logger"])
def test_an_arm_whose_node_cannot_speak_comes_to_rest(arm, monkeypatch, outlet):
    session = arm.start().session().begin().go()

    def mute(*_, **__):
        raise RuntimeError("severity cannot be changed between calls")

    if outlet == "publisher":
        monkeypatch.setattr(arm.node._outgoing[arm_topics.MODE], "publish", mute)
    else:
        logger = arm.node.get_logger()
        for severity in ("info", "warning", "error"):
            monkeypatch.setattr(logger, severity, mute)
        monkeypatch.setattr(arm.node, "get_logger", lambda: logger)
    arm.session("button").stop()
    session.wait("a refused row", lambda: FilterReason(session.answers[-1].reasons) & FilterReason.DISABLED)
    session.driving = session.beating = False
    session.wait_rest()
    arm.node.require_alive()


def test_an_enabling_from_before_the_node_started_is_not_obeyed(arm, ros_domain):
    from hardware.ros.client import rclpy

    early = rclpy.create_node("early")
    topic = arm_topics.ENABLE
    early.create_publisher(topic.message(), "/sim/enable", topic.qos()).publish(topic.message()(data=True))
    session = arm.start().session()
    session.wait("joints", lambda: len(session.joints) > 20)
    assert session.modes[-1].mode is Mode.INACTIVE
    early.destroy_node()


def test_a_driver_that_cannot_be_connected_is_told_before_anything_is_heard(arm, monkeypatch):
    from hardware.sim.joint_arm import JointArm

    def refuse(self):
        raise RobotRLError("nobody answers at 192.168.0.2")

    monkeypatch.setattr(JointArm, "__enter__", refuse)
    with pytest.raises(RobotRLError, match=r"192\.168\.0\.2"):
        arm.start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_brakes_the_arm_and_ends_the_node(arm, ros_domain, tmp_path, number):
    path = tmp_path / "robot.json"
    path.write_text(json.dumps(CONFIG))
    command = [sys.executable, "-m", "hardware.ros.arm_node", "--ros-args", "-p", f"config:={path}"]
    with subprocess.Popen(command, cwd=ROOT, env=ros_domain, stderr=subprocess.PIPE) as process:
        try:
            session = arm.session().begin().go()
            process.send_signal(number)
            assert session.wait_mode(Mode.INACTIVE).reason == "the arm node ends"
            assert process.wait(GIVE_UP_S) == 0
        finally:
            process.kill()
    places = np.array([each.position for each in session.joints])[-10:, 0]
    steps = abs(np.diff(places))
    assert steps[-1] <= steps[0] + 1e-6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_end_ends_with_status_0_every_time(ros_domain, tmp_path, number):
    path = tmp_path / "robot.json"
    path.write_text(json.dumps(CONFIG))
    command = [sys.executable, "-m", "hardware.ros.arm_node", "--ros-args", "-p", f"config:={path}"]
    for run in range(5):
        with subprocess.Popen(command, cwd=ROOT, env=ros_domain, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert any("stream at 100 Hz" in line for line in process.stderr)
                time.sleep(0.03 * run)
                process.send_signal(number)
                _, errors = process.communicate(timeout=GIVE_UP_S)
            finally:
                process.kill()
        assert (process.returncode, "Traceback" in errors) == (0, False), errors


def test_settings_that_make_no_sense_end_the_node_with_words(ros_domain, tmp_path):
    path = tmp_path / "robot.json"
    path.write_text(json.dumps({"arm": CONFIG["arm"]}))
    command = [sys.executable, "-m", "hardware.ros.arm_node", "--ros-args", "-p", f"config:={path}"]
    done = subprocess.run(command, cwd=ROOT, env=ros_domain, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "have no 'limits'" in done.stderr
    assert "Traceback" not in done.stderr
