import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.contract import check_robot
from hardware.sim.joint_arm import HOME_RAD
from hardware.sim.servo import ServoSettings
from hardware.sim.troubled_arm import TroubledArm
from hardware.sim.troubles import (
    EncoderOffset,
    FalseKind,
    FalseSamples,
    Frozen,
    LostCommands,
    OtherPublisher,
    Pushed,
    Silent,
    Since,
    SpeedScaled,
    trouble_from,
)
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.specs import NS_PER_S

MS = 1_000_000


class Stand:
    """An arm in its first episode, and its clock."""

    def __init__(self, *troubles, **settings):
        self.clock = SimulatedClock(NS_PER_S)
        self.arm = TroubledArm(troubles=troubles, clock=self.clock, **settings)
        self.arm.reset(0)

    def go(self, pan_rad):
        self.arm.apply(np.array([pan_rad, *HOME_RAD[1:], 1.0], np.float32))

    def wait(self, seconds):
        self.clock.sleep_until_ns(self.clock.now_ns() + round(seconds * NS_PER_S))

    def sweep(self, rad_s, seconds, start_rad=0.0):
        """Commands an even motion of the first joint at 100 Hz."""
        for tick in range(1, round(seconds * 100) + 1):
            self.wait(0.01)
            self.go(start_rad + rad_s * tick / 100)

    @property
    def pan(self):
        return float(self.arm.true_joints_rad[0])

    @property
    def shown(self):
        return self.see().values["joint_position"]

    def see(self):
        return self.arm.observe(self.clock.now_ns())


def test_it_keeps_the_robot_contract_but_that_a_reset_does_not_bring_it_back():
    clock = SimulatedClock()
    (breach,) = check_robot(lambda: TroubledArm(clock=clock), clock=clock)
    assert "gave another trajectory" in breach


@pytest.mark.parametrize("order", [1, 2])
def test_an_even_motion_is_followed_a_lag_behind(order):
    stand = Stand(lag_s=0.05, order=order)
    stand.sweep(0.5, 2.0)
    # The command is a staircase of 10 ms, whose middle is half a stair behind.
    assert 1.0 - stand.pan == pytest.approx(0.5 * 0.05, abs=0.5 * 0.01)


@pytest.mark.parametrize("order", [1, 2])
@given(st.floats(-3.0, 3.0), st.floats(0.1, 3.0))
@settings(max_examples=20, deadline=None)
def test_no_joint_is_faster_than_its_limit_and_none_overshoots(order, target_rad, max_speed):
    stand = Stand(order=order, max_speed=max_speed)
    stand.go(target_rad)
    stand.wait(1.0)
    motion = stand.arm.true_motion()
    assert motion.speeds().max() <= max_speed * (1 + 1e-9)
    if order == 1:
        assert abs(motion.joints_rad[:, 0]).max() <= abs(target_rad) + 1e-6


def test_a_joint_at_rest_sticks_until_the_gap_tears_it_loose():
    stand = Stand(stiction_rad=0.01)
    stand.go(0.009)
    stand.wait(1.0)
    assert stand.pan == 0.0
    stand.go(0.02)
    stand.wait(1.0)
    assert stand.pan == pytest.approx(0.02, abs=0.001)


def test_its_motion_depends_on_seed_and_times_of_commands_and_on_nothing_else():
    paths = []
    for looks in (False, True):
        trouble = Frozen(at_s=(0.1, 0.5), for_s=0.2)
        stand = Stand(trouble, LostCommands(share=0.5), pauses_per_s=3.0)
        stand.arm.reset(7)
        for tick in range(100):
            stand.wait(0.01)
            if looks:
                stand.see()
            stand.go(0.01 * tick)
        paths.append(stand.arm.true_motion())
    assert np.array_equal(paths[0].joints_rad, paths[1].joints_rad)
    assert stand.arm.events[0][1] in ("frozen", "lost_commands")


def test_pauses_make_it_later_and_nothing_else():
    stand = Stand(pauses_per_s=5.0, longest_pause_s=0.1)
    stand.sweep(0.5, 2.0)
    stand.wait(1.0)
    motion = stand.arm.true_motion()
    standing = motion.speeds()[20:190, 0] == 0.0
    assert 0.0 < standing.mean() < 1.0
    assert stand.pan == pytest.approx(1.0, abs=1e-3)


def test_a_frozen_arm_stands_and_goes_on_reporting_and_then_catches_up_at_full_speed():
    stand = Stand(Frozen(at_s=(0.5, 0.5), for_s=0.5))
    stand.sweep(0.5, 0.99)
    stood = stand.pan
    assert stood == pytest.approx(0.25, abs=0.05)
    assert stand.shown[0] == pytest.approx(stood)
    stand.sweep(0.5, 1.0, start_rad=0.495)
    # The gap of 0.25 rad is closed with the lag's time constant: far beyond the speed of the command.
    assert stand.arm.true_motion().speeds().max() > 2.5


def test_a_speed_slider_scales_the_speed():
    stand = Stand(SpeedScaled(at_s=(0.0, 0.0), for_s=1.0, scale=0.1))
    stand.go(3.0)
    stand.wait(0.5)
    assert stand.arm.true_motion().speeds().max() == pytest.approx(0.3, rel=1e-6)
    assert stand.arm.events[0][1] == "speed_scaled"


def test_a_hand_moves_a_joint_and_let_go_it_springs_back():
    stand = Stand(Pushed(at_s=(0.1, 0.1), for_s=1.0, by_rad=0.3, push_s=0.5))
    stand.go(0.0)
    stand.wait(0.9)
    assert stand.pan == pytest.approx(0.3)
    by_the_hand = stand.arm.true_motion()
    assert by_the_hand.by_hand[:, 0].sum() >= 70
    assert by_the_hand.speeds().max() < 1e-5
    assert abs(np.diff(by_the_hand.joints_rad[:, 0])).max() * 100 < 1.0
    stand.wait(1.0)
    assert stand.pan == pytest.approx(0.0, abs=1e-3)
    assert stand.arm.true_motion().speeds().max() > 2.5


@pytest.mark.parametrize(
    ("shows", "is_false"),
    [
        (FalseKind.ZEROS, lambda shown, true: not shown.any()),
        (FalseKind.TURN, lambda shown, true: shown[0] == pytest.approx(true[0] + 2 * math.pi)),
        (FalseKind.SIGN, lambda shown, true: np.allclose(shown, -true)),
        (FalseKind.GARBAGE, lambda shown, true: abs(shown - true).max() > 1.0),
        (FalseKind.NAN, lambda shown, true: np.isnan(shown).all()),
    ],
)
def test_false_samples_are_as_many_as_asked_for_and_the_arm_does_not_move(shows, is_false):
    stand = Stand(FalseSamples(since=Since.RESET, first=2, shows=shows, samples=2))
    stand.arm.reset(1)
    true = np.array([*HOME_RAD, 1.0])
    assert is_false(stand.shown, true)
    assert is_false(stand.shown, true)
    assert np.allclose(stand.shown, true)
    stand.wait(0.1)
    assert stand.arm.true_motion().speeds().max() == 0.0


def test_a_stale_sample_shows_the_past_as_if_it_were_new():
    stand = Stand(FalseSamples(at_s=(0.5, 0.5), shows=FalseKind.STALE, samples=10))
    stand.sweep(0.5, 0.5)
    before = stand.shown[0]
    stand.sweep(0.5, 0.1, start_rad=0.25)
    seen = stand.see()
    assert seen.values["joint_position"][0] == before
    assert seen.age_ns["joint_position"] == 0
    assert stand.pan > before + 0.02


def test_two_publishers_alternate():
    stand = Stand(OtherPublisher(since=Since.RESET, first=2, away_rad=0.4))
    stand.arm.reset(1)
    shown = [stand.shown[0] for _ in range(4)]
    assert shown == pytest.approx([0.4, 0.0, 0.4, 0.0])


def test_lost_commands_do_not_move_it():
    stand = Stand(LostCommands(for_s=0.1))
    stand.go(0.5)
    stand.wait(0.09)
    assert stand.pan == 0.0
    stand.wait(0.02)
    stand.go(0.5)
    stand.wait(1.0)
    assert stand.pan == pytest.approx(0.5, abs=1e-3)


def test_a_silent_arm_is_stale_and_goes_where_it_was_told():
    stand = Stand(Silent(for_s=0.5))
    stand.shown  # noqa: B018
    stand.go(0.5)
    stand.wait(0.04)
    assert stand.see().age_ns["joint_position"] == 40 * MS
    stand.wait(0.2)
    with pytest.raises(StaleSensor, match="240 ms old, limit is 50 ms"):
        stand.see()
    assert stand.pan > 0.4
    stand.wait(0.3)
    assert stand.shown[0] == pytest.approx(stand.pan, abs=1e-3)


def test_an_offset_comes_with_a_reset_and_moves_nothing_by_itself():
    stand = Stand(EncoderOffset(joint=0, first=2))
    assert stand.shown[0] == 0.0
    stand.arm.reset(1)
    assert stand.shown[0] == pytest.approx(2 * math.pi)
    stand.wait(1.0)
    assert stand.pan == 0.0


def test_what_goes_on_at_a_reset_goes_on_and_comes_again_when_it_is_said_to():
    stand = Stand(Frozen(at_s=(0.1, 0.1), for_s=0.5, since=Since.RESET, first=2, every=2))
    for _ in range(3):
        stand.arm.reset(1)
        stand.sweep(0.5, 0.3)
    assert [at_ns // MS - 1000 for at_ns, _ in stand.arm.events] == [100, 700]


def test_a_reset_draws_the_times_anew_and_a_seed_draws_them_again():
    begun = []
    for seed in (1, 2, 1):
        stand = Stand(Frozen(at_s=(0.0, 1.0), for_s=0.1, first=2))
        stand.arm.reset(seed)
        stand.sweep(0.5, 1.2)
        begun.append(stand.arm.events[0][0])
    assert begun[0] == begun[2] != begun[1]


def test_what_it_really_did_is_written_down_on_leaving(tmp_path):
    stand = Stand(Frozen(at_s=(0.1, 0.1), for_s=0.1), record=str(tmp_path / "true.npz"))
    with stand.arm:
        stand.sweep(0.5, 0.5)
    with np.load(tmp_path / "true.npz") as found:
        assert np.array_equal(found["joints_rad"], stand.arm.true_motion().joints_rad)
        assert found["events"][0].endswith(" frozen")
        assert (np.diff(found["times_ns"]) == 10 * MS).all()


def test_a_yaml_names_its_troubles():
    named = trouble_from({"kind": "frozen", "since": "reset", "at_s": [0.1, 0.2], "for_s": 0.5})
    assert named == Frozen(at_s=(0.1, 0.2), since=Since.RESET, for_s=0.5)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"kind": "ghost"}, "one of frozen"),
        ({"for_s": 1.0}, "wanted 'kind'"),
        ({"kind": "frozen", "scale": 1.0}, "has no 'scale'"),
        ({"kind": "frozen", "since": "ever"}, "'ever'"),
        ({"kind": "frozen", "at_s": 1.0}, "frozen"),
    ],
)
def test_a_trouble_that_is_none_is_refused_in_words(document, words):
    with pytest.raises(RobotRLError, match=words):
        trouble_from(document)


@pytest.mark.parametrize("document", [{"lag_s": 0.0}, {"order": 3}, {"stiction": -1.0}, {"lag_s": math.nan}])
def test_a_servo_that_is_none_is_refused_in_words(document):
    with pytest.raises(RobotRLError, match="servo"):
        ServoSettings(**document)
