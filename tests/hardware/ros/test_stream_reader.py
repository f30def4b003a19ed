"""What a live stream lets in: nothing that no body could have reached, whatever bus, encoder or rival sends."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.ros.stream_gate import RECOVERY_S, SILENCE_S
from hardware.ros.stream_reader import StreamReader
from hardware.ros.streams import StreamConfig
from robot_rl.core.errors import StaleSensor
from robot_rl.core.specs import NS_PER_S

MS = 1_000_000
START_NS = 1_700_000_000 * NS_PER_S
JOINTS = ("pan", "lift")
REST = (0.4, -1.1)
WRAPPED = (0.4, -1.1 + 2 * np.pi)


class Feed:
    """A reader, and a driver that publishes every 10 ms."""

    def __init__(self, *, checked=True, joints=JOINTS, **changes):
        document = {
            "kind": "joints",
            "topic": "/joint_states",
            "joints": [*joints],
            "max_age_s": 0.1,
            "max_speed": 3.0,
            "margin": 0.05,
            **changes,
        }
        stream = StreamConfig.parse("joint_position", document)
        self.reader = StreamReader(stream, "/joint_states", threading.Condition(), checked)
        self.now_ns = START_NS

    def send(self, position, *, names=JOINTS, times=1, after_ms=10.0, stamp_ns=None):
        for _ in range(times):
            self.now_ns += round(after_ms * MS)
            sec, nanosec = divmod(self.now_ns if stamp_ns is None else stamp_ns, NS_PER_S)
            header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))
            self.reader.take(SimpleNamespace(header=header, name=[*names], position=[*position]))
        return self

    @property
    def seen(self):
        """The newest value that an observation would show."""
        try:
            return tuple(self.reader.ring.at(self.now_ns)[0].astype(float).round(3))
        except StaleSensor:
            return None


def feed(**changes):
    return Feed(**changes).send(REST, times=5)


@pytest.mark.parametrize("false", [(0.0, 0.0), (4095.0, 4095.0), (-0.4, 1.1), WRAPPED, (np.nan, 0.0)])
def test_a_false_sample_is_never_seen_and_costs_no_other(false):
    driver = feed().send(false)
    assert driver.seen == REST
    assert driver.reader.implausible + driver.reader.refused == 1
    driver.send(REST)
    assert driver.seen == REST
    assert driver.reader.doubt(driver.now_ns) is None


def test_the_first_sample_is_seen_once_another_agrees():
    driver = Feed().send(REST)
    assert driver.seen is None
    assert "waits for another" in driver.reader.doubt(driver.now_ns)
    assert driver.send(REST).seen == REST


def test_a_false_first_sample_is_never_seen():
    driver = Feed().send((0.0, 0.0))
    seen = {driver.send(REST).seen for _ in range(6)}
    assert seen == {None, REST}
    assert driver.reader.doubt(driver.now_ns) is None


def test_several_false_samples_in_a_row_make_the_stream_stale_in_words():
    driver = feed().send(WRAPPED, times=3)
    assert driver.seen is None
    assert "'lift' went from -1.1 to 5.183 rad" in driver.reader.doubt(driver.now_ns)
    assert driver.reader.lost(driver.now_ns) == driver.reader.fault


def test_a_fault_outlasts_any_patience_of_an_arm_and_ends_when_samples_have_long_agreed():
    driver = feed().send(WRAPPED, times=3)
    driver.send(WRAPPED, times=round(0.9 * RECOVERY_S * 100))
    assert driver.seen is None
    driver.send(WRAPPED, times=round(0.2 * RECOVERY_S * 100))
    assert driver.seen == tuple(np.round(WRAPPED, 3))
    assert driver.reader.doubt(driver.now_ns) is None


def test_two_publishers_that_take_turns_are_noticed_while_running_and_never_believed():
    driver = feed()
    for _ in range(500):
        driver.send(REST, after_ms=5.0).send((1.5, 0.7), after_ms=5.0)
        assert driver.seen in (REST, None)
    assert driver.reader.fault
    assert driver.seen is None


def test_a_driver_that_starts_anew_elsewhere_after_silence_is_believed_once_two_samples_agree():
    driver = feed().send((1.5, 0.7), after_ms=1000 * SILENCE_S + 100)
    assert driver.seen is None
    assert driver.send((1.5, 0.7)).seen == (1.5, 0.7)
    assert driver.reader.implausible == 0


def test_a_sample_that_arrives_out_of_order_is_not_seen_and_does_not_end_the_stream():
    driver = feed()
    driver.send(REST, stamp_ns=driver.now_ns - 15 * MS)
    assert (driver.seen, driver.reader.late) == (REST, 1)
    assert driver.reader.ring.clock_jumps == 0
    assert driver.send(REST).seen == REST


def test_a_clock_that_was_set_back_is_followed_once_several_samples_agree():
    driver = feed()
    driver.now_ns -= 3600 * NS_PER_S
    assert driver.send(REST, times=5).seen == REST
    assert driver.reader.ring.clock_jumps == 1


def test_a_stamp_from_the_future_takes_no_false_value_along():
    driver = feed()
    driver.send((0.0, 0.0), stamp_ns=driver.now_ns + 3600 * NS_PER_S)
    assert {driver.send(REST).seen for _ in range(6)} == {REST}


def test_where_time_stands_still_a_reset_may_put_the_arm_anywhere():
    driver = feed(checked=False).send(WRAPPED)
    assert driver.seen == tuple(np.round(WRAPPED, 3))


def test_an_arm_that_is_put_at_its_start_may_jump_but_a_false_sample_meanwhile_is_not_seen():
    driver = feed()
    driver.reader.let_jump(True)
    seen = {driver.send(each).seen for each in [REST, (0.0, 0.0), *[(2.0, 2.0)] * 6]}
    assert (0.0, 0.0) not in seen
    assert driver.seen == (2.0, 2.0)
    assert driver.reader.implausible == 0


def test_what_is_still_under_way_from_before_a_reset_is_not_taken():
    driver = feed()
    driver.reader.forget(before_ns=driver.now_ns + 5 * MS)
    driver.send((9.0, 9.0), stamp_ns=driver.now_ns, times=3)
    driver.send(REST, times=2)
    assert driver.seen == REST


def test_joints_that_never_come_in_one_message_are_said_to_and_two_streams_proposed():
    driver = Feed(joints=("pan", "lift", "finger"))
    driver.send(REST).send((0.02,), names=("finger",))
    said = driver.reader.doubt(driver.now_ns)
    assert "no message holds all of 'pan', 'lift', 'finger'" in said
    assert "joints: [finger] and [pan, lift]" in said


def test_numbers_without_a_bound_are_taken_as_they_come():
    document = {"kind": "numbers", "topic": "/n", "names": ["a"], "unit": "1", "max_age_s": 0.1}
    stream = StreamConfig.parse("numbers", document)
    assert stream.spec.max_speed is None
    bounded = StreamConfig.parse("numbers", {**document, "max_speed": 2, "margin": [0.1]})
    assert (bounded.spec.max_speed, bounded.spec.margin) == (2.0, (0.1,))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_glitches_reorders_and_jitters_only_what_is_true_is_seen(data):
    driver, place, kept = Feed().send(REST), np.array(REST), {REST}
    for _ in range(data.draw(st.integers(5, 40))):
        after_ms = data.draw(st.floats(1.0, 25.0))
        kind = data.draw(st.sampled_from(["true"] * 12 + ["false", "repeated", "swapped"]))
        place = place + data.draw(st.floats(-1.0, 1.0)) * 3.0 * after_ms / 1000
        kept.add(tuple(place.astype(np.float32).astype(float).round(3)))
        if kind == "false":
            driver.send(place + data.draw(st.sampled_from([-5.0, 2.0, 2 * np.pi, 4095.0])), after_ms=after_ms)
        elif kind == "swapped":
            driver.send(place, after_ms=after_ms).send(place, stamp_ns=driver.now_ns - MS)
        else:
            driver.send(place, after_ms=after_ms, times=1 + (kind == "repeated"))
        assert driver.seen is None or driver.seen in kept
