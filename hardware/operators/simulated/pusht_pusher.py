"""A rough scripted operator for Push-T: walks around the block and pushes where a simple model says it helps most.

Rough means that half of its blocks stay short of the success threshold (100 seeds: 47 successes in 300 ticks, mean
largest reward 0.78) and that nothing in it looks human. It is there to exercise the whole path without recorded data;
train on human demonstrations instead.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorCommand

Points = npt.NDArray[np.float64]

GOAL_PX = np.array([256.0, 256.0])
GOAL_ANGLE = np.pi / 4
WINDOW_PX = 512.0
WALL_PX = 20.0
"""The pusher's centre keeps this far from the window's edge."""
PUSHER_RADIUS_PX = 15.0
STANDOFF_PX = 8.0
"""Gap between pusher and block before a push."""
MARGIN_PX = 3.0
"""Gap that is kept while walking around the block."""
GRID_PX = 16.0
"""Spacing of the places that a way around the block leads through."""

BLOCK_BOXES = np.array([[[-60.0, 0.0], [60.0, 30.0]], [[-15.0, 30.0], [15.0, 120.0]]])
"""The bar and the stem of the T in its frame, lower and upper corner [px]."""
OUTLINE = np.array([[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], dtype=float)
"""Corners of the T in its frame, in the order that has the inside on the left [px]."""
CENTRE = np.array([0.0, 45.0])
"""Centre of mass in the block's frame [px]."""
TURNING_RADIUS_PX = 55.0
"""Radius of gyration about the centre of mass: a push this far off centre turns as much as it shifts."""

PUSH_LENGTHS_PX = (4.0, 8.0, 16.0, 32.0)
"""Pushes that are compared; a short one may be best although a long one overshoots."""
PUSH_SPEED_PX = 12.0
"""How far inside the block the target lies while pushing."""
LEAST_GAIN_PX = 0.05
TRAVEL_COST = 0.01
WALK_TICKS, PUSH_TICKS = 40, 60
"""After so many ticks another contact is chosen."""


class Contacts(NamedTuple):
    """Points where the block can be pushed and the direction of the push, both shapes (M, 2)."""

    points: Points
    inward: Points


class Pose(NamedTuple):
    """The block: origin [px] and angle [rad]."""

    origin: Points
    angle: float

    def to_window(self, points: Points) -> Points:
        """Points of the block's frame in the window. Shapes (..., 2)."""
        return self.origin + points @ _rotation(self.angle).T

    def to_block(self, points: Points) -> Points:
        """Points of the window in the block's frame. Shapes (..., 2)."""
        return (points - self.origin) @ _rotation(self.angle)


class PushTPusher:
    """Drives the pusher of `PushTRobot` from its `state` stream alone."""

    drives_always = True
    """Beside a policy it would never let the policy drive."""

    name = "scripted:pusher"

    def __init__(self) -> None:
        self._contact: int | None = None
        self._pushing = False
        self._ticks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def reset(self, seed: int) -> None:
        """Forgets the last episode; nothing here is random."""
        self._contact = None

    def poll(self, observation: Observation) -> OperatorCommand:
        """The next target of the pusher; the judge or the clock ends the episode.

        Raises:
            RobotRLError: There is no stream `state` of five numbers.
        """
        pusher, block = _seen(observation)
        contacts = Contacts(block.to_window(CONTACTS.points), CONTACTS.inward @ _rotation(block.angle).T)
        if self._contact is None or self._finished(contacts, block):
            self._contact, self._pushing, self._ticks = _best_contact(pusher, contacts, block), False, 0
        self._ticks += 1
        point, inward = contacts.points[self._contact], contacts.inward[self._contact]
        self._pushing = self._pushing or _stands_at(pusher, point, inward)
        if self._pushing:
            target = point + inward * (PUSH_SPEED_PX - PUSHER_RADIUS_PX)
        else:
            target = _next_on_the_way(pusher, point - inward * (PUSHER_RADIUS_PX + STANDOFF_PX), block)
        return OperatorCommand(action=np.clip(target, 0.0, WINDOW_PX).astype(np.float32))

    def _finished(self, contacts: Contacts, block: Pose) -> bool:
        if not self._pushing:
            return self._ticks > WALK_TICKS
        gain = _gains(contacts, block, LEAST_GAIN_PX * 30)[self._contact]
        return bool(gain < LEAST_GAIN_PX) or self._ticks > PUSH_TICKS


def distance_from_goal_px(observation: Observation) -> float:
    """How far the block is from its outline, its turn counted at the radius of gyration [px]."""
    _, block = _seen(observation)
    missing = Pose(GOAL_PX, GOAL_ANGLE).to_window(CENTRE) - block.to_window(CENTRE)
    return float(_distance(missing, GOAL_ANGLE - block.angle))


def _seen(observation: Observation) -> tuple[Points, Pose]:
    """Where pusher and block are."""
    state = observation.values.get("state")
    if state is None or state.shape != (5,):
        raise RobotRLError("the scripted pusher needs Push-T's stream 'state' of shape (5,): use robot=pusht")
    return state[:2].astype(np.float64), Pose(state[2:4].astype(np.float64), float(state[4]))


def _gains(contacts: Contacts, block: Pose, push_px: float) -> npt.NDArray[np.float64]:
    """How much nearer to its outline the block gets by a push at every contact [px]. Shape (M,).

    The block rests unless pushed, so a push of length s moves the centre of mass by s' along it and turns the block by
    s' t / R^2, with lever arm t, radius of gyration R and s' = s / (1 + t^2 / R^2), since the contact itself moves s.
    """
    centre = block.to_window(CENTRE)
    arms = contacts.points - centre
    lever_px = arms[:, 0] * contacts.inward[:, 1] - arms[:, 1] * contacts.inward[:, 0]
    shift_px = push_px / (1.0 + (lever_px / TURNING_RADIUS_PX) ** 2)
    turned = lever_px * shift_px / TURNING_RADIUS_PX**2
    missing = Pose(GOAL_PX, GOAL_ANGLE).to_window(CENTRE) - centre
    after = _distance(missing - contacts.inward * shift_px[:, None], GOAL_ANGLE - block.angle - turned)
    gains: npt.NDArray[np.float64] = _distance(missing, GOAL_ANGLE - block.angle) - after
    return gains


def _best_contact(pusher: Points, contacts: Contacts, block: Pose) -> int:
    """The reachable contact whose best push gains most, less the way there."""
    stand = contacts.points - contacts.inward * (PUSHER_RADIUS_PX + STANDOFF_PX)
    gains = np.max([_gains(contacts, block, push_px) for push_px in PUSH_LENGTHS_PX], axis=0)
    scores = gains - TRAVEL_COST * np.linalg.norm(stand - pusher, axis=1)
    return int(np.argmax(np.where(_in_window(stand), scores, -np.inf)))


def _stands_at(pusher: Points, point: Points, inward: Points) -> bool:
    """Whether the pusher is in front of a contact, near enough to push straight."""
    away = pusher - point
    aside_px = abs(away[0] * inward[1] - away[1] * inward[0])
    return bool(aside_px < 6.0 and -(away @ inward) < PUSHER_RADIUS_PX + 2 * STANDOFF_PX)


def _next_on_the_way(pusher: Points, goal: Points, block: Pose) -> Points:
    """The furthest place in sight on a shortest way that does not touch the block."""
    if _sees(pusher, goal, block):
        return goal
    count = int(WINDOW_PX / GRID_PX)
    along = (np.arange(count, dtype=np.float64) + 0.5) * GRID_PX
    places = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1)
    free = _is_free(places, block)
    here, there = (_nearest(places, free, each) for each in (pusher, goal))
    came_from = {there: there}
    queue = deque([there])
    while queue and here not in came_from:
        row, column = queue.popleft()
        for step in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if min(step) >= 0 and max(step) < count and free[step] and step not in came_from:
                came_from[step] = (row, column)
                queue.append(step)
    if here not in came_from:
        return goal
    reached = here
    while reached != there and _sees(pusher, places[came_from[reached]], block):
        reached = came_from[reached]
    place: Points = places[reached]
    return place


def _nearest(places: Points, free: npt.NDArray[np.bool_], point: Points) -> tuple[int, int]:
    away = np.where(free, np.linalg.norm(places - point, axis=-1), np.inf)
    row, column = np.unravel_index(int(np.argmin(away)), away.shape)
    return int(row), int(column)


def _sees(start: Points, end: Points, block: Pose) -> bool:
    """Whether the straight way from start to end neither touches the block nor leaves the window."""
    way = np.linspace(start, end, 16)[1:]
    return bool(_is_free(way, block).all())


def _is_free(places: Points, block: Pose) -> npt.NDArray[np.bool_]:
    """Where the pusher's centre touches neither block nor wall. Shapes (..., 2) and (...)."""
    clear = _gap(block.to_block(places)) > PUSHER_RADIUS_PX + MARGIN_PX
    return np.logical_and(clear, _in_window(places))


def _gap(points: Points) -> npt.NDArray[np.float64]:
    """Distance from points of the block's frame to the block, 0 inside. Shapes (..., 2) and (...)."""
    outside = [np.maximum(np.maximum(low - points, points - high), 0.0) for low, high in BLOCK_BOXES]
    gaps: npt.NDArray[np.float64] = np.min([np.linalg.norm(each, axis=-1) for each in outside], axis=0)
    return gaps


def _in_window(points: Points) -> npt.NDArray[np.bool_]:
    low, high = points.min(axis=-1), points.max(axis=-1)
    inside: npt.NDArray[np.bool_] = np.logical_and(low > WALL_PX, high < WINDOW_PX - WALL_PX)
    return inside


def _distance(offset_px: Points, angle: npt.ArrayLike) -> npt.NDArray[np.float64]:
    wrapped = (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi
    distance: npt.NDArray[np.float64] = np.hypot(np.linalg.norm(offset_px, axis=-1), TURNING_RADIUS_PX * wrapped)
    return distance


def _rotation(angle: float) -> Points:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _all_contacts(spacing_px: float = 10.0, corner_px: float = 6.0) -> Contacts:
    """Contacts along the outline, away from corners, in front of which the pusher has room to stand."""
    points, inward = [], []
    for start, end in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        length_px = float(np.linalg.norm(end - start))
        along = (end - start) / length_px
        for distance_px in np.arange(corner_px, length_px - corner_px + 0.1, spacing_px):
            points.append(start + along * distance_px)
            inward.append(np.array([-along[1], along[0]]))
    everywhere = Contacts(np.array(points), np.array(inward))
    stand = everywhere.points - everywhere.inward * (PUSHER_RADIUS_PX + STANDOFF_PX)
    room = _gap(stand) > PUSHER_RADIUS_PX + MARGIN_PX
    return Contacts(everywhere.points[room], everywhere.inward[room])


CONTACTS = _all_contacts()
"""Block frame."""
