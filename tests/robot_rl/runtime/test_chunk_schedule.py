from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.core.episode import ActionChunk
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from robot_rl.runtime.chunk_schedule import ChunkSchedule, mix, smooth_weight

TICK_NS = 10
SPEC = RobotSpec(
    "stamped",
    {},
    ArraySpec((3,), "float64", "ns,1,1"),
    (ActionKind.POSITION, ActionKind.RATE, ActionKind.BINARY),
    1e9 / TICK_NS,
)


def stamped_chunk(start_ns: int, rows: int, gripper: float = 1.0) -> ActionChunk:
    """Every row says its own time in the first channel."""
    stamps = start_ns + TICK_NS * np.arange(rows)
    return ActionChunk(np.stack([stamps, np.ones(rows), np.full(rows, gripper)], axis=1).astype(np.float64), start_ns)


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, ActionChunk]]:
    """Chunks with the tick at which each arrives: any delay, any gap, any length, off the grid too, overtaking."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        seen_ns = draw(st.integers(0, 400))
        delay = draw(st.integers(0, 15))
        found.append((seen_ns // TICK_NS + delay, stamped_chunk(seen_ns, draw(st.integers(1, 12)))))
    return found


def execute(schedule: ChunkSchedule, arriving: list[tuple[int, ActionChunk]], fade_ns: int):
    last = None
    for tick in range(60):
        now_ns = tick * TICK_NS
        for _, chunk in (each for each in arriving if each[0] == tick):
            schedule.splice(chunk, now_ns, last, fade_ns)
        row = schedule.row(now_ns)
        last = row if row is not None else last
        yield now_ns, row


@given(arriving=arrivals(), latency_ns=st.integers(0, 45))
def test_whatever_the_arrival_no_row_is_executed_late_out_of_order_or_twice(arriving, latency_ns):
    schedule = ChunkSchedule(SPEC, latency_ns)
    last_stamp_ns = -1.0
    for now_ns, row in execute(schedule, arriving, fade_ns=0):
        if row is None:
            continue
        assert now_ns + latency_ns <= row[0] < now_ns + latency_ns + TICK_NS
        assert row[0] > last_stamp_ns
        last_stamp_ns = row[0]


@given(arriving=arrivals(), grippers=st.data(), fade_ns=st.integers(0, 60))
def test_binary_channels_are_never_averaged(arriving, grippers, fade_ns):
    arriving = [
        (tick, stamped_chunk(chunk.start_ns, len(chunk.values), grippers.draw(st.sampled_from([-1.0, 1.0]))))
        for tick, chunk in arriving
    ]
    schedule = ChunkSchedule(SPEC)
    for _, row in execute(schedule, arriving, fade_ns):
        assert row is None or row[2] in (-1.0, 1.0)


@given(arriving=arrivals(), fade_ns=st.integers(0, 60))
def test_a_cross_fade_changes_values_but_not_which_ticks_have_one(arriving, fade_ns):
    plain = [row is None for _, row in execute(ChunkSchedule(SPEC), arriving, 0)]
    faded = [row is None for _, row in execute(ChunkSchedule(SPEC), arriving, fade_ns)]
    assert plain == faded


@given(
    old=st.floats(-1, 1),
    new=st.floats(-1, 1),
    arrives=st.integers(0, 9),
    fade_ticks=st.integers(1, 10),
)
def test_a_cross_fade_stays_between_the_chunks_and_moves_in_steps_of_its_slope(old, new, arrives, fade_ticks):
    schedule = ChunkSchedule(SPEC)
    schedule.splice(ActionChunk(np.full((40, 3), old), 0), 0, None, 0)
    rows = []
    for tick in range(40):
        if tick == arrives:
            chunk = ActionChunk(np.full((40, 3), new), tick * TICK_NS)
            schedule.splice(chunk, tick * TICK_NS, None, fade_ticks * TICK_NS)
        rows.append(schedule.row(tick * TICK_NS)[0])
    assert min(old, new) - 1e-12 <= min(rows) <= max(rows) <= max(old, new) + 1e-12
    steepest = 1.5 / (fade_ticks + 1)  # largest slope of 3 s^2 - 2 s^3
    assert np.abs(np.diff(rows)).max() <= steepest * abs(new - old) + 1e-12
    assert rows[arrives + fade_ticks] == pytest.approx(new)


def test_a_chunk_on_its_boundary_without_fade_is_executed_as_it_is():
    schedule = ChunkSchedule(SPEC)
    for start in (0, 8):
        schedule.splice(stamped_chunk(start * TICK_NS, 16), start * TICK_NS, None, 0)
        for tick in range(start, start + 8):
            assert schedule.row(tick * TICK_NS)[0] == tick * TICK_NS


def test_rows_are_sent_early_by_the_action_latency_and_those_already_late_are_counted():
    schedule = ChunkSchedule(SPEC, action_latency_ns=25)
    late = schedule.splice(stamped_chunk(0, 8), 20, None, 0)
    assert late == 5, "rows for 0 to 40 ns cannot take effect before 45 ns"
    assert schedule.row(20)[0] == 50


def test_a_chunk_that_is_wholly_late_leaves_nothing_to_execute():
    schedule = ChunkSchedule(SPEC)
    assert schedule.splice(stamped_chunk(0, 4), 100, None, 0) == 4
    assert schedule.row(100) is None


def test_a_row_meant_for_later_is_not_executed_yet():
    schedule = ChunkSchedule(SPEC)
    schedule.splice(stamped_chunk(50, 4), 0, None, 0)
    assert schedule.row(40) is None
    assert schedule.row(50)[0] == 50


def test_after_starving_a_chunk_fades_in_from_where_the_robot_is():
    schedule = ChunkSchedule(SPEC)
    schedule.splice(ActionChunk(np.full((2, 3), 9.0), 0), 0, None, 0)
    applied = np.array([1.0, 0.0, -1.0])
    schedule.splice(ActionChunk(np.full((9, 3), 3.0), 50), 50, applied, 30)
    position = [schedule.row(now_ns)[0] for now_ns in range(50, 100, TICK_NS)]
    assert position == pytest.approx([1 + 2 * smooth_weight(f) for f in (0.25, 0.5, 0.75, 1, 1)])


def test_beyond_the_old_plan_positions_hold_and_rates_are_zero():
    schedule = ChunkSchedule(SPEC)
    schedule.splice(ActionChunk(np.full((1, 3), 4.0), 0), 0, None, 0)
    schedule.splice(ActionChunk(np.zeros((4, 3)), 0), 0, None, 30)
    row = schedule.row(10)
    assert row[0] == pytest.approx(4.0 * (1 - smooth_weight(0.5)))
    assert row[1] == 0.0


def test_the_first_chunk_of_an_episode_is_not_faded_from_anything():
    schedule = ChunkSchedule(SPEC)
    schedule.splice(stamped_chunk(0, 4), 0, None, 50)
    assert [schedule.row(t)[0] for t in (0, 10, 20)] == [0, 10, 20]


def test_clearing_forgets_every_row():
    schedule = ChunkSchedule(SPEC)
    schedule.splice(stamped_chunk(0, 4), 0, None, 0)
    schedule.clear()
    assert schedule.row(0) is None


def test_mixing_gives_the_old_at_weight_0_and_the_new_at_1_and_never_half_a_gripper():
    old, new = np.array([1.0, 2.0, -1.0]), np.array([3.0, 4.0, 1.0])
    np.testing.assert_array_equal(mix(SPEC, old, new, 0.0), [1.0, 2.0, 1.0])
    np.testing.assert_array_equal(mix(SPEC, old, new, 0.5), [2.0, 3.0, 1.0])
    np.testing.assert_array_equal(mix(SPEC, old, new, 1.0), new)


def test_the_ramp_begins_and_ends_at_rest():
    assert smooth_weight(-1) == smooth_weight(0) == 0
    assert smooth_weight(1) == smooth_weight(2) == 1
    assert smooth_weight(1e-6) / 1e-6 < 1e-5
    assert (1 - smooth_weight(1 - 1e-6)) / 1e-6 < 1e-5
