"""`robot-rl up` refuses a wrong yaml before anything starts, waits for the arm's word, and ends cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardware.arm.messages import ArmMode
from hardware.arm.state import Mode
from hardware.ros.arm_remote import Diagnostic
from robot_rl.commands.up import main as up
from robot_rl.commands.up import stop_and_clear
from robot_rl.commands.up.node_plan import plan_nodes, read_document
from robot_rl.commands.up.supervisor import MotionNodeDied, NodeCommand, Patience, Supervisor
from robot_rl.config.settings import load
from robot_rl.core.errors import HelpRequested, RobotRLError

DEADLINE_S = 20.0
YAML = """# @package _global_
robot: {_target_: hardware.sim.pusht.PushTRobot}
limits:
  low: [0.0, 0.0]
  high: [512.0, 512.0]
  max_step: [512.0, 512.0]
  max_velocity: [5120.0, 5120.0]
  max_acceleration: [102400.0, 102400.0]
  max_jerk: [2048000.0, 2048000.0]
  measured: {0: {stream: state, index: 0}, 1: {stream: state, index: 1}}
  following: {lag_s: 0.1, wait: 540.0, fault: 600.0}
  max_age_s: {state: 0.1, keypoint: 0.1, n_contacts: 0.1}
  ramp_after_s: 0.3
  fault_after_s: 1.0
arm: {namespace: /my_arm, watchdog_s: 0.3, stream_hz: 100.0, driver: {_target_: hardware.sim.pusht.PushTRobot}}
cameras:
  wrist: {namespace: /my_arm/wrist, source: {_target_: fake_cameras.Pattern, fps: 30}}
"""
CAMERAS = """
from hardware.cameras.pattern import PatternCamera
class Pattern(PatternCamera):
    def __init__(self, clock, fps):
        super().__init__(clock=clock, fps=fps)
    def __enter__(self):
        raise RuntimeError("a check must not open cameras")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with `robot=ros/my_arm`; returns a function that edits its yaml."""
    monkeypatch.delenv("ROBOT_RL_CONFIGS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fake_cameras.py").write_text(CAMERAS)
    (tmp_path / "configs/robot/ros").mkdir(parents=True)

    def write(old: str = "", new: str = "") -> Path:
        assert old in YAML
        (tmp_path / "configs/robot/ros/my_arm.yaml").write_text(YAML.replace(old, new) if old else YAML)
        return tmp_path

    write()
    return write


def settings(*overrides: str) -> up.UpSettings:
    return load(up.UpSettings, "up", ["robot=ros/my_arm", *overrides])


def test_checking_writes_the_whole_resolved_robot_and_starts_nothing(place, capsys):
    assert up.main(["robot=ros/my_arm", "check=true", "arm.stream_hz=250", "directory=out"]) == 0
    path = Path("out/robot.json")
    assert "arm, camera wrist" in capsys.readouterr().out
    document = read_document(path)
    assert set(document) == {"robot", "limits", "arm", "cameras", "latency", "task", "rollout"}
    assert document["arm"]["stream_hz"] == 250
    assert document["cameras"]["wrist"]["source"]["fps"] == 30


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  max_jerk: [2048000.0, 2048000.0]\n", "", "limits.max_jerk is missing"),
        ("max_step: [512.0, 512.0]", "max_step: [512.0]", "max_step"),
        ("fake_cameras.Pattern", "fake_cameras.Patern", r"cameras\.wrist\.source: .*cannot be imported"),
        ("fps: 30", "fsp: 30", r"cameras\.wrist\.source: .*takes no 'fsp': did you mean fps"),
        ("namespace: /my_arm, w", "w", "arm.namespace is missing"),
        ("namespace: /my_arm, w", "namespace: /, w", r"arm\.namespace is empty"),
        ("stream_hz: 100.0", "stream_rate_hz: 100.0", "arm has no key 'stream_rate_hz'"),
        ("watchdog_s: 0.3", "watchdog_s: 0.01", "too short for rows at 10 Hz"),
        ("namespace: /my_arm/wrist, ", "", "cameras.wrist.namespace is missing"),
        ("driver: {_target_: hardware.sim.pusht.PushTRobot}", "driver: {}", r"arm\.driver is \{\}, wanted"),
        ("hardware.sim.pusht.PushTRobot}\nlimits", "hardware.sim.pusht.NoRobot}\nlimits", "cannot be imported"),
        ("arm: {", "arms: {", "unknown setting 'arms': did you mean arm"),
        ("stream_hz: 100.0", "stream_hz: .nan", r"arm\.stream_hz is nan, wanted a number above 0 and at most 2000"),
        ("stream_hz: 100.0", "stream_hz: 0.0", r"arm\.stream_hz is 0.0, wanted a number above 0"),
        ("stream_hz: 100.0", "stream_hz: 5.0", "below the rows' 10"),
        ("stream_hz: 100.0", "deadman: 1", r"arm\.deadman is 1, wanted true or false"),
        ("stream_hz: 100.0", "realtime_priority: 120", r"realtime_priority is 120, wanted 1 to 99"),
        ("namespace: /my_arm, w", "namespace: 7, w", r"arm\.namespace is 7, wanted a name"),
        ("namespace: /my_arm, w", "namespace: my arm, w", r"arm\.namespace is 'my arm', wanted a ROS topic"),
        (
            "driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "driver: {_target_: fake_cameras.Pattern}",
            "has no reset",
        ),
        ("driver: {_target_: hardware.sim.pusht.PushTRobot}", "driver: {_target_: os.system}", "wanted a class"),
        (
            "driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "driver: {_target_: 5}",
            "_target_ is 5, wanted the name",
        ),
        (
            "driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "driver: {_target_: hardware.sim.joint_arm.JointArm, lag_s: .nan}",
            r"arm\.driver\.lag_s is nan, wanted a finite number",
        ),
        (
            "driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "driver: {_target_: hardware.sim.joint_arm.JointArm, lag_s: fast}",
            "lag_s is 'fast', wanted a finite number",
        ),
        (
            "driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "driver: {_target_: hardware.ros.robot.RosRobot, name: a, namespace: /a, control_hz: 10.0, streams: {}}",
            r"arm\.driver\.action is missing",
        ),
        (
            "driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "driver: {_target_: hardware.sim.joint_arm.JointArm}",
            "wanted 7, one per action dimension",
        ),
        (
            "stream_hz: 100.0, driver: {_target_: hardware.sim.pusht.PushTRobot}",
            "lockstep: true, driver: {_target_: hardware.sim.joint_arm.JointArm}",
            r"arm\.lockstep is true, but the driver 'joint_arm' moves by itself",
        ),
        ("fps: 30", "fps: -1", r"cameras\.wrist\.source: fps is -1"),
        ("fps: 30", "fps: .inf", r"cameras\.wrist\.source\.fps is inf, wanted a finite number"),
        ("  wrist:", "  my wrist:", "name of cameras.my wrist is 'my wrist', wanted a ROS topic"),
        ("cameras:\n", "cameras:\n  no: {}\n", "line 1[0-9]: key 'no' is read as true or false"),
        ("1: {stream: state, index: 1}", "", "action dimension 1 starts nowhere"),
        ("  following: {lag_s: 0.1, wait: 540.0, fault: 600.0}\n", "", r"limits\.following is missing"),
        ("measured: {", "measured: {2: 3, ", r"limits\.measured\.2: no action dimension"),
        ("index: 1}", "index: one}", r"limits\.measured\.1\.index is 'one', wanted a whole number"),
        ("arm: {n", "latency: {command_s: .nan}\narm: {n", r"latency\.command_s is nan"),
        ("arm: {n", "task: {name: a, max_ticks: many}\narm: {n", r"task\.max_ticks: .*many"),
    ],
)
def test_a_wrong_yaml_is_refused_before_anything_is_written(place, old, new, message):
    place(old, new)
    with pytest.raises(RobotRLError, match=message):
        up.resolve(settings())
    assert not Path("runs").exists()


FR3 = (Path(__file__).parents[4] / "configs/robot/ros/fr3.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    z: {stream: tool_pose, index: 2",
            "    # ",
            r"limits\.measured\.z is missing: nothing would keep the tool",
        ),
        ("index: 2, low: 0.02, high: 0.6", "index: 2", r"limits\.measured\.z has no low and high"),
        ("    z: {stream: tool_pose, index: 2", "    z: {stream: tool_pose, index: 1", "index 1 of 'tool_pose' is 'y'"),
        (
            "namespace: ${robot.namespace}",
            "namespace: /other",
            r"arm\.namespace is /other, but robot\.namespace is /fr3",
        ),
        ("leash_m: 0.", "leash_m: -0.", "leash_m is -0"),
        ("leash_m: 0.2", "leash_m: 0.02", r"leash_m is 0\.02, within limits\.following\.wait of 'x', 0\.026"),
        ("leash_rad: 1.0", "leash_rad: 0.1", r"leash_rad is 0\.1, within limits\.following\.wait of 'rx', 0\.231"),
        ("fault_after_s: 0.5", "fault_after_s: 5000.0", r"limits\.fault_after_s is 5000 s, wanted at most 60 s"),
        ("command: {adapter: arm_node}", "command: {adapter: arm_node, lockstep: true}", "wanted the same"),
        ("joints: [fr3_joint1", "joints: [no, fr3_joint1", "no is read as false: write false, or a name in quotes"),
        ("names: [x, y, z", "names: [7, y, z", r"entry of robot\.action\.names is 7, wanted a name"),
    ],
)
def test_a_spoilt_vendors_yaml_is_refused(place, old, new, message):
    assert old in FR3
    Path("configs/robot/ros/my_arm.yaml").write_text(FR3.replace(old, new))
    with pytest.raises(RobotRLError, match=message):
        up.resolve(settings())


def test_a_robot_without_nodes_says_that_there_is_nothing_to_start(place):
    with pytest.raises(RobotRLError, match="neither `arm` nor `cameras`"):
        up.resolve(load(up.UpSettings, "up", ["robot=pusht"]))


def test_the_arm_comes_first_and_only_it_can_move(place):
    path = up.resolve(settings())
    arm, camera = plan_nodes(read_document(path), path)
    assert (arm.can_move, camera.can_move) == (True, False)
    assert arm.ros_arguments == ("--ros-args", "-r", "__node:=arm_node", "-p", f"config:={path.absolute()}")
    assert camera.ros_arguments[-2:] == ("-p", "camera:=wrist")
    argv = up.command_of(camera).argv
    assert argv[0] == sys.executable
    assert "hardware.ros.camera_node" in argv


def test_a_document_that_is_none_names_the_command_that_writes_one(tmp_path):
    with pytest.raises(RobotRLError, match="check=true writes it"):
        read_document(tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(RobotRLError, match="no resolved robot"):
        read_document(tmp_path / "other.json")


class FakeArm:
    """An arm node seen from outside: says its modes one by one, one for each look."""

    def __init__(self, *modes: ArmMode | None) -> None:
        self.mode: ArmMode | None = None
        self.diagnostics: dict[str, Diagnostic] = {}
        self._modes = list(modes)

    def spin(self, timeout_s: float) -> None:
        time.sleep(timeout_s / 10)
        if self._modes:
            self.mode = self._modes.pop(0)


def supervised(code: str, lines: list[str], *, can_move: bool = True) -> Supervisor:
    return Supervisor([NodeCommand("arm", (sys.executable, "-c", code), can_move)], lines.append, Patience(stop_s=10.0))


def run(supervisor: Supervisor, arm: FakeArm, start_s: float) -> None:
    with up.stopped_at_the_end(supervisor):
        supervisor.start()
        up.await_arm(supervisor, arm, "/a", start_s)


SLEEPY = "import time; time.sleep(60)"


def test_it_waits_until_the_arm_has_said_its_mode():
    run(supervised(SLEEPY, []), FakeArm(None, None, ArmMode(Mode.INACTIVE)), DEADLINE_S)


def test_an_arm_that_says_nothing_is_stopped_again_and_named():
    lines: list[str] = []
    supervisor = supervised(SLEEPY, lines)
    with pytest.raises(RobotRLError, match=r"nothing on /a/mode within 0\.2 s"):
        run(supervisor, FakeArm(), 0.2)
    assert lines == ["[arm] was ended by SIGTERM"]


def test_an_arm_that_dies_while_it_starts_is_not_waited_for():
    supervisor = supervised("import sys; sys.exit('no such joint')", lines := [])
    with pytest.raises(MotionNodeDied):
        run(supervisor, FakeArm(), 1000.0)
    assert lines == ["[arm] no such joint"]


def test_only_changes_are_told():
    lines: list[str] = []
    told, arm = up.Told(lines.append), FakeArm()
    arm.mode = ArmMode(Mode.STOPPED, "no heartbeat for 0.2 s", "session-1")
    arm.diagnostics["camera_node_wrist"] = Diagnostic("WARN", "12 Hz", {"drops": "3"})
    told.about(arm)
    told.about(arm)
    assert lines == [
        "arm is stopped for session-1: no heartbeat for 0.2 s",
        "camera_node_wrist WARN: 12 Hz",
    ]
    arm.mode = ArmMode(Mode.INACTIVE)
    arm.diagnostics["camera_node_wrist"] = Diagnostic("OK", "30 Hz", {})
    told.about(arm)
    assert lines[2:] == ["arm is inactive", "camera_node_wrist OK: 30 Hz"]


PROGRAM = """
import contextlib, signal, sys
from robot_rl import cli
from robot_rl.commands.up import main as up
from robot_rl.commands.up.supervisor import NodeCommand, Supervisor
signal.signal(signal.SIGTERM, cli._terminate)
arm = '''
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ramped down"))
print("ready")
while True:
    signal.pause()
'''
supervisor = Supervisor([NodeCommand("arm", (sys.executable, "-c", arm), True)], up._say)
with contextlib.suppress(KeyboardInterrupt), up.stopped_at_the_end(supervisor):
    supervisor.start()
    while True:
        supervisor.attend()
"""


def obey_ctrl_c() -> None:
    """A test-suite that a script started in the background ignores SIGINT, and its children would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_let_the_arm_ramp_down(number):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, preexec_fn=obey_ctrl_c
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "[arm] ready\n"
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert output.splitlines() == ["[arm] ramped down", "[arm] ended with status 1"]
    assert process.returncode == 0


def test_stop_and_clear_find_the_arm_by_its_yaml_or_its_namespace(place):
    assert stop_and_clear.parse("stop", ["robot=ros/my_arm"], "").namespace == "/my_arm"
    assert stop_and_clear.parse("stop", ["namespace=/other"], "").namespace == "/other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "wanted which arm"),
        (["robot=ros/my_arm", "now=yes"], "wanted which arm"),
        (["robot="], "wanted which arm"),
        (["robot=pusht"], "has no `arm` in its yaml"),
        (["robot=ros/nothing"], "Available options in 'robot'"),
    ],
)
def test_stop_without_a_clear_target_says_what_was_wanted(place, arguments, message):
    with pytest.raises(RobotRLError, match=message):
        stop_and_clear.parse("stop", arguments, "")


@pytest.mark.parametrize(
    "text", ["robot: =", "robot: {<<: 5}", "robot: ${", "defaults: [[]]", "robot: {a: &a [*a]}", "- a"]
)
def test_stopping_with_a_spoilt_yaml_says_what_is_wrong_with_it(place, text):
    Path("configs/robot/ros/my_arm.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(RobotRLError):
        stop_and_clear.parse("stop", ["robot=ros/my_arm"], "")


def test_help_of_stop_says_that_it_is_not_safety_rated():
    with pytest.raises(HelpRequested, match="not a safety-rated"):
        stop_and_clear.stop(["--help"])
