"""The best policy of an online run so far, to go back to when updates have made it worse.

Online updates follow noisy advantages: near perfect success there is hardly anything to tell apart, and a run on
peg-insert-side went from 0.98 to 0.62 within three of them. Each batch of episodes shows how good the policy was that
drove it, so a batch that is significantly worse than the best one's ends the excursion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_rl.core.confidence import OwnRollouts, chance_of_so_few, wilson_interval


class BestSoFar:
    """What the best policy's own episodes were, and how to be it again.

    Best is the highest lower end of the 95 % Wilson interval: one lucky small batch does not make it.

    Attributes:
        own: Its episodes; None before the first batch.
        state: Of the learner before it learned from them.
        is_acting: Whether it is the policy that acts now, so that the next batch is its own too.
    """

    def __init__(self) -> None:
        self.own: OwnRollouts | None = None
        self.state: Mapping[str, Any] = {}
        self.is_acting = False

    def has_fallen(self, batch: OwnRollouts, level: float) -> bool:
        """Whether the policy of a batch is worse than the best, at a significance level."""
        if self.own is None or self.is_acting:
            return False
        return chance_of_so_few(self.own, batch) < level

    def note(self, batch: OwnRollouts, state: Mapping[str, Any]) -> None:
        """Takes in a batch that has not fallen; `state` is the learner's as it drove the batch."""
        if self.is_acting and self.own is not None:
            batch = OwnRollouts(self.own.successes + batch.successes, self.own.episodes + batch.episodes)
        elif self.own is not None and wilson_interval(*batch).low <= wilson_interval(*self.own).low:
            return
        self.own, self.state, self.is_acting = batch, state, False

    def go_back(self) -> Mapping[str, Any]:
        """The state to go back to; the best policy acts from now on."""
        self.is_acting = True
        return self.state

    def document(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"own": None if self.own is None else tuple(self.own), "state": self.state, "is_acting": self.is_acting}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> BestSoFar:
        """What `document` gave."""
        best = cls()
        best.own = None if document["own"] is None else OwnRollouts(*document["own"])
        best.state, best.is_acting = document["state"], bool(document["is_acting"])
        return best
