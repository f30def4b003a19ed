import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.sync import (
    BadStamp,
    Interpolation,
    Pushed,
    StampedRing,
    StreamTiming,
    align,
    interpolate,
    latest_before,
    sample_at,
    slerp,
)
from robot_rl.core.errors import StaleSensor

MS = 1_000_000
NEWEST = StreamTiming(max_age_ns=100 * MS)
LINEAR = StreamTiming(max_age_ns=100 * MS, interpolation=Interpolation.LINEAR)

STAMPS = st.lists(st.integers(1, 10_000), min_size=1, max_size=30, unique=True).map(sorted)


def filled(stamps_ms, timing=NEWEST, capacity=64):
    """A ring whose samples hold their own capture time [ms]."""
    ring = StampedRing("camera", timing, capacity)
    for stamp_ms in stamps_ms:
        ring.push(stamp_ms * MS + timing.latency_ns, np.array([float(stamp_ms)]))
    return ring


def test_a_frozen_camera_stops_the_episode():
    with pytest.raises(StaleSensor, match="400 ms old, limit is 100 ms"):
        latest_before(np.array([0]), tick_ns=400 * MS, max_age_ns=100 * MS)


def test_a_sample_as_old_as_the_limit_is_still_good():
    assert latest_before(np.array([0]), tick_ns=100 * MS, max_age_ns=100 * MS) == 0


def test_a_stream_that_never_spoke_is_named():
    with pytest.raises(StaleSensor, match=r"camera has no sample yet.*check that it is published"):
        StampedRing("camera", NEWEST).at(MS)


def test_a_stream_whose_clock_is_ahead_is_told_so():
    with pytest.raises(StaleSensor, match="only samples after the tick, the first by 50 ms"):
        filled([60]).at(10 * MS)


@given(stamps_ms=STAMPS, tick_ms=st.integers(0, 11_000))
def test_the_newest_sample_not_after_the_tick_is_taken(stamps_ms, tick_ms):
    before = [stamp for stamp in stamps_ms if stamp <= tick_ms]
    ring = filled(stamps_ms, StreamTiming(max_age_ns=500 * MS))
    if not before or tick_ms - before[-1] > 500:
        with pytest.raises(StaleSensor):
            ring.at(tick_ms * MS)
    else:
        value, age_ns = ring.at(tick_ms * MS)
        assert value[0] == before[-1]
        assert age_ns == (tick_ms - before[-1]) * MS


@given(stamps_ms=STAMPS, latency_ms=st.integers(0, 50))
def test_latency_moves_samples_back_to_their_capture(stamps_ms, latency_ms):
    timing = StreamTiming(max_age_ns=0, latency_ns=latency_ms * MS)
    value, age_ns = filled(stamps_ms, timing).at(stamps_ms[-1] * MS)
    assert (value[0], age_ns) == (stamps_ms[-1], 0)


@pytest.mark.parametrize("stamp_ns", [0, -5])
def test_a_zero_stamp_is_rejected(stamp_ns):
    with pytest.raises(BadStamp, match=f"camera: stamp is {stamp_ns} ns, wanted the capture time"):
        StampedRing("camera", NEWEST).push(stamp_ns, np.zeros(1))


def test_a_clock_that_goes_back_clears_the_buffer_and_is_reported():
    ring = filled([100, 110, 120])
    assert ring.push(50 * MS, np.array([50.0])) is Pushed.CLOCK_JUMP
    assert ring.clock_jumps == 1
    assert ring.at(55 * MS)[0][0] == 50
    assert list(ring.snapshot()[0]) == [50 * MS]


def test_the_same_sample_twice_is_kept_once_and_counted():
    ring = filled([100, 110])
    assert ring.push(110 * MS, np.array([0.0])) is Pushed.DUPLICATE
    assert ring.duplicates == 1
    assert ring.at(110 * MS)[0][0] == 110
    assert ring.push(111 * MS, np.array([111.0])) is Pushed.KEPT


@given(pushes=st.lists(st.integers(1, 200), max_size=200), capacity=st.integers(2, 10))
def test_stamps_ascend_whatever_is_pushed(pushes, capacity):
    ring = filled(pushes, capacity=capacity)
    stamps, values = ring.snapshot()
    assert (np.diff(stamps) > 0).all()
    assert len(values) == len(stamps) <= capacity
    assert [value[0] * MS for value in values] == list(stamps)


def test_two_cameras_half_a_period_apart_serve_every_tick():
    first, second = filled(range(1, 2000, 33)), filled(range(17, 2000, 33))
    rings = {"first": first, "second": second}
    long = {name: StampedRing(name, NEWEST, 1000) for name in rings}
    for name, ring in rings.items():
        for stamp, value in zip(*ring.snapshot(), strict=True):
            long[name].push(int(stamp), value)
    oldest = max(ring.snapshot()[0][0] for ring in long.values())
    for tick_ns in range(int(oldest), 1990 * MS, 33 * MS):
        observation = align(long, tick_ns)
        assert max(observation.age_ns.values()) <= 33 * MS
        assert min(observation.age_ns.values()) >= 0


def test_every_stale_stream_is_named_at_once():
    rings = {"left": filled([10]), "right": StampedRing("right", NEWEST), "state": filled([490])}
    with pytest.raises(StaleSensor, match=r"camera is 490 ms old(.|\n)*right has no sample"):
        align(rings, 500 * MS)


def test_what_was_recorded_gives_the_same_observations_when_replayed():
    rings = {"camera": filled(range(5, 400, 33)), "state": filled(range(3, 400, 10))}
    ticks = range(40 * MS, 400 * MS, 20 * MS)
    live = [align(rings, tick) for tick in ticks]
    recorded = {
        name: {tick - seen.age_ns[name]: seen.values[name] for tick, seen in zip(ticks, live, strict=True)}
        for name in rings
    }
    for tick, seen in zip(ticks, live, strict=True):
        for name, frames in recorded.items():
            stamps = np.array(sorted(frames))
            value, age_ns = sample_at(stamps, [frames[each] for each in sorted(frames)], tick, NEWEST, name)
            assert value is seen.values[name]
            assert age_ns == seen.age_ns[name]


# Interpolation


def test_a_state_between_two_samples_is_interpolated_and_is_of_the_tick():
    value, age_ns = filled([100, 110], LINEAR).at(107 * MS)
    assert value[0] == pytest.approx(107)
    assert age_ns == 0


def test_a_state_is_never_extrapolated():
    value, age_ns = filled([100, 110], LINEAR).at(117 * MS)
    assert (value[0], age_ns) == (110, 7 * MS)


def test_a_gap_in_a_stream_is_not_bridged():
    with pytest.raises(StaleSensor, match="150 ms old"):
        filled([100, 300], LINEAR).at(250 * MS)


@given(
    before=st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3),
    after=st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3),
    fraction=st.floats(0, 1),
)
def test_interpolation_stays_between_its_ends_and_keeps_the_dtype(before, after, fraction):
    start, end = np.array(before, dtype=np.float32), np.array(after, dtype=np.float32)
    mixed = interpolate(start, end, fraction)
    assert mixed.dtype == np.float32
    slack = 1e-3
    assert (mixed >= np.minimum(start, end) - slack).all()
    assert (mixed <= np.maximum(start, end) + slack).all()


QUATERNIONS = (
    st.lists(st.floats(-1, 1), min_size=4, max_size=4)
    .map(np.array)
    .filter(lambda each: np.linalg.norm(each) > 0.1)
    .map(lambda each: each / np.linalg.norm(each))
)


@given(before=QUATERNIONS, after=QUATERNIONS, fraction=st.floats(0, 1))
def test_slerp_is_a_rotation_at_constant_speed_along_the_shorter_way(before, after, fraction):
    mixed = slerp(before, after, fraction)
    assert np.linalg.norm(mixed) == pytest.approx(1)
    whole = 2 * np.arccos(min(1.0, abs(before @ after)))
    part = 2 * np.arccos(min(1.0, abs(before @ mixed)))
    assert part == pytest.approx(fraction * whole, abs=1e-4)


@given(before=QUATERNIONS, fraction=st.floats(0, 1))
def test_opposite_signs_of_one_rotation_do_not_turn(before, fraction):
    assert abs(slerp(before, -before, fraction) @ before) == pytest.approx(1)


def test_a_pose_turns_by_slerp_and_moves_linearly():
    half_turn = np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)])
    before, after = np.array([0.0, 2.0, 0, 0, 0, 1]), np.array([1.0, 4.0, *half_turn])
    mixed = interpolate(before, after, 0.5, quaternions=(2,))
    assert mixed == pytest.approx([0.5, 3.0, 0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)])


def test_a_writer_and_a_reader_in_two_threads_never_see_half_a_sample():
    ring = StampedRing("state", StreamTiming(max_age_ns=10**18), capacity=8)
    done = threading.Event()

    def write():
        for stamp in range(1, 20_000):
            ring.push(stamp, np.array([stamp]))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set():
        stamps, values = ring.snapshot()
        assert [int(value[0]) for value in values] == list(stamps)
        seen += 1
    writer.join()
    assert seen > 0
    assert ring.at(10**6)[0][0] == 19_999
