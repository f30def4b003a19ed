"""Latency estimators on arms and cameras whose latency is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.latency import LatencySearch, NoLatency, camera_latency, command_latency, wiggle
from robot_rl.core.specs import NS_PER_S

MS = 1_000_000
START_NS = 1_700_000_000 * NS_PER_S
"""Large enough that a stamp in float seconds would lose microseconds."""


def commands(control_hz=20.0, duration_s=6.0, amplitude=0.1):
    """Send times and rows of a wiggle around 0.4 rad."""
    rows = 0.4 + amplitude * wiggle(duration_s, 0.4, 1.2, control_hz)
    return START_NS + np.rint(np.arange(len(rows)) * NS_PER_S / control_hz).astype(np.int64), rows


def followed(sent_ns, rows, delay_s, measured_hz=100.0, gain=1.0, until_s=1.0):
    """An arm that follows the path after a pure delay, measured at its own rate."""
    count = int((sent_ns[-1] - sent_ns[0]) / NS_PER_S * measured_hz + until_s * measured_hz)
    stamps_ns = sent_ns[0] + 1_234_567 + np.rint(np.arange(count) * NS_PER_S / measured_hz).astype(np.int64)
    at_s = (stamps_ns - sent_ns[0]) / NS_PER_S - delay_s
    return stamps_ns, 0.4 + gain * (np.interp(at_s, (sent_ns - sent_ns[0]) / NS_PER_S, rows) - 0.4)


@pytest.mark.parametrize("delay_s", [0.0, 0.0137, 0.05, 0.12, 0.35])
def test_a_pure_delay_is_found_to_a_tenth_of_a_sample(delay_s):
    sent, rows = commands()
    found = command_latency(sent, rows, *followed(sent, rows, delay_s))
    assert found.latency_s == pytest.approx(delay_s, abs=0.001)
    assert found.correlation > 0.999
    assert found.gain == pytest.approx(1.0, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(
    delay_ms=st.integers(0, 300),
    measured_hz=st.sampled_from([20.0, 30.0, 100.0, 250.0]),
    noise=st.sampled_from([0.0, 0.002, 0.005]),
    quantum=st.sampled_from([0.0, 0.0015, 0.01]),
    lost=st.sampled_from([0.0, 0.1, 0.4]),
    gain=st.sampled_from([0.6, 1.0]),
    seed=st.integers(0, 1000),
)
def test_noise_coarse_encoders_and_lost_samples_cost_less_than_a_sample_period(
    delay_ms, measured_hz, noise, quantum, lost, gain, seed
):
    generator = np.random.default_rng(seed)
    sent, rows = commands()
    stamps, places = followed(sent, rows, delay_ms / 1e3, measured_hz, gain)
    places = places + noise * generator.standard_normal(len(places))
    if quantum:
        places = np.round(places / quantum) * quantum
    kept = generator.random(len(places)) >= lost
    found = command_latency(sent, rows, stamps[kept], places[kept])
    assert abs(found.latency_s - delay_ms / 1e3) < 1.0 / measured_hz


def test_a_gap_of_a_second_in_the_measurement_does_not_shift_the_result():
    sent, rows = commands()
    stamps, places = followed(sent, rows, 0.08)
    outside = (stamps < START_NS + 2 * NS_PER_S) | (stamps > START_NS + 3 * NS_PER_S)
    assert command_latency(sent, rows, stamps[outside], places[outside]).latency_s == pytest.approx(0.08, abs=0.002)


def test_samples_in_any_order_twice_and_not_finite_give_the_same():
    sent, rows = commands()
    stamps, places = followed(sent, rows, 0.08)
    wanted = command_latency(sent, rows, stamps, places).latency_s
    shuffled = np.random.default_rng(0).permutation(np.concatenate([np.arange(len(stamps)), [5, 6, 7]]))
    stamps = np.append(stamps[shuffled], START_NS + 1)
    assert command_latency(sent, rows, stamps, np.append(places[shuffled], np.nan)).latency_s == pytest.approx(wanted)


def test_an_arm_with_a_first_order_lag_shows_delay_plus_time_constant():
    sent, rows = commands(control_hz=50.0)
    stamps, target = followed(sent, rows, 0.03, measured_hz=500.0)
    place, places = target[0], []
    for wanted in target:
        place += (wanted - place) / 500.0 / 0.04
        places.append(place)
    assert command_latency(sent, rows, stamps, np.array(places)).latency_s == pytest.approx(0.07, abs=0.004)


def test_an_arm_that_jumps_to_each_row_shows_half_a_tick():
    sent, rows = commands(control_hz=20.0)
    stamps, _ = followed(sent, rows, 0.0, measured_hz=500.0)
    held = rows[np.clip(np.searchsorted(sent, stamps, side="right") - 1, 0, len(rows) - 1)]
    assert command_latency(sent, rows, stamps, held).latency_s == pytest.approx(0.025, abs=0.003)


def test_the_stated_error_covers_the_real_one():
    sent, rows = commands()
    misses = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        stamps, places = followed(sent, rows, 0.1)
        found = command_latency(sent, rows, stamps, places + 0.01 * generator.standard_normal(len(places)))
        misses.append((found.latency_s - 0.1) / found.error_s)
    assert 0.5 < float(np.std(misses)) < 2.0


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_an_arm_that_did_not_move_gives_no_latency(noise):
    sent, rows = commands()
    stamps, places = followed(sent, rows, 0.1, gain=0.0)
    places = places + noise * np.random.default_rng(0).standard_normal(len(places))
    with pytest.raises(NoLatency, match=r"did not move.*check that it is enabled"):
        command_latency(sent, rows, stamps, places)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.05, 10.0))
def test_an_arm_that_moves_by_itself_gives_no_latency(seed, scale):
    sent, rows = commands()
    stamps, _ = followed(sent, rows, 0.1)
    with pytest.raises(NoLatency):
        command_latency(sent, rows, stamps, scale * np.random.default_rng(seed).standard_normal(len(stamps)))


def test_a_ramp_is_too_flat_to_tell():
    sent, _ = commands()
    rows = np.linspace(0.0, 0.1, len(sent))
    stamps, places = followed(sent, rows, 0.1)
    with pytest.raises(NoLatency):
        command_latency(sent, rows, stamps, places + 0.003 * np.random.default_rng(1).standard_normal(len(places)))


def test_a_wiggle_that_repeats_itself_is_refused():
    sent, _ = commands()
    rows = 0.1 * np.sin(2 * np.pi * 3.0 * (sent - sent[0]) / NS_PER_S)
    stamps, places = followed(sent, rows, 0.05)
    with pytest.raises(NoLatency, match="repeats itself"):
        command_latency(sent, rows, stamps, places)


def test_an_arm_later_than_the_search_says_so():
    sent, rows = commands()
    with pytest.raises(NoLatency, match=r"lags by 0\.60 s or more"):
        command_latency(sent, rows, *followed(sent, rows, 0.75, until_s=2.0), LatencySearch(least_correlation=0.0))


def test_motion_before_its_command_means_that_the_clocks_differ():
    sent, rows = commands()
    with pytest.raises(NoLatency, match=r"before its command.*clocks"):
        command_latency(sent, rows, *followed(sent, rows, -0.1))


def test_a_command_that_never_changes_is_refused():
    sent, rows = commands(amplitude=0.0)
    with pytest.raises(NoLatency, match="never changed"):
        command_latency(sent, rows, *followed(sent, rows, 0.1))


def test_too_few_samples_are_counted_out():
    sent, rows = commands()
    stamps, places = followed(sent, rows, 0.1)
    with pytest.raises(NoLatency, match="7 measured samples, wanted at least 3 and 50"):
        command_latency(sent, rows, stamps[:7], places[:7])


@pytest.mark.parametrize("rate_hz", [10.0, 20.0, 50.0])
def test_a_wiggle_begins_and_ends_at_rest_and_stays_within_one(rate_hz):
    motion = wiggle(6.0, 0.4, 1.2, rate_hz)
    assert motion[0] == motion[-1] == 0.0
    assert np.abs(motion).max() <= 1.0
    assert abs(motion[1]) < 0.05
    assert abs(motion[-2]) < 0.05


@settings(max_examples=60, deadline=None)
@given(
    latency_ms=st.floats(0.0, 200.0),
    transport_ms=st.floats(0.0, 100.0),
    jitter_ms=st.floats(0.0, 10.0),
    wild=st.integers(0, 20),
    seed=st.integers(0, 1000),
)
def test_camera_latency_is_the_median_whatever_a_few_pictures_say(latency_ms, transport_ms, jitter_ms, wild, seed):
    generator = np.random.default_rng(seed)
    encoded = START_NS + np.arange(90, dtype=np.int64) * 33 * MS
    stamps = encoded + np.rint((latency_ms + generator.uniform(-jitter_ms, jitter_ms, 90)) * MS).astype(np.int64)
    arrivals = stamps + round(transport_ms * MS)
    encoded[generator.permutation(90)[:wild]] -= 5 * NS_PER_S
    found = camera_latency(encoded, stamps, arrivals)
    assert found.stamp_s == pytest.approx(latency_ms / 1e3, abs=max(1e-6, jitter_ms / 1e3))
    assert found.arrival_s - found.stamp_s == pytest.approx(transport_ms / 1e3, abs=0.011)
    assert found.pictures == 90


def test_a_camera_stamped_before_what_it_shows_means_that_the_clocks_differ():
    encoded = START_NS + np.arange(30, dtype=np.int64) * 33 * MS
    with pytest.raises(NoLatency, match=r"40 ms before the time they show.*synchronise"):
        camera_latency(encoded, encoded - 40 * MS, encoded)


def test_a_camera_whose_latency_wanders_is_refused():
    encoded = START_NS + np.arange(30, dtype=np.int64) * 33 * MS
    stamps = encoded + np.arange(30, dtype=np.int64) * 20 * MS
    with pytest.raises(NoLatency, match="varies by"):
        camera_latency(encoded, stamps, stamps)


def test_a_clock_that_is_not_in_the_picture_says_what_to_do():
    encoded = START_NS + np.arange(3, dtype=np.int64)
    with pytest.raises(NoLatency, match=r"read in 3 pictures, wanted 20.*fill the picture"):
        camera_latency(encoded, encoded, encoded)
