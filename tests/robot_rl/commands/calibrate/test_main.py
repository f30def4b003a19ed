"""`robot-rl calibrate latency` on arms whose latencies are known, in virtual time."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from hardware.latency import wiggle
from hardware.ros.robot_config import RobotConfig
from hardware.safety.command_filter import FilteredCommands
from hardware.safety.filter import FilterState, OperatorState, filter_command, reason_names
from hardware.safety.limits import CommandLimits
from hardware.sim.joint_arm import JointArm
from robot_rl.cli import main
from robot_rl.commands.calibrate import main as calibrate
from robot_rl.commands.calibrate.latency_trial import CannotWiggle, plan_wiggle, run_wiggle
from robot_rl.commands.calibrate.main import CalibrateSettings, CalibrationRefused, Person, conclude, measure
from robot_rl.config.settings import load
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Observation
from robot_rl.sessions.setup import load_robot
from tests.robot_rl.late_robots import CLOCK, LAG_S, LATE_S, START_NS, LateArm

ROBOTS = Path(__file__).resolve().parents[4] / "configs" / "robot" / "ros"
HALF_A_TICK_S = 0.025
"""What an arm without interpolation between rows adds, see hardware/latency.py."""
YAML = """\
# @package _global_
# An arm that is late.
robot:
  _target_: tests.robot_rl.late_robots.LateArm
  name: late
  streams:
    image_front: {kind: image, topic: front, max_age_s: 0.2, latency_s: 0.01}  # a guess
"""


@pytest.fixture
def own_robot(tmp_path, monkeypatch) -> Path:
    """A user's yaml of the late arm, with the limits of our simulated one."""
    sim = (ROBOTS / "sim_joint.yaml").read_text()
    file = tmp_path / "mine" / "robot" / "ros" / "late.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML + sim[sim.index("\n# The simulated arm's range") :])
    monkeypatch.setenv("ROBOT_RL_CONFIGS", str(tmp_path / "mine"))
    monkeypatch.setattr(calibrate, "HostClock", lambda _: CLOCK)
    return file


def settings_for(*overrides, **changes) -> CalibrateSettings:
    settings = load(CalibrateSettings, "calibrate", ["robot=ros/late", "camera_s=5", *overrides])
    settings.robot.update(changes)
    return settings


def person(*answers: str, confirmed=False) -> Person:
    """Somebody who answers in turn; nobody if there are no answers."""
    waiting = iter(answers)
    return Person(Console(width=200), confirmed, (lambda question: next(waiting)) if answers else None)


def test_the_latencies_of_an_arm_and_its_camera_are_found(own_robot):
    found, failed = measure(settings_for(), person("y"), CLOCK)
    assert failed == []
    camera, command = found
    assert camera.keys == ("robot", "streams", "image_front", "latency_s")
    assert (camera.old_s, camera.new_s) == (0.01, pytest.approx(0.06, abs=1e-6))
    assert command.keys == ("latency", "command_s")
    assert command.old_s is None
    assert command.new_s == pytest.approx(LATE_S + LAG_S + HALF_A_TICK_S, abs=0.01)


def test_they_are_written_into_the_users_yaml_and_nothing_else_changes(own_robot, capsys):
    before = own_robot.read_text()
    assert main(["calibrate", "latency", "robot=ros/late", "confirm=yes", "camera_s=5"]) == 0
    said = capsys.readouterr().out
    assert "robot.streams.image_front.latency_s: 10.0 ms -> 60.0 ms" in said
    assert "latency.command_s: nothing -> " in said
    after = own_robot.read_text()
    command_s = yaml.safe_load(after)["latency"]["command_s"]
    assert after == before.replace("0.01}", "0.06}") + f"latency: {{command_s: {command_s}}}\n"
    settings = settings_for()
    assert settings.latency == {"command_s": command_s}
    assert settings.robot["streams"]["image_front"]["latency_s"] == 0.06


def test_nothing_moves_and_nothing_is_written_before_somebody_agrees(own_robot, monkeypatch):
    built = []
    monkeypatch.setattr(calibrate, "build_robot", lambda _: built.append(LateArm()) or built[-1])
    before = own_robot.read_text()
    with pytest.raises(
        CalibrationRefused, match=r"Is everybody out of its way.*Nobody is here to ask: add confirm=yes"
    ):
        measure(settings_for("what=command"), person(), CLOCK)
    with pytest.raises(CalibrationRefused, match="nothing was changed"):
        measure(settings_for("what=command"), person("n"), CLOCK)
    assert [(each.resets, each.rows) for each in built] == [(0, 0), (0, 0)]
    assert all(each.stops for each in built)
    found, _ = measure(settings_for("what=cameras"), person(), CLOCK)
    assert (built[-1].resets, built[-1].rows) == (0, 0)
    with pytest.raises(CalibrationRefused, match="nothing was changed"):
        conclude(found, settings_for(), own_robot, person("n"))
    conclude(found, settings_for("write=false"), own_robot, person())
    assert own_robot.read_text() == before


def test_an_arm_that_does_not_move_is_told_from_a_late_one_and_the_rest_is_still_measured(own_robot, capsys):
    assert main(["calibrate", "latency", "robot=ros/late", "confirm=yes", "camera_s=5", "robot.stuck=true"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "not measured: latency.command_s: the arm did not move" in said
    assert yaml.safe_load(own_robot.read_text())["robot"]["streams"]["image_front"]["latency_s"] == 0.06
    assert "latency:" not in own_robot.read_text()


def test_a_camera_that_shows_no_time_needs_a_person_and_a_clock(own_robot):
    found, failed = measure(settings_for("what=cameras", blank=True), person(), CLOCK)
    assert found == []
    assert "image_front.latency_s: the time could be read in 0 pictures, wanted 20" in failed[0]


def test_a_filmed_clock_is_subtracted_with_its_own_lateness(own_robot, monkeypatch):
    camera = LateArm(blank=True)
    monkeypatch.setattr(calibrate, "build_robot", lambda _: camera)

    def hold_up(question):
        camera.blank = False
        return ""

    watching = Person(Console(width=200), False, hold_up)
    found, failed = measure(settings_for("what=cameras", "port=0", "screen_s=0.02"), watching, CLOCK)
    assert failed == []
    assert found[0].new_s == pytest.approx(0.04, abs=1e-6)


def test_a_robot_whose_time_stands_still_has_no_latency(own_robot):
    frozen = settings_for()
    frozen.robot = {"_target_": "tests.robot_rl.late_robots.frozen_time"}
    with pytest.raises(CalibrationRefused, match="time stands still in 'late'"):
        measure(frozen, person("y"), CLOCK)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["position"], "'position' cannot be calibrated; wanted robot-rl calibrate latency"),
        (["latency"], "which robot? robot-rl calibrate latency robot=ros/my_arm"),
        (["latency", "robot=ros/lat"], "did you mean ros/late?"),
        (["latency", "robot=ros/late", "what=arm"], "what=arm: wanted all, command, cameras"),
        (["latency", "robot=ros/late", "what=command", "dimension=knee"], "no action dimension 'knee'"),
        (["latency", "robot=ros/late", "what=command", "dimension=gripper"], "is binary; choose dimension= one of"),
        (["latency", "robot=ros/late", "what=command", "amplitude=-1"], "amplitude is -1.0, wanted a number above 0"),
        (["latency", "robot=ros/late", "repeats=0"], "repeats is 0, wanted a number above 0"),
        (["latency", "robot=ros/late", "amplitud=1"], "did you mean amplitude"),
    ],
)
def test_a_mistake_is_one_message_before_anything_moves(own_robot, argv, message, capsys):
    assert main(["calibrate", *argv]) == 2
    assert message in capsys.readouterr().err


def test_help_says_what_can_be_set(capsys):
    assert main(["calibrate"]) == 0
    assert main(["calibrate", "latency", "--help"]) == 0
    assert "fastest_hz: 1.2" in capsys.readouterr().out


@pytest.mark.parametrize("name", [path.stem for path in sorted(ROBOTS.glob("*.yaml")) if path.stem != "sim"])
def test_the_command_filter_has_nothing_to_change_in_a_wiggle_of_any_of_our_robots(name):
    file = load_robot(f"ros/{name}")
    keys = ("name", "namespace", "control_hz", "streams", "action", "command")
    spec = RobotConfig.parse(**{key: file.robot[key] for key in keys}).spec
    limits = CommandLimits.for_spec(spec, file.limits)
    motion = np.concatenate([np.zeros(10), wiggle(6.0, 0.4, 1.2, spec.control_hz), np.zeros(10)])
    low, high = np.array(limits.low), np.array(limits.high)
    start = np.where(spec.kind_mask("rate"), 0.0, (low + high) / 2)
    for dimension in range(len(spec.action_kinds)):
        if dimension not in limits.measured or spec.action_kinds[dimension] == "binary":
            continue
        planned = plan_wiggle(limits, start, dimension, None, motion)
        assert planned.amplitude > 0
        filtered = _filter_all(planned.rows, start, limits)
        np.testing.assert_array_equal(filtered, planned.rows.astype(spec.action.dtype))


def _filter_all(rows, start, limits):
    spec, state, applied = limits.spec, FilterState.at(start), []
    values = {name: np.zeros(each.shape, each.dtype) for name, each in spec.observations.items()}
    for box in limits.boxes:
        values[box.stream][box.index] = (box.low + box.high) / 2
    for index, row in enumerate(rows):
        seen = Observation(index, values, dict.fromkeys(values, 0))
        result = filter_command(
            row.astype(spec.action.dtype), state, seen, OperatorState(), 1 / spec.control_hz, limits, spec
        )
        assert not result.reasons, reason_names(result.reasons)
        state = result.state
        applied.append(result.applied)
    return np.array(applied)


def test_a_wiggle_ends_where_it_began_and_a_wall_makes_it_smaller():
    clock = SimulatedClock(START_NS)
    with JointArm(clock=clock) as arm:
        limits = CommandLimits.for_spec(arm.spec, yaml.safe_load((ROBOTS / "sim_joint.yaml").read_text())["limits"])
        arm.reset(3)
        start = limits.start_pose(arm.observe(0))
        motion = np.concatenate([wiggle(6.0, 0.4, 1.2, 20.0), np.zeros(16)])
        planned = plan_wiggle(limits, start, 2, None, motion)
        command_filter = FilteredCommands(limits)
        command_filter.reset(arm.observe(0))
        series = run_wiggle(arm, command_filter, clock, planned)
        assert arm.position()[2] == pytest.approx(start[2], abs=1e-4)
        assert np.ptp(series.measured) == pytest.approx(2 * planned.amplitude, rel=0.3)
    near = start.copy()
    near[2] = limits.high[2] - 0.001
    assert plan_wiggle(limits, near, 2, None, motion).amplitude == pytest.approx(0.001)
    near[2] = limits.high[2]
    with pytest.raises(CannotWiggle, match=r"'elbow'.*no room to move.*drive it away"):
        plan_wiggle(limits, near, 2, None, motion)
