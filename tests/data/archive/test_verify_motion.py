"""Stored motion that no body can have made, and an arm that was not where it was told to be, are named; no other is."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.archive.store import DatasetStore
from data.archive.verify import check_episode, verify_dataset
from data.archive.verify_motion import WAITED
from hardware.safety.state import FilterReason
from robot_rl.core.episode import Episode, Stream
from robot_rl.core.specs import POSE_UNIT, ActionKind, ArraySpec, RobotSpec
from tests.data.sound_episodes import TICK_NS, make_episode

JOINTS = ("pan", "lift")
TICK_S = TICK_NS / 1e9
SPEC = RobotSpec(
    name="arm",
    observations={
        "joint_position": ArraySpec((2,), "float32", "rad", names=JOINTS, max_speed=(3.0, 2.0), margin=0.05),
        "tool_pose": ArraySpec((7,), "float32", POSE_UNIT, max_speed=(2.0, 4.0), margin=(0.02, 0.05)),
    },
    action=ArraySpec((2,), "float32", "rad,rad", low=-3.0, high=3.0, names=JOINTS),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=20.0,
)


def still_pose(ticks: int) -> np.ndarray:
    return np.tile(np.float32([0.4, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]), (ticks, 1))


def recorded(applied: np.ndarray, measured: np.ndarray, spec: RobotSpec = SPEC, reasons: int = 0) -> Episode:
    """An episode of these commands and joints. Shapes (T, 2)."""
    ticks = len(applied)
    base = make_episode(ticks)
    stamps_ns = base.stamps_ns - 2 * 10**6
    return dataclasses.replace(
        base,
        spec=spec,
        requested=applied.astype(np.float32),
        applied=applied.astype(np.float32),
        streams={
            "joint_position": Stream(stamps_ns, measured.astype(np.float32)),
            "tool_pose": Stream(stamps_ns, still_pose(ticks)),
        },
        frame_index={name: np.arange(ticks) for name in ("joint_position", "tool_pose")},
        filter_reasons=np.full(ticks, reasons, dtype=np.uint32),
    )


def swing(ticks: int) -> np.ndarray:
    """Commands of at most 0.75 rad/s. Shape (T, 2)."""
    return 0.5 * np.sin(np.arange(ticks)[:, None] * TICK_S * np.array([1.5, 1.2]))


def followed(commands: np.ndarray, lag_s: float = 0.05, frozen: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Where an arm of that lag is at each tick, which does not move in some of them, and never faster than 3 rad/s."""
    place, places = commands[0].astype(float), []
    for tick, command in enumerate(commands):
        places.append(place)
        if not frozen[0] <= tick < frozen[1]:
            step = (command - place) * (1.0 - np.exp(-TICK_S / lag_s))
            place = place + np.clip(step, -3.0 * TICK_S * np.array([1.0, 2 / 3]), 3.0 * TICK_S * np.array([1.0, 2 / 3]))
    return np.array(places)


def words(episode: Episode) -> list[str]:
    return [str(each) for each in check_episode("e", episode)]


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.25), st.integers(20, 120))
def test_an_arm_that_follows_with_any_usual_lag_is_left_alone(lag_s: float, ticks: int):
    commands = swing(ticks)
    assert words(recorded(commands, followed(commands, lag_s))) == []


def test_a_stored_glitch_is_named_with_tick_element_from_to_and_what_was_possible():
    commands = swing(60)
    measured = followed(commands)
    measured[30] = (0.0, 2 * np.pi)
    into, back = words(recorded(commands, measured))
    assert into.startswith("e: streams.joint_position.values: at tick 30 'lift' went from ")
    assert "to 6.283 rad within 50.0 ms, at most 0.15 rad (max_speed 2, margin 0.05) is possible" in into
    assert "at tick 31 'lift' went from 6.283 to " in back


def test_many_false_steps_are_named_a_few_and_counted():
    commands = swing(60)
    measured = followed(commands)
    measured[::2] += 1.0
    found = words(recorded(commands, measured))
    named = [each for each in found if "went from" in each]
    assert len(named) == 5
    assert any("54 more such steps, the last at tick 59" in each for each in found)


@pytest.mark.parametrize(
    ("pose", "said"),
    [
        ([0.4, 0.0, 3.0, 0.0, 0.0, 0.0, 1.0], "'place' went from (0.4, 0, 0.3) to (0.4, 0, 3) m"),
        ([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0], "'rotation' went from"),
        ([0.4, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0], "a quaternion of length 0, wanted 1"),
    ],
)
def test_a_pose_from_another_frame_or_of_no_rotation_is_named(pose: list[float], said: str):
    commands = swing(40)
    episode = recorded(commands, followed(commands))
    episode.streams["tool_pose"].values[20] = pose
    assert any(said in each and "at tick 20" in each for each in words(episode))


def test_an_arm_that_was_frozen_for_two_seconds_is_visible_in_what_is_stored(tmp_path: Path):
    commands = swing(100)
    stuck = recorded(commands, followed(commands, frozen=(30, 70)))
    sound = recorded(commands, followed(commands))
    with DatasetStore.create(str(tmp_path / "dataset"), SPEC) as store:
        store.append(sound)
        store.append(stuck)
        (_, nothing), (_, found) = verify_dataset(store)
    assert nothing == []
    assert {each.warning for each in found} == {True}
    [pan, *_] = map(str, found)
    assert "'pan' is up to " in pan
    assert "from all that was applied in the 0.5 s before" in pan


def test_a_command_that_waited_for_the_arm_is_told_with_its_time():
    assert int(FilterReason.FOLLOWING) == WAITED
    commands = swing(60)
    episode = recorded(commands, followed(commands))
    episode.filter_reasons[10:50] = FilterReason.FOLLOWING | FilterReason.STEP
    [said] = words(episode)
    assert "the command waited for the arm for 2.0 s from tick 10" in said
    episode.filter_reasons[12:50] = 0
    assert words(episode) == []


def test_an_element_of_the_same_name_but_another_unit_is_no_measurement_of_the_command():
    speeds = dataclasses.replace(SPEC.observations["joint_position"], unit="rad/s")
    spec = dataclasses.replace(SPEC, observations={**SPEC.observations, "joint_position": speeds})
    assert words(recorded(swing(60) + 2.0, np.zeros((60, 2)), spec)) == []


def test_a_binary_or_rate_action_is_not_compared_with_a_place():
    for kind in (ActionKind.BINARY, ActionKind.RATE):
        spec = dataclasses.replace(SPEC, action_kinds=(kind, kind))
        assert words(recorded(swing(60) + 2.0, np.zeros((60, 2)), spec)) == []


def test_data_of_before_bounds_of_speed_is_judged_by_its_spread_alone():
    spec = SPEC.without_speed_bounds()
    commands = swing(60)
    measured = followed(commands)
    assert words(recorded(commands, measured + [[1.0, 0.0]] * 60, spec)) == []
    measured[30, 1] = 1e4
    [said] = words(recorded(commands, measured, spec))
    assert "10000 in element 1 at tick 30, 1 such value(s)" in said
    assert "where nine in ten are" in said


def test_an_old_data_set_that_a_robot_with_bounds_appends_to_stays_whole(tmp_path: Path):
    commands = swing(40)
    with DatasetStore.create(str(tmp_path / "dataset"), SPEC.without_speed_bounds()) as store:
        store.append(recorded(commands, followed(commands), SPEC.without_speed_bounds()))
        store.append(recorded(commands, followed(commands)))
        assert [findings for _, findings in verify_dataset(store)] == [[], []]


def test_the_bound_is_stored_with_the_data_set(tmp_path: Path):
    with DatasetStore.create(str(tmp_path / "dataset"), SPEC):
        pass
    with DatasetStore.open(str(tmp_path / "dataset")) as store:
        assert store.spec.observations["joint_position"].max_speed == (3.0, 2.0)
        assert store.spec.observations["tool_pose"].margin == (0.02, 0.05)
