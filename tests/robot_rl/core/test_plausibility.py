"""What a body can reach, as sentences: true motion is never refused, a false sample never used, and faults stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.plausibility import MOST_OF_WINDOW, SEVERAL, WINDOW, Plausibility, PlausibleStream
from robot_rl.core.specs import NS_PER_S, POSE_UNIT, ArraySpec

MS = 1_000_000
JOINTS = ArraySpec(
    (3,), "float64", "rad,rad,1", names=("shoulder", "elbow", "gripper"), max_speed=(3.0, 2.0, 10.0), margin=0.02
)
POSE = ArraySpec((7,), "float32", POSE_UNIT, max_speed=(1.5, 3.0), margin=(0.005, 0.02))
REST = np.array([0.3, -1.2, 1.0])
WRAPPED = REST + np.array([0.0, 2 * np.pi, 0.0])
GARBAGE = {
    "all zero": np.zeros(3),
    "all 4095": np.full(3, 4095.0),
    "signs flipped": np.array([-0.3, 1.2, -1.0]),
    "one turn off": WRAPPED,
    "not a number": np.array([0.3, np.nan, 1.0]),
    "infinite": np.array([0.3, -1.2, np.inf]),
}


def stream(spec: ArraySpec = JOINTS, seen: int = 2, value: np.ndarray = REST) -> PlausibleStream:
    """A stream that has shown a body at rest every 10 ms, the last time at 0."""
    plausible = PlausibleStream("joint_position", spec)
    assert all(plausible.take((index - seen + 1) * 10 * MS, value) for index in range(seen))
    return plausible


def rotation(angle: float) -> np.ndarray:
    return np.array([0.4, 0.0, 0.5, 0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)], dtype=np.float32)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_true_motion_is_never_refused_whatever_the_jitter_of_sampling(data: st.DataObject):
    plausible = PlausibleStream("joint_position", JOINTS)
    speed = np.array([3.0, 2.0, 10.0])
    stamp_ns, place = 10**18, REST
    for _ in range(data.draw(st.integers(1, 40))):
        elapsed_ns = data.draw(st.integers(1, 2 * NS_PER_S))
        share = np.array(data.draw(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3)))
        stamp_ns, place = stamp_ns + elapsed_ns, place + share * speed * elapsed_ns / NS_PER_S
        assert plausible.take(stamp_ns, place), plausible.problem
    assert plausible.rejected == 0


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_turning_pose_is_never_refused_whatever_the_sign_of_its_quaternion(data: st.DataObject):
    plausible = PlausibleStream("tool_pose", POSE)
    angle, stamp_ns = 0.0, 0
    for _ in range(data.draw(st.integers(1, 30))):
        elapsed_ns = data.draw(st.integers(1, NS_PER_S // 2))
        angle += data.draw(st.floats(-1.0, 1.0)) * 3.0 * elapsed_ns / NS_PER_S
        stamp_ns += elapsed_ns
        pose = rotation(angle)
        pose[3:] *= data.draw(st.sampled_from([1.0, -1.0]))
        assert plausible.take(stamp_ns, pose), plausible.problem


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 25),
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    st.lists(st.integers(1, 20 * MS), min_size=30, max_size=30),
)
def test_one_false_sample_is_never_used_and_costs_no_other(at: int, false: list[float], gaps_ns: list[int]):
    plausible, stamp_ns = stream(), 0
    for index, gap_ns in enumerate(gaps_ns):
        stamp_ns += gap_ns
        if index == at:
            reachable = np.all(np.abs(np.array(false) - REST) <= np.array([3.0, 2.0, 10.0]) * gap_ns / NS_PER_S + 0.02)
            assert plausible.take(stamp_ns, np.array(false)) == reachable
            if reachable:
                return
            assert plausible.rejected == 1
            assert plausible.problem
        else:
            assert plausible.take(stamp_ns, REST)
    assert not plausible.fault


@pytest.mark.parametrize("kind", GARBAGE)
def test_every_kind_of_garbage_is_counted_and_not_used(kind: str):
    plausible = stream()
    assert not plausible.take(10 * MS, GARBAGE[kind])
    assert plausible.rejected == 1
    assert plausible.take(20 * MS, REST)
    assert plausible.problem == plausible.fault == ""


def test_after_a_false_sample_time_goes_on_from_the_last_one_used():
    plausible = stream()
    assert not plausible.take(100 * MS, np.zeros(3))
    # 2 rad/s for 110 ms and the margin: further than 10 ms after the false sample would allow.
    assert plausible.take(110 * MS, REST + np.array([0.0, 0.23, 0.0]))
    assert not plausible.take(120 * MS, REST)


def test_several_false_samples_in_a_row_are_a_fault_that_names_everything():
    plausible = stream()
    for index in range(1, SEVERAL + 1):
        assert not plausible.fault
        assert not plausible.take(index * 10 * MS, WRAPPED)
    for words in ("joint_position", "'elbow'", "from -1.2", "to 5.083 rad", "30.0 ms", "0.08 rad", "two drivers"):
        assert words in plausible.fault


def test_a_fault_stays_however_long_false_samples_agree_until_it_is_forgotten():
    plausible = stream()
    assert not any(plausible.take(index * 10 * MS, WRAPPED) for index in range(1, 1000))
    assert not plausible.take(10**10, REST)
    assert plausible.fault
    plausible.forget()
    assert not plausible.fault
    assert plausible.take(10**10 + 10 * MS, WRAPPED)


def test_two_publishers_that_take_turns_are_a_fault_though_no_two_false_samples_are_in_a_row():
    plausible, other = stream(), REST + 1.0
    for index in range(1, 2 * MOST_OF_WINDOW + 1):
        plausible.take(index * 5 * MS, other if index % 2 else REST)
    assert f"{MOST_OF_WINDOW} of the last" in plausible.fault


def test_a_glitch_now_and_then_is_no_fault():
    plausible, every = stream(), WINDOW // 4
    for index in range(1, 500):
        false = index % every == 0
        assert plausible.take(index * 10 * MS, REST + false * np.pi) != false
    assert plausible.rejected == 499 // every
    assert not plausible.fault


def test_a_first_sample_that_was_false_is_outvoted_by_several_that_agree():
    plausible = PlausibleStream("joint_position", JOINTS)
    assert plausible.take(0, np.zeros(3))
    assert not plausible.confirmed
    taken = [plausible.take(index * 10 * MS, REST) for index in range(1, SEVERAL + 2)]
    assert taken == [*[False] * (SEVERAL - 1), True, True]
    assert plausible.confirmed
    assert not plausible.fault


def test_a_first_sample_that_is_no_number_is_not_taken():
    plausible = PlausibleStream("joint_position", JOINTS)
    assert not plausible.take(0, np.full(3, np.nan))
    assert plausible.take(10 * MS, REST)


def test_a_sample_that_arrives_out_of_order_is_not_used_and_harms_nothing():
    plausible = stream()
    assert plausible.take(20 * MS, REST)
    assert not plausible.take(10 * MS, REST)
    assert (plausible.late, plausible.rejected) == (1, 0)
    assert plausible.take(30 * MS, REST)


def test_a_clock_that_goes_back_is_believed_after_several_samples_that_agree():
    plausible = stream()
    back_ns = -3600 * NS_PER_S
    taken = [plausible.take(back_ns + index * 10 * MS, REST) for index in range(SEVERAL + 2)]
    assert taken == [*[False] * (SEVERAL - 1), True, True, True]
    assert not plausible.fault


def test_late_samples_that_contradict_each_other_are_a_fault():
    plausible = stream()
    for index in range(SEVERAL):
        assert not plausible.take(-NS_PER_S + index * MS, REST + index)
    assert "before the last sample" in plausible.fault


def test_the_same_sample_twice_is_no_harm_but_another_value_at_the_same_time_is_false():
    plausible = stream()
    assert plausible.take(0, REST)
    assert not plausible.take(0, REST + 0.1)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (rotation(0.0) + np.array([1, 0, 0, 0, 0, 0, 0], dtype=np.float32), "'place' went from (0.4, 0, 0.5)"),
        (rotation(1.0), "'rotation' went from"),
        (rotation(0.0) * np.float32(0.5), "a quaternion of length 0.5, wanted 1"),
        (np.zeros(7, dtype=np.float32), "a quaternion of length 0, wanted 1"),
        (np.full(7, np.nan, dtype=np.float32), "nan, wanted a finite number"),
    ],
)
def test_a_pose_that_jumps_turns_or_is_none_is_refused_in_words(after: np.ndarray, words: str):
    bound = Plausibility.for_spec(POSE)
    assert bound is not None
    assert words in bound.problem(rotation(0.0), 0, after, 10 * MS)


def test_a_pose_and_its_negated_quaternion_are_the_same_place():
    bound, before = Plausibility.for_spec(POSE), rotation(2.0)
    assert bound is not None
    after = before.copy()
    after[3:] *= -1
    assert bound.problem(before, 0, after, 1) == ""


def test_a_sample_of_another_shape_is_refused():
    assert not stream().take(10 * MS, np.zeros(4))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-4, 4), min_size=3, max_size=3), min_size=1, max_size=20), st.integers(1, 10**9))
def test_many_samples_at_once_are_judged_as_each_after_the_one_before(rows: list[list[float]], gap_ns: int):
    bound, values = Plausibility.for_spec(JOINTS), np.array(rows)
    stamps_ns = np.arange(len(rows), dtype=np.int64) * gap_ns
    assert bound is not None
    one_by_one = [False] + [
        bool(bound.problem(values[i], int(stamps_ns[i]), values[i + 1], int(stamps_ns[i + 1])))
        for i in range(len(rows) - 1)
    ]
    assert bound.beyond(stamps_ns, values).tolist() == one_by_one


def test_a_spec_without_a_bound_judges_nothing():
    spec = ArraySpec((3,), "float64", "rad")
    assert Plausibility.for_spec(spec) is None
    with pytest.raises(ValueError, match="max_speed"):
        PlausibleStream("joint_position", spec)
