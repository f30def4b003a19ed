import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.arm.state import (
    LATCHED,
    ArmRules,
    ArmState,
    Begun,
    Clear,
    ClockJump,
    Command,
    Enable,
    Failure,
    Heartbeat,
    Mode,
    Observed,
    Passed,
    Reset,
    Stop,
    Unseen,
    advance,
)
from robot_rl.core.errors import RobotRLError

RULES = ArmRules(deadman=True, deadman_timeout_s=0.2, watchdog_s=0.1)


def after(*timed, state=None, rules=RULES):
    """The state after events; a bare one happens at the time of the one before."""
    state, now_s = state or ArmState(), 0.0
    for each in timed:
        if isinstance(each, float):
            now_s = each
            continue
        state, _ = advance(state, each, now_s, rules)
    return state


def refusal(state, event, now_s=0.0, rules=RULES):
    return advance(state, event, now_s, rules).refusal


READY = (0.0, Observed(), Enable(True))
RUNNING = (*READY, Heartbeat("a"), Command("a"))


def test_it_begins_inactive_and_needs_the_driver_to_show_everything():
    assert after().mode is Mode.INACTIVE
    assert after(Enable(True)).mode is Mode.INACTIVE
    assert "has not shown" in refusal(after(), Enable(True))
    assert after(*READY).mode is Mode.ACTIVE


def test_the_first_session_that_speaks_after_enabling_has_the_arm():
    assert after(*READY).session == ""
    assert after(*RUNNING).session == "a"
    assert after(*RUNNING, Enable(False)).session == ""


def test_taking_motion_away_is_not_a_latched_stop():
    state = after(*RUNNING, Enable(False))
    assert (state.mode, state.reason) == (Mode.INACTIVE, "disabled")
    assert after(Enable(True), state=state).mode is Mode.ACTIVE


def test_a_lost_heartbeat_stops_once_its_time_is_over():
    beating = (*RUNNING, 0.09, Command("a"), 0.18, Command("a"))
    assert after(*beating, 0.2, Passed()).mode is Mode.ACTIVE
    state = after(*beating, 0.201, Passed())
    assert (state.mode, state.reason) == (Mode.STOPPED, "no heartbeat from a for 200 ms; clear to go on")


def test_a_heartbeat_that_comes_too_late_does_not_help():
    assert after(*READY, Heartbeat("a"), 0.5, Heartbeat("a")).mode is Mode.STOPPED


def test_commands_that_cease_stop():
    assert after(*RUNNING, 0.1, Heartbeat("a")).mode is Mode.ACTIVE
    assert "no usable command from a for 100 ms" in after(*RUNNING, 0.101, Heartbeat("a")).reason


def test_silence_before_the_first_heartbeat_and_command_is_waiting():
    assert after(*READY, 9.9, Passed()).mode is Mode.ACTIVE
    assert after(*READY, Heartbeat("a"), 0.15, Heartbeat("a"), 0.3, Passed()).mode is Mode.ACTIVE


def test_no_command_is_obeyed_before_a_heartbeat():
    state = after(*READY)
    assert "no heartbeat from a yet" in refusal(state, Command("a"))
    assert after(Command("a"), 9.0, Passed(), state=state).mode is Mode.ACTIVE
    assert refusal(state, Command("a"), rules=ArmRules(deadman=False)) == ""


def test_a_reset_begins_waiting_anew():
    state = after(*RUNNING, Reset("a"), 9.9, Passed())
    assert (state.mode, state.session, state.heartbeat_s) == (Mode.ACTIVE, "a", None)


@pytest.mark.parametrize("before", [READY, (*RUNNING, Reset("a")), (*RUNNING, Reset("a"), Begun())])
def test_motion_that_nobody_uses_is_taken_away(before):
    # A session killed during a reset left the arm active without end.
    state = after(*before, 10.1, Passed())
    assert (state.mode, state.reason) == (Mode.INACTIVE, "nobody used it for 10 s")


def test_a_session_that_beat_during_its_reset_and_ceases_stops_the_arm():
    state = after(*RUNNING, Reset("a"), 0.1, Heartbeat("a"), 0.301, Passed())
    assert (state.mode, state.reason) == (Mode.STOPPED, "no heartbeat from a for 200 ms; clear to go on")


def test_between_the_reset_and_the_first_command_a_policy_may_warm_up():
    begun = after(*RUNNING, Reset("a"), 0.1, Heartbeat("a"), 0.15, Begun(), 5.0, Command("a"))
    assert (begun.mode, begun.command_s, begun.settling) == (Mode.ACTIVE, 5.0, False)
    # As strict as before from then on.
    assert after(5.05, Command("a"), 5.14, Command("a"), 5.21, Passed(), state=begun).mode is Mode.STOPPED


def test_an_arm_whose_samples_do_not_agree_cannot_be_enabled_and_says_why():
    state = after(0.0, Observed(), Unseen("joint 1 was at 0 and at 2"), Enable(True))
    assert state.mode is Mode.INACTIVE
    assert "joint 1 was at 0 and at 2" in refusal(state, Enable(True))


@pytest.mark.parametrize(
    "other", [Heartbeat("a", 7), Heartbeat("a", 3), Heartbeat("a"), Command("a", True, 4), Command("a")]
)
def test_somebody_else_who_speaks_under_the_sessions_name_is_noticed_and_stops_the_arm(other):
    running = after(*READY, Heartbeat("a", 7), Command("a", True, 4))
    assert running.mode is Mode.ACTIVE
    stopped = after(other, state=running)
    assert stopped.mode is Mode.STOPPED
    assert stopped.reason.startswith("somebody else speaks as session a")


def test_numbers_may_skip_what_the_network_lost_but_another_that_runs_ahead_is_noticed_at_the_next_of_its_own():
    running = after(*READY, Heartbeat("a", 7), Heartbeat("a", 9), Command("a", True, 1))
    assert running.mode is Mode.ACTIVE
    assert after(Heartbeat("a", 10**6), Heartbeat("a", 10), state=running).mode is Mode.STOPPED


@pytest.mark.parametrize("event", [Command("b"), Reset("b")])
def test_a_second_publisher_stops_and_both_are_named(event):
    state = after(*RUNNING, event)
    what = type(event).__name__.lower()
    assert state.mode is Mode.STOPPED
    assert state.reason.startswith(f"second publisher of {what}s: a and b")


def test_another_ones_heartbeat_neither_stops_nor_keeps_alive():
    state = after(*RUNNING, 0.09, Heartbeat("b"), Command("a"), 0.18, Command("a"), Heartbeat("b"))
    assert state.mode is Mode.ACTIVE
    assert after(0.21, Heartbeat("b"), state=state).mode is Mode.STOPPED


def test_a_clock_jump_stops_what_is_active():
    assert "jumped by -2.500 s" in after(*RUNNING, ClockJump(-2.5)).reason
    assert after(*RUNNING, ClockJump(1.0)).mode is Mode.STOPPED
    assert after(Observed(), ClockJump(1.0)).mode is Mode.INACTIVE


def test_the_first_reason_stays_and_a_fault_outranks_a_stop():
    stopped = after(*RUNNING, Stop("button"), Stop("again"))
    assert (stopped.mode, stopped.reason) == (Mode.STOPPED, "button")
    failed = after(Failure("driver"), Stop("late"), state=stopped)
    assert (failed.mode, failed.reason) == (Mode.FAULT, "driver")


@pytest.mark.parametrize("cause", [Stop("button"), Failure("driver")])
def test_only_clearing_ends_a_stop_and_then_enabling_is_needed_again(cause):
    state = after(*RUNNING, cause)
    assert "publish on `clear` first" in refusal(state, Enable(True))
    for event in (Enable(True), Enable(False), Heartbeat("a"), Command("a"), Reset("a"), Observed(), Passed()):
        assert after(event, state=state).mode is state.mode
    cleared = after(Clear("ada"), state=state)
    assert (cleared.mode, cleared.reason) == (Mode.INACTIVE, "cleared by ada")
    assert after(Command("a"), state=cleared).mode is Mode.INACTIVE
    assert after(Observed(), Enable(True), state=cleared).mode is Mode.ACTIVE


def test_a_failed_driver_must_show_everything_again():
    state = after(*RUNNING, Failure("driver"), Observed(), Clear("ada"))
    assert after(Enable(True), state=state).mode is Mode.INACTIVE
    assert after(Observed(), Enable(True), state=state).mode is Mode.ACTIVE


def test_clearing_what_is_not_stopped_changes_nothing():
    assert after(*RUNNING, Clear("ada")) == after(*RUNNING)


def test_a_time_that_goes_back_counts_as_no_time():
    assert after(*READY, 5.0, Heartbeat("a"), 0.0, Passed(), 5.1, Passed()).mode is Mode.ACTIVE


@pytest.mark.parametrize("event", [Heartbeat(""), Command(""), Reset("")])
def test_who_speaks_must_say_who(event):
    assert "without a session" in refusal(after(*READY), event)


@pytest.mark.parametrize(
    "changes", [{"deadman_timeout_s": 0.0}, {"deadman_timeout_s": float("inf")}, {"watchdog_s": 0}]
)
def test_rules_that_never_or_always_stop_are_refused(changes):
    with pytest.raises(RobotRLError, match="wanted a time above 0"):
        ArmRules(**changes)


# Whatever happens

sessions = st.sampled_from(["a", "b", ""])
anything = st.one_of(
    st.sampled_from([Enable(True), Enable(False)]),
    st.builds(Heartbeat, sessions),
    st.builds(Command, sessions),
    st.builds(Reset, sessions),
    st.just(Stop("button")),
    st.just(Clear("ada")),
    st.just(Observed()),
    st.just(Failure("driver")),
    st.builds(ClockJump, st.floats(-10, 10)),
    st.just(Passed()),
)
happenings = st.lists(st.tuples(anything, st.floats(-0.5, 0.5)), max_size=60)
rules = st.builds(
    ArmRules,
    deadman=st.booleans(),
    deadman_timeout_s=st.sampled_from([0.05, 0.2]),
    watchdog_s=st.sampled_from([0.1, float("inf")]),
)


def history(events, rules):
    """States before and after each event, and the event."""
    state, now_s, told = ArmState(), 0.0, []
    for event, later_s in events:
        now_s += later_s
        before, state = state, advance(state, event, now_s, rules).state
        told.append((before, event, state, now_s))
    return told


@settings(max_examples=300, deadline=None)
@given(happenings, rules)
def test_motion_begins_only_with_an_act_of_enabling(events, rules):
    for before, event, state, _ in history(events, rules):
        if state.active and not before.active:
            assert event == Enable(True)
            assert before.mode is Mode.INACTIVE


@settings(max_examples=300, deadline=None)
@given(happenings, rules)
def test_clearing_is_the_only_way_out_of_a_stop_or_fault(events, rules):
    for before, event, state, _ in history(events, rules):
        if before.mode in LATCHED and state.mode not in LATCHED:
            assert isinstance(event, Clear)
            assert state.mode is Mode.INACTIVE
        if before.mode is Mode.FAULT and state.mode is Mode.STOPPED:
            pytest.fail("a fault became a mere stop")


@settings(max_examples=300, deadline=None)
@given(happenings, rules)
def test_after_a_latched_stop_no_sequence_without_clearing_ends_in_motion(events, rules):
    state = ArmState(mode=Mode.STOPPED, reason="button", ready=True)
    for event, _ in events:
        if not isinstance(event, Clear):
            state = advance(state, event, 0.0, rules).state
    assert state.mode in LATCHED


@settings(max_examples=300, deadline=None)
@given(happenings, rules)
def test_nobody_moves_an_arm_in_silence(events, rules):
    for _, _, state, _ in history(events, rules):
        if not state.active:
            assert (state.session, state.heartbeat_s, state.command_s) == ("", None, None)
            continue
        if rules.deadman and state.heartbeat_s is not None:
            assert state.now_s - state.heartbeat_s <= rules.deadman_timeout_s
        if state.command_s is not None:
            assert state.now_s - state.command_s <= rules.watchdog_s
            assert state.session
            assert state.heartbeat_s is not None or not rules.deadman


@settings(max_examples=300, deadline=None)
@given(happenings, rules)
def test_the_arm_changes_hands_only_through_rest(events, rules):
    for (_, _, one, _), (_, _, other, _) in itertools.pairwise(history(events, rules)):
        if one.active and other.active and one.session:
            assert other.session == one.session


@settings(max_examples=300, deadline=None)
@given(happenings, rules)
def test_every_mode_has_a_reason_and_every_refusal_says_why(events, rules):
    for before, event, state, now_s in history(events, rules):
        assert state.reason
        if isinstance(event, Enable) and event.on and not state.active:
            assert advance(before, event, now_s, rules).refusal
