"""Arms for the command filter, what they show, and a session that drives one tick by tick."""

import numpy as np

from benchmarks.runtime.fuzz_checks import LimitCheck, same_command
from hardware.safety.filter import FilterResult, FilterState, OperatorState, filter_command
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

MS = 1_000_000
HZ = 100.0
READY = OperatorState()


def arm(kinds=(ActionKind.POSITION,), hz=HZ, dtype="float32", **changes):
    """An arm with 0.25 m/s, 1 m/s^2 and 10 m/s^3 in a box of +-1 m; a RATE dimension is in m per tick."""
    count = len(kinds)
    spec = RobotSpec(
        name="arm",
        observations={"state": ArraySpec((count,), "float64", "m"), "camera": ArraySpec((2, 2, 3), "uint8", "rgb")},
        action=ArraySpec((count,), dtype, "m"),
        action_kinds=tuple(kinds),
        control_hz=hz,
    )
    document = {
        "low": [-1.0] * count,
        "high": [1.0] * count,
        "max_step": [0.01] * count,
        "max_velocity": [0.25] * count,
        "max_acceleration": [1.0] * count,
        "max_jerk": [10.0] * count,
        "max_age_s": {"state": 0.05, "camera": 0.1},
        "ramp_after_s": 0.1,
        "fault_after_s": 0.5,
        **changes,
    }
    return CommandLimits.for_spec(spec, document)


def lax(kinds, hz=80.0):
    """A simulator: its whole action range in one tick, and back in the next."""
    count = len(kinds)
    return arm(
        kinds,
        hz,
        max_step=[2.0] * count,
        max_velocity=[2 * hz] * count,
        max_acceleration=[4 * hz**2] * count,
        max_jerk=[8 * hz**3] * count,
    )


def seen(limits, place=0.0, state_ms=0.0, camera_ms=0.0):
    state = np.full(len(limits.axes), place)
    return Observation(1, {"state": state}, {"state": round(state_ms * MS), "camera": round(camera_ms * MS)})


class Session:
    """A filter in a loop, checked against every limit at every tick."""

    def __init__(self, limits, pose=0.0):
        self.limits = limits
        self.pose = np.full(len(limits.axes), pose)
        self.state = FilterState.at(self.pose)
        self.check = LimitCheck(limits, self.pose)
        self.applied: list[np.ndarray] = []

    def __call__(self, requested, observation="fresh", operator=READY, dt_s=None, check=True) -> FilterResult:
        if isinstance(observation, str):
            observation = seen(self.limits)
        if requested is not None:
            requested = np.asarray(requested)
            if requested.ndim == 0:
                requested = np.full(len(self.limits.axes), requested)
            if requested.dtype == np.float64:
                requested = requested.astype(self.limits.spec.action.dtype)
        dt_s = 1 / self.limits.spec.control_hz if dt_s is None else dt_s
        result = filter_command(requested, self.state, observation, operator, dt_s, self.limits, self.limits.spec)
        self.state = result.state
        self.applied.append(result.applied)
        if check:
            assert self.check(result.applied) == []
        assert same_command(result.applied, requested) == (result.reasons == 0)
        return result

    def cruise(self, ticks=60, target=0.9):
        """Gets going."""
        for _ in range(ticks):
            self(target)
        assert not self.state.at_rest
        return self
