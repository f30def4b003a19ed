"""A policy's own rollouts against those of the policy before it: the robot's veto on what the gate accepted.

The gate's transition model can be wrong where its data are thin: on peg-insert-side, learned from 100 demonstrations,
it put a policy that succeeded in 26 of 100 episodes above one that succeeded in 88. The rollouts that follow an update
are collected anyway, so they are read too. They can only take an update back, never prefer one: what the gate accepted
stays unless its rollouts succeed significantly less often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from robot_rl.types import Outcome


class OwnRollouts(NamedTuple):
    """What became of a policy's labelled rollouts."""

    successes: int
    episodes: int

    @classmethod
    def of(cls, outcomes: Mapping[str, int]) -> OwnRollouts:
        """From the number of episodes of each outcome; aborted ones say nothing."""
        successes, failures = outcomes.get(str(Outcome.SUCCESS), 0), outcomes.get(str(Outcome.FAILURE), 0)
        return cls(successes, successes + failures)

    def __str__(self) -> str:
        return f"{self.successes} of {self.episodes}"


def chance_of_so_few(before: OwnRollouts, after: OwnRollouts) -> float:
    """Fisher's exact test, one-sided: the chance of as few successes after, or fewer, if nothing had changed.

    Returns:
        A p-value; 1 where either has no episodes.
    """
    if not before.episodes or not after.episodes:
        return 1.0
    successes, episodes = before.successes + after.successes, before.episodes + after.episodes
    ways = math.comb(episodes, after.episodes)
    fewest = max(0, successes - before.episodes)
    chosen = sum(
        math.comb(successes, each) * math.comb(episodes - successes, after.episodes - each)
        for each in range(fewest, after.successes + 1)
    )
    return chosen / ways
