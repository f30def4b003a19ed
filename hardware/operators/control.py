"""Who drives: what operators wish for, and the one state machine of taking over, giving back and pausing.

A device gives deflections, which `Drive` makes actions of, and wishes, which `Control` heeds one a tick:

    away --asks--> asking --granted--> driving --asks, beside a policy--> away

Whether asking is granted at once or, as with a leader arm, once the device is where the robot is, is the device's to
say. Without a policy the first motion may take control unasked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.core.specs import FloatArray


class Wish(NamedTuple):
    """What an operator asks for besides moving.

    Attributes:
        event: What the episode's loop is asked for.
        outcome: The label that comes with it.
        guarded: Its key lies beside the motion keys, where a finger may hit it by mistake.
        take_over: Asks for control, or gives it back.
    """

    event: OperatorEvent = OperatorEvent.NONE
    outcome: Outcome | None = None
    guarded: bool = False
    take_over: bool = False

    def command(self, action: FloatArray | None) -> OperatorCommand:
        """The wish together with this tick's action, shape (A,), None while not driving."""
        return OperatorCommand(action, self.event, self.outcome)


WISHES: Mapping[str, Wish] = {
    "take_over": Wish(take_over=True),
    "success": Wish(OperatorEvent.END, Outcome.SUCCESS),
    "failure": Wish(OperatorEvent.END, Outcome.FAILURE),
    "end": Wish(OperatorEvent.END),
    "redo": Wish(OperatorEvent.REDO),
    "pause": Wish(OperatorEvent.PAUSE),
    "stop": Wish(OperatorEvent.STOP),
    "mark_success": Wish(outcome=Outcome.SUCCESS),
    "mark_failure": Wish(outcome=Outcome.FAILURE),
}
"""Everything that a key or a button can ask for."""


@dataclass
class Control:
    """Who drives an episode, and what was wished for; it is told of everything, reads no device and moves nothing.

    Attributes:
        correcting: A policy drives until the operator takes over, and again once they give back.
        starts_by_motion: Without a policy the first motion takes control, and asking for it does nothing.
        driving: The operator has control, also in a pause.
        asking: The operator wants control and does not have it yet.
        paused: The operator, or a lost device, asked for a pause.
        label: The last one given in this episode.
        applied: The last command that was executed; None before the first. Shape (A,).
        moved: The robot may have been moved since, as in a pause.
    """

    correcting: bool = False
    starts_by_motion: bool = True
    driving: bool = field(default=False, init=False)
    asking: bool = field(default=False, init=False)
    paused: bool = field(default=False, init=False)
    label: Outcome | None = field(default=None, init=False)
    applied: FloatArray | None = field(default=None, init=False)
    moved: bool = field(default=False, init=False)
    _waiting: deque[Wish] = field(default_factory=deque, init=False)

    def reset(self, wishes: Iterable[Wish] = ()) -> None:
        """A new episode: the last one and what was wished for since are forgotten, a wish to stop is not."""
        self.driving = self.asking = self.paused = self.moved = False
        self.label = self.applied = None
        self._waiting = deque(each for each in (*self._waiting, *wishes) if each.event is OperatorEvent.STOP)

    @property
    def needs_asking(self) -> bool:
        """Whether motion alone does not take control."""
        return self.correcting or not self.starts_by_motion

    def wish(self, wish: Wish) -> None:
        """Asks for control or gives it back at once; every other wish waits its turn."""
        if not wish.take_over:
            self._waiting.append(wish)
        elif not self.driving:
            self.asking = self.needs_asking and not self.asking
        elif self.correcting:
            self.driving = False

    def take(self) -> None:
        """The operator drives from now on."""
        self.driving, self.asking = True, False

    def next_wish(self, lost: bool = False) -> Wish:
        """The wish that is heeded at this tick; called once a tick.

        Args:
            lost: The device is: nothing goes on before it is found, and whoever drives is paused first.
        """
        if lost:
            self._waiting = deque(each for each in self._waiting if each.event is not OperatorEvent.PAUSE)
            if (self.driving or self.correcting) and not self.paused:
                self._waiting.appendleft(WISHES["pause"])
        wish = self._waiting.popleft() if self._waiting else Wish()
        self.label = wish.outcome or self.label
        if wish.event is OperatorEvent.PAUSE:
            self.paused = not self.paused
            self.moved = True
        return wish

    def see_applied(self, applied: FloatArray) -> None:
        """Told of every command that was executed, shape (A,); after one, a pause lies behind."""
        self.applied = applied
        self.moved = self.moved and self.paused
