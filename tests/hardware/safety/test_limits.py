import copy
import math

import numpy as np
import pytest

from hardware.safety.dimensions import LimitError
from hardware.safety.limits import CommandLimits, MeasuredAxis
from robot_rl.core.episode import Observation
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

SPEC = RobotSpec(
    name="arm",
    observations={
        "state": ArraySpec((3,), "float32", "m"),
        "camera": ArraySpec((8, 8, 3), "uint8", "rgb"),
    },
    action=ArraySpec((3,), "float32", "cm/tick,m,1", names=("x", "z", "gripper")),
    action_kinds=(ActionKind.RATE, ActionKind.POSITION, ActionKind.BINARY),
    control_hz=100.0,
)

WRITTEN = {
    "low": [-1.0, 0.0, 0.0],
    "high": [1.0, 0.5, 1.0],
    "max_step": [1.0, 0.01, math.inf],
    "max_velocity": [25.0, 0.25, math.inf],
    "max_acceleration": [100.0, 1.0, math.inf],
    "max_jerk": [1000.0, 10.0, math.inf],
    "max_age_s": {"state": 0.05, "camera": 0.1},
    "ramp_after_s": 0.1,
    "fault_after_s": 0.5,
    "measured": {
        "x": {"stream": "state", "index": 0, "scale": 0.01, "low": -0.3, "high": 0.3},
        "z": {"stream": "state", "index": 1},
    },
    "start": {"gripper": 0.0},
}


def written(**changes):
    document = copy.deepcopy(WRITTEN)
    document.update(changes)
    return document


def without(values, index):
    return [None if position == index else value for position, value in enumerate(values)]


def test_limits_as_written_are_accepted():
    limits = CommandLimits.for_spec(SPEC, WRITTEN)
    assert limits.low == (-1.0, 0.0, 0.0)
    assert limits.measured[0] == MeasuredAxis("state", 0, 0.01, -0.3, 0.3)


@pytest.mark.parametrize("field", ["low", "high", "max_step", "max_velocity", "max_acceleration", "max_jerk"])
@pytest.mark.parametrize("index", range(3))
def test_a_limit_that_is_absent_is_an_error_naming_field_and_dimension(field, index):
    name = SPEC.action.names[index]
    with pytest.raises(LimitError, match=rf"limits\.{field} of action dimension {index} \('{name}'\) is missing"):
        CommandLimits.for_spec(SPEC, written(**{field: without(WRITTEN[field], index)}))


@pytest.mark.parametrize("field", [key for key in WRITTEN if key not in ("measured", "start")])
def test_a_field_that_is_absent_is_an_error_naming_it(field):
    document = written()
    del document[field]
    with pytest.raises(LimitError, match=f"limits.{field} is missing for robot 'arm'"):
        CommandLimits.for_spec(SPEC, document)


def test_limits_may_be_written_by_dimension_name():
    by_name = {"gripper": 1.0, "x": 1.0, "z": 0.5}
    assert CommandLimits.for_spec(SPEC, written(high=by_name)).high == (1.0, 0.5, 1.0)
    del by_name["z"]
    with pytest.raises(LimitError, match=r"limits.high of action dimension 1 \('z'\) is missing"):
        CommandLimits.for_spec(SPEC, written(high=by_name))


def test_zero_is_a_real_limit():
    limits = CommandLimits.for_spec(SPEC, written(max_velocity=[25.0, 0.0, math.inf]))
    assert limits.axes[1].motion.locked
    assert CommandLimits.for_spec(SPEC, WRITTEN).axes[1].low == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": [-math.inf, 0.0, 0.0]}, "limits.low of action dimension 0 .* is -inf"),
        ({"max_jerk": [math.inf, 10.0, 1.0]}, "limits.max_jerk of action dimension 0 .* only a binary"),
        ({"max_jerk": [math.nan, 10.0, 1.0]}, "limits.max_jerk of action dimension 0 .* is nan"),
        ({"max_step": [-1.0, 0.01, 1.0]}, "limits.max_step of action dimension 0 .* wanted >= 0"),
        ({"max_step": ["1", 0.01, 1.0]}, "is '1', wanted a number"),
        ({"max_step": [True, 0.01, 1.0]}, "is True, wanted a number"),
        ({"max_step": [1.0, 0.01]}, "has 2 values, wanted 3"),
        ({"max_step": 1.0}, "is 1.0, wanted a list of 3"),
        ({"low": [-1.0, 0.6, 0.0]}, "limits.low of action dimension 1 .* is 0.6, above limits.high 0.5"),
        ({"low": [0.5, 0.0, 0.0]}, "a rate must be able to be 0"),
        ({"max_acceleration": [1e-6, 1.0, 1.0], "max_jerk": [1e-9, 1.0, 1.0]}, "over 1,000,000 ticks to stop"),
        ({"max_age_s": {"state": 0.05}}, "limits.max_age_s of stream 'camera' is missing"),
        ({"max_age_s": {"state": 0.05, "camera": -1.0}}, "max_age_s of stream 'camera' is -1.0"),
        ({"max_age_s": 0.1}, "wanted a mapping from stream to seconds"),
        ({"fault_after_s": 0.05}, "fault_after_s is 0.05, before ramp_after_s"),
        ({"max_speed": [1, 1, 1]}, r"limits has no key 'max_speed': did you mean 'max_\w+'\? It takes low, high"),
        ({"measured": {"y": {"stream": "state", "index": 0}}}, "no action dimension 'y'; there is x, z, gripper"),
        ({"measured": {"x": {"stream": "tool", "index": 0}}}, "no stream 'tool'; there is state, camera"),
        ({"measured": {"x": {"stream": "state", "index": 3}}}, "index 3 is outside 'state' of 3 elements"),
        ({"measured": {"x": {"stream": "state", "index": 0, "scale": 0.0}}}, "scale is 0.0"),
        ({"measured": {"x": {"stream": "state", "index": 0, "low": 0.0}}}, "give both or neither"),
        ({"measured": {"z": {"stream": "state", "index": 0, "low": 0.0, "high": 1.0}}}, "is for rates"),
        ({"measured": {"x": {"stream": "state", "axis": 0}}}, "it takes stream, index, scale"),
    ],
)
def test_limits_that_make_no_sense_are_refused_in_words(changes, message):
    with pytest.raises(LimitError, match=message):
        CommandLimits.for_spec(SPEC, written(**changes))


def test_ages_of_cameras_that_are_switched_off_may_stay_in_the_yaml():
    limits = CommandLimits.for_spec(SPEC.select(["state"]), WRITTEN)
    assert limits.max_age_s == {"state": 0.05}


def test_limits_of_another_robot_are_refused():
    other = RobotSpec("other", SPEC.observations, SPEC.action, SPEC.action_kinds, control_hz=50.0)
    limits = CommandLimits.for_spec(SPEC, WRITTEN)
    limits.require(SPEC.select(["state"]))
    with pytest.raises(SpecMismatch, match="limits are for the actions of 'arm', not of 'other'"):
        limits.require(other)


def test_the_box_is_the_widest_that_the_action_dtype_can_hold():
    limits = CommandLimits.for_spec(SPEC, written(high=[0.1, 0.1, 0.1], low=[-0.1, -0.1, -0.1]))
    for axis in limits.axes:
        assert float(np.float32(axis.high)) == axis.high
        assert -0.1 <= axis.low < axis.high <= 0.1
        assert float(np.nextafter(np.float32(axis.high), np.float32(1))) > 0.1


def seen(state):
    return Observation(1, {"state": np.array(state, dtype=np.float32)}, {"state": 0, "camera": 0})


def test_a_robot_starts_where_it_is_measured():
    pose = CommandLimits.for_spec(SPEC, WRITTEN).start_pose(seen([0.2, 0.25, 0.9]))
    assert pose == pytest.approx([0.0, 0.25, 0.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"start": {}}, r"\('gripper'\) starts nowhere: nothing measures it"), ({}, "'state' does not show it")],
)
def test_a_position_that_starts_nowhere_is_an_error(changes, message):
    with pytest.raises(LimitError, match=message):
        CommandLimits.for_spec(SPEC, written(**changes)).start_pose(
            seen([0.2, math.nan, 0.9] if not changes else [0] * 3)
        )


FOLLOWING = {"lag_s": [0.1, 0.4, 0.1], "wait": [2.6, 0.1013, math.inf], "fault": [5.0, 0.3, math.inf]}


def test_each_dimension_may_have_a_lag_of_its_own():
    limits = CommandLimits.for_spec(SPEC, written(following=FOLLOWING))
    limits.require_following(100.0)
    assert limits.following.lag_s == (0.1, 0.4, 0.1)
    everywhere = CommandLimits.for_spec(SPEC, written(following=FOLLOWING | {"lag_s": 0.1}))
    assert everywhere.following.lag_s == (0.1,) * 3
    with pytest.raises(LimitError, match=r"following\.wait of action dimension 1 \('z'\) is 0\.1013, wanted 0\.025 to"):
        everywhere.require_following(100.0)


@pytest.mark.parametrize("lag_s", [[0.1, 0.4], 0.0, [0.1, math.nan, 0.1], "soon", True])
def test_a_lag_that_is_none_is_named(lag_s):
    with pytest.raises(LimitError, match=r"limits\.following\.lag_s"):
        CommandLimits.for_spec(SPEC, written(following=FOLLOWING | {"lag_s": lag_s}))
