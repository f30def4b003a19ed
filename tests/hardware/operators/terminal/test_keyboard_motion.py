"""What held and tapped keys make a robot do: rates, positions, how long a press holds."""

import numpy as np
import pytest

from hardware.operators.terminal.key_motion import HeldKeys, HoldTiming
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.terminal.keyboard_person import METAWORLD, PUSHT, Person

MS = 1_000_000


# Motion of a robot that obeys rates


def test_nothing_is_asked_for_before_the_first_motion_key():
    person = Person(METAWORLD)
    assert all(each.action is None for each in person.wait(1.0))
    assert person.poll(b"d").action is not None


def test_a_tap_is_a_small_step_that_ends_by_itself():
    person = Person(METAWORLD)
    actions = np.array([each.action for each in [person.poll(b"d"), *person.wait(0.5)]])
    assert actions[0, 0] == pytest.approx(10.0 / 80)
    assert (actions[-1, :3] == 0).all()
    assert 0.5 < actions[:, 0].sum() < 2.0
    assert (actions[:, 1:3] == 0).all()


def test_a_held_key_moves_at_full_speed_until_it_is_released():
    person = Person(METAWORLD)
    held = np.array([each.action for each in person.hold(b"w", 1.5)])
    assert (held[int(0.55 * 80) :, 1] == np.float32(10.0 / 80)).all()
    after = np.array([each.action[1] for each in person.wait(0.5)])
    assert (np.diff(after) <= 0).all()
    assert after[round(0.3 * 80) :].max() == 0


def test_the_opposite_key_ends_a_motion_at_once():
    person = Person(METAWORLD)
    person.hold(b"w", 1.0)
    assert person.poll(b"s").action[1] == np.float32(-10.0 / 80)


@pytest.mark.parametrize(("key", "scale"), [(b"1", 0.25), (b"2", 1.0), (b"3", 2.0)])
def test_speeds(key, scale):
    person = Person(METAWORLD)
    person.poll(key)
    assert person.poll(b"d").action[0] == np.float32(scale * 10.0 / 80)


def test_the_gripper_key_switches():
    person = Person(METAWORLD, place=(0, 0, 0, 1.0))
    assert [person.poll(key).action[3] for key in (b"d", b"g", b"", b"g", b"")] == [-1, 1, 1, -1, -1]


@pytest.mark.parametrize(("opening", "effort"), [(1.0, -1.0), (0.5, 1.0)])
def test_taking_over_keeps_the_gripper_as_it_is_seen(opening, effort):
    person = Person(METAWORLD, place=(0, 0, 0, opening), correcting=True)
    assert person.poll(b"\t").action[3] == effort


# Motion of a robot that obeys positions


def test_a_position_starts_where_the_robot_is_seen():
    person = Person(PUSHT, place=(100, 200))
    first = person.poll(b"d").action
    assert first[0] == pytest.approx(100 + 15)
    assert first[1] == 200


def test_a_target_stays_where_it_was_left():
    person = Person(PUSHT, place=(100, 200))
    moved = person.hold(b"s", 1.0)[-1].action
    rested = [each.action for each in person.wait(2.0)]
    assert rested[-1][1] >= moved[1]
    assert (rested[-1] == rested[-5]).all()


def test_a_target_does_not_run_away_from_a_robot_that_is_blocked():
    person = Person(PUSHT, place=(100, 200))
    assert person.hold(b"d", 5.0)[-1].action[0] == 180


@pytest.mark.parametrize("key", [b"", b"d", b"a"])
def test_one_false_measurement_drags_no_target_along(key):
    person = Person(PUSHT, place=(200, 200))
    person.poll(b"d")
    person.wait(1.0)
    before = person.poll().action
    person.state[:2] = 0
    during = person.poll(key).action
    person.state[:2] = 200
    person.wait(1.0)
    after = person.poll().action
    assert abs(during - before).max() <= 150.0 / PUSHT.control_hz + 1e-6
    assert abs(after - before).max() <= 150.0 * 0.2 + 1e-6


def test_a_target_stays_in_the_action_space():
    person = Person(PUSHT, place=(500, 5))
    assert person.hold(b"d", 2.0)[-1].action[0] == 512
    assert person.hold(b"w", 2.0)[-1].action[1] == 0


def test_after_a_pause_the_target_is_where_the_robot_is():
    person = Person(PUSHT, place=(100, 200))
    person.hold(b"d", 0.5)
    assert person.poll(b" ").event is OperatorEvent.PAUSE
    person.wait(0.5)
    person.state[:2] = 300, 310
    person.poll(b" ")
    assert list(person.poll().action) == [300, 310]


def test_a_paused_robot_is_not_moved_by_keys():
    person = Person(PUSHT, place=(100, 200))
    person.poll(b"d")
    person.wait(0.5)
    person.poll(b" ")
    before = person.poll().action
    assert (person.hold(b"d", 1.0)[-1].action == before).all()


# Presses and holds


def test_a_press_within_the_repeat_delay_holds_and_a_later_one_taps():
    timing = HoldTiming(tap_s=0.1, repeat_delay_s=0.5, hold_s=0.2, decay_s=0.1)
    held = HeldKeys(timing)
    held.press("d", 0)
    assert [held.weight("d", ms * MS) for ms in (0, 100, 150, 200)] == pytest.approx([1, 1, 0.5, 0])
    held.press("d", 450 * MS)
    assert [held.weight("d", (450 + ms) * MS) for ms in (200, 250, 300)] == pytest.approx([1, 0.5, 0])
    held.press("d", 1200 * MS)
    assert held.weight("d", 1400 * MS) == 0
