import json

import pytest

from hardware.arm.settings import ArmSettings, at_rate, unit_scales
from hardware.node_config import BadConfig, build, read_config, read_section
from hardware.sim.joint_arm import JointArm
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

ARM = {"_target_": "hardware.sim.joint_arm.JointArm"}


class Pair:
    def __init__(self, one, other=None):
        self.one, self.other = one, other


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pair_for_test", sys.modules[__name__])


def test_a_target_is_built_with_its_settings():
    arm = build({**ARM, "control_hz": 25.0})
    assert isinstance(arm, JointArm)
    assert arm.spec.control_hz == 25.0


def test_targets_within_settings_are_built_first():
    pair = build({"_target_": "pair_for_test.Pair", "one": [ARM, 1], "other": {"arm": ARM, "plain": {"a": 2}}})
    assert isinstance(pair.one[0], JointArm)
    assert pair.one[1] == 1
    assert isinstance(pair.other["arm"], JointArm)
    assert pair.other["plain"] == {"a": 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lag_s": 1}, "no _target_ among lag_s"),
        ({"_target_": "hardware.sim.joint_arm.JoinArm"}, "has no attribute 'JoinArm'"),
        ({"_target_": "hardware.sim.join_arm.JointArm"}, "join_arm.JointArm cannot be imported"),
        ({"_target_": "JointArm"}, "JointArm cannot be imported"),
        ({**ARM, "colour": "red"}, "takes no 'colour'"),
    ],
)
def test_what_cannot_be_built_is_named(settings, words):
    with pytest.raises(BadConfig, match=words):
        build(settings)


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "robot.json"
    path.write_text(json.dumps({"arm": {"namespace": "/a"}}))
    assert read_config(str(path)) == {"arm": {"namespace": "/a"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot read"), ("{", "is no JSON"), ("[" * 99999, "is no JSON"), ("[1]", "holds a list")],
)
def test_a_file_that_is_no_robot_is_refused(tmp_path, text, words):
    path = tmp_path / "robot.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadConfig, match=words):
        read_config(str(path))


def test_a_node_without_a_file_says_how_to_start_it():
    with pytest.raises(BadConfig, match="-p config:="):
        read_config("")


def test_a_section_is_filled_and_checked():
    settings = read_section("arm", {"driver": ARM, "namespace": "/a", "stream_hz": 250.0}, ArmSettings)
    assert (settings.stream_hz, settings.watchdog_s) == (250.0, 0.1)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (None, "have no 'arm'"),
        ({"driver": ARM}, "arm.namespace is missing"),
        (
            {"driver": ARM, "namespace": "/a", "wachdog_s": 1},
            r"arm has no key 'wachdog_s': did you mean 'watchdog_s'\? It takes driver",
        ),
    ],
)
def test_a_section_that_does_not_fit_is_refused(section, words):
    with pytest.raises(BadConfig, match=words):
        read_section("arm", section, ArmSettings)


def test_rates_are_per_row_for_whoever_sends_rows_and_per_tick_for_the_driver():
    action = ArraySpec((2,), "float32", "m", low=-0.1, high=(0.1, 1.0))
    kinds = (ActionKind.RATE, ActionKind.BINARY)
    driver = RobotSpec("r", {"x": ArraySpec((1,), "float32", "m")}, action, kinds, 100.0)
    rows = at_rate(driver, 20.0)
    assert (rows.control_hz, rows.action.low, rows.action.high) == (20.0, (-0.5, -0.1), (0.5, 1.0))
    assert unit_scales(driver, 200.0).tolist() == [2.0, 1.0]
    assert at_rate(driver, 100.0) is driver
