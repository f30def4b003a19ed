"""What an arm node says about itself: its mode, the episode, and why something was refused last."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from hardware.arm.mail import ArmCounters, Outlet
from hardware.arm.messages import ArmMode
from hardware.arm.state import LATCHED, ArmRules, ArmState, Command, Event, Heartbeat, Mode, advance
from robot_rl.core.specs import NS_PER_S

REFUSED_ROWS_EVERY_S = 1.0
"""Refused rows are told at most this often; all are counted."""


class ModeKeeper:
    """Keeps an arm's mode, says what has become of it, and counts stops and refusals.

    Args:
        rules: How patient the arm is.
        about: What is said besides the mode.
        outlet: Where it is said.
        counters: For diagnostics.

    Attributes:
        state: The present mode and its reason.
        when_changed: Called with every new mode's predecessor and the time, monotonic [ns].
    """

    def __init__(self, rules: ArmRules, about: ArmMode, outlet: Outlet, counters: ArmCounters) -> None:
        self.state = ArmState()
        self.when_changed: Callable[[Mode, int], None] = lambda before, now_ns: None
        self._rules, self._about, self._outlet, self._counters = rules, about, outlet, counters
        self._told: ArmMode | None = None
        self._row_refused_at_ns: int | None = None

    @property
    def refusal(self) -> str:
        """Why something was refused last; empty if nothing was since the last enabling or reset."""
        return self._about.refusal

    def happened(self, event: Event, now_ns: int) -> bool:
        """Advances the mode. Returns whether the event was heeded.

        Args:
            event: What happened.
            now_ns: When, monotonic [ns].
        """
        before = self.state.mode
        self.state, refusal = advance(self.state, event, now_ns / NS_PER_S, self._rules)
        if self.state.mode is not before:
            self._changed(before, now_ns)
        if refusal:
            if isinstance(event, Command):
                self.refuse_row(refusal, now_ns)
            elif not isinstance(event, Heartbeat):
                self.refuse(refusal)
        return not refusal

    def _changed(self, before: Mode, now_ns: int) -> None:
        if self.state.mode in LATCHED:
            self._counters.stops[re.split(r" from | for | by |:", self.state.reason)[0]] += 1
        if self.state.active:
            self._about = dataclasses.replace(self._about, refusal="")
        self.when_changed(before, now_ns)

    def refuse(self, why: str) -> None:
        """Counts a refusal, and tells it with the next `tell`."""
        self._counters.refused[why.split(":")[0]] += 1
        self._about = dataclasses.replace(self._about, refusal=why)

    def refuse_row(self, why: str, now_ns: int) -> None:
        """The same for rows, of which many may be refused in a row."""
        told_ns = self._row_refused_at_ns
        if told_ns is None or now_ns - told_ns >= REFUSED_ROWS_EVERY_S * NS_PER_S:
            self._row_refused_at_ns = now_ns
            self.refuse(why)
        else:
            self._counters.refused[why.split(":")[0]] += 1

    def begun(self, seed: int) -> None:
        """Another episode has begun."""
        self._about = dataclasses.replace(self._about, episode=self._about.episode + 1, seed=seed, refusal="")

    def tell(self) -> None:
        """Says what has changed since the last time, if anything has."""
        state = self.state
        mode = dataclasses.replace(self._about, mode=state.mode, reason=state.reason, session=state.session)
        if mode != self._told:
            self._told = mode
            self._outlet.tell(mode)
