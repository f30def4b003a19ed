"""Lockstep has neither watchdog nor rate, so it is only for drivers whose time stands still."""

from __future__ import annotations

import pytest

from hardware.arm.controller import ArmController
from hardware.arm.settings import ArmSettings
from hardware.node_config import BadConfig
from hardware.sim.joint_arm import JointArm


def test_a_driver_that_moves_by_itself_is_refused_in_lockstep_before_anything_moves():
    settings = ArmSettings(driver={}, namespace="/arm", lockstep=True)
    with pytest.raises(BadConfig, match=r"lockstep is true, but the driver .* moves by itself"):
        ArmController(JointArm(), settings, {}, None, None)
