"""An operator for SlotInsert2D who watches a batch of episodes and takes over where one goes wrong.

It stands in for a person in a correction session, as `hardware.operators.simulated.corrector` does on the simulated
arms: it sees the point move and nothing of the policy, needs time to react, and drives with a hand of its own, good or
bad.

    watching -> in doubt for longer than the reaction -> driving -> (a while) -> watching

Legend: `E` episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.slot_insert.robot import STEP_M, Flags, Floats, SlotTask

STANDOFF_M = 0.05
"""Kept from the wall until the point is in front of the slot."""
ALIGNED = 0.6
"""Share of the slot's half-width within which the operator dares to drive in."""


@dataclass(frozen=True)
class Skill:
    """How well the operator drives.

    Attributes:
        bias: Standard deviation over episodes of where it aims beside the slot's centre [m].
        noise: Standard deviation of its hand [0.1 m/tick].
    """

    bias: float
    noise: float


SKILLS = {"clean": Skill(0.0, 0.02), "mild": Skill(0.015, 0.08), "clumsy": Skill(0.06, 0.15)}
"""A clumsy operator is the demonstrator again."""


@dataclass(frozen=True)
class Attention:
    """When the operator steps in and for how long.

    It doubts a point close to the wall that is beside the slot and will be so at the wall, or that is late. With these
    defaults it takes over in about 0.55 of the episodes in which an imitation policy would touch the wall, and in 0.2
    of the others.

    Attributes:
        near_m: Distance to the wall from which it looks closely [m].
        margin_m: How far beside the slot's edge the point must be, now and where it is heading [m].
        window: Ticks over which it judges the heading, and after giving back waits with its judgement.
        reaction: Fewest and most ticks from the first doubt that stays to taking over.
        drive: Fewest ticks that it drives before it gives back, at the policy's next decision; None drives to the end.
        late: Tick from which an episode is in doubt whatever happens, and then driven to its end.
    """

    near_m: float = 0.4
    margin_m: float = 0.0
    window: int = 4
    reaction: tuple[int, int] = (0, 2)
    drive: int | None = 6
    late: int = 30


def steer(observation: Floats, bias: npt.NDArray[np.float64] | float, half_width: float) -> npt.NDArray[np.float64]:
    """Goes sideways to where it aims, waits before the wall until it is there, and then drives in.

    Args:
        observation: Shape (E, 4).
        bias: Added to the slot's centre [m]. Shape (E,).
        half_width: Of the slot [m].

    Returns:
        Actions [0.1 m/tick]. Shape (E, 2).
    """
    ahead, aside = observation[:, 0].astype(np.float64), observation[:, 1] + bias
    aligned = np.abs(aside) < ALIGNED * half_width
    approach = np.clip((ahead - STANDOFF_M) / STEP_M, -0.5, 0.6)
    # A point that is already in the slot cannot go sideways far enough to be worth backing out.
    forward = np.where(aligned | (ahead <= 0.0), 0.6, approach)
    return np.stack([forward, np.clip(aside / STEP_M * 0.5, -1.0, 1.0)], axis=1)


class SlotCorrector:
    """A `BatchOperator`; a function of its settings and the batch's seed.

    Args:
        skill: How well it drives.
        attention: When it does.
        task: Whose slot it looks at.
    """

    def __init__(self, skill: Skill, attention: Attention | None = None, task: SlotTask | None = None) -> None:
        self.skill, self.attention, self.task = skill, attention or Attention(), task or SlotTask()

    def begin(self, episodes: int, rows: int, seed: int) -> None:
        """Draws how quick and how precise the operator is in every episode."""
        self._rows = rows
        # Streams of their own: how quick the operator is must not depend on how it drives.
        shortest, longest = self.attention.reaction
        self._reaction = np.random.default_rng([seed, 5]).integers(shortest, longest + 1, episodes)
        self._bias = np.random.default_rng([seed, 6]).standard_normal(episodes) * self.skill.bias
        self._hand = np.random.default_rng([seed, 7])
        self._driving: Flags = np.zeros(episodes, dtype=bool)
        self._driven, self._doubted, self._watched = (np.zeros(episodes, dtype=np.int64) for _ in range(3))
        self._seen: list[Floats] = []

    def __call__(self, tick: int, observation: Floats, running: Flags) -> tuple[Flags, Floats]:
        """Which episodes the operator drives at this tick, and their actions."""
        self._give_back(tick)
        doubt = running & ~self._driving & self._doubts(tick, observation)
        self._doubted = np.where(doubt, self._doubted + 1, 0)
        self._driving = self._driving | (self._doubted > self._reaction)
        self._driven = np.where(self._driving, self._driven + 1, 0)
        self._watched = np.where(self._driving, 0, self._watched + 1)
        noise = self._hand.normal(0.0, self.skill.noise, (len(running), 2))
        action = steer(observation, self._bias, self.task.half_width) + noise
        return self._driving.copy(), action.astype(np.float32)

    def _give_back(self, tick: int) -> None:
        """At the policy's decisions only, so that it starts on a fresh chunk, as after a real takeover."""
        drive = self.attention.drive
        if drive is not None and tick % self._rows == 0 and tick < self.attention.late:
            self._driving = self._driving & (self._driven < drive)

    def _doubts(self, tick: int, observation: Floats) -> Flags:
        """Where the point is heading beside the slot, close to the wall, or is late. Shape (E,)."""
        seen = self._seen = [*self._seen, observation][-self.attention.window - 1 :]
        if tick >= self.attention.late:
            return np.ones(len(observation), dtype=bool)
        ahead, aside = observation[:, 0], observation[:, 1]
        # The distance to the wall falls by what the point moved forward, the offset by what it moved sideways.
        forward, sideways = (seen[0][:, :2] - observation[:, :2]).T
        still_to_go = np.divide(ahead, forward, out=np.zeros_like(ahead), where=forward > 0)
        # Who passes in front of the slot on the way can still stop there: that is no doubt yet.
        short_by = np.sign(aside) * (aside - sideways * still_to_go)
        beside = np.minimum(np.abs(aside), short_by) - self.task.half_width
        near = (ahead > 0) & (ahead < self.attention.near_m) & (forward > 0)
        doubts: Flags = near & (beside > self.attention.margin_m) & (self._watched >= self.attention.window)
        return doubts
