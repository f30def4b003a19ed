import json
from pathlib import Path

import pytest

from robot_rl.core.errors import RobotRLError
from robot_rl.run.identity import CONFIG_FILE, refuse_another_identity, require_same_identity

BEGUN = {"policy": {"width": 16, "parts": [1, 2]}, "seed": 3}
DEFAULTS = {"policy": {"width": 64, "dropout": 0.0, "noise": {"sigma": 0.1}}}


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / CONFIG_FILE).write_text(json.dumps(BEGUN))
    return tmp_path


def now(**policy):
    return {**BEGUN, "policy": {**BEGUN["policy"], **policy}}


def test_the_same_identity_is_no_difference(run):
    refuse_another_identity(run, now(parts=(1, 2)), DEFAULTS)


def test_a_setting_that_came_later_is_no_difference_at_its_default(run):
    refuse_another_identity(run, now(dropout=0.0, noise={"sigma": 0.1}), DEFAULTS)


def test_a_setting_that_came_later_is_one_at_any_other_value_and_where_no_default_is_known(run):
    with pytest.raises(RobotRLError, match=r"policy\.noise\.sigma: the run has 'nothing', this command 0\.2"):
        refuse_another_identity(run, now(dropout=0.0, noise={"sigma": 0.2}), DEFAULTS)
    with pytest.raises(RobotRLError, match=r"policy\.dropout: the run has 'nothing', this command 0\.0"):
        refuse_another_identity(run, now(dropout=0.0))


def test_a_setting_that_the_run_decided_otherwise_is_a_difference_even_at_its_default(run):
    with pytest.raises(RobotRLError, match=r"policy\.width: the run has 16, this command 64"):
        refuse_another_identity(run, now(width=64), DEFAULTS)


def test_a_setting_that_is_gone_is_a_difference(run):
    with pytest.raises(RobotRLError, match=r"seed: the run has 3, this command 'nothing'"):
        refuse_another_identity(run, {"policy": BEGUN["policy"]}, DEFAULTS)


def test_a_run_without_a_checkpoint_may_begin_anew(run):
    require_same_identity(run, {"seed": 4}, {})


def test_a_run_that_names_a_class_of_before_can_be_resumed(tmp_path):
    place, name = "hardware.operators", "keyboard.KeyboardOperator"
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"operator": {"_target_": f"{place}.{name}", "parts": [1]}}))
    refuse_another_identity(tmp_path, {"operator": {"_target_": f"{place}.terminal.{name}", "parts": [1]}})
    with pytest.raises(RobotRLError, match=r"operator\._target_"):
        refuse_another_identity(tmp_path, {"operator": {"_target_": f"{place}.devices.{name}", "parts": [1]}})
