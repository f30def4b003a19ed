"""Push-T: a round pusher moves a T-shaped block onto its outline, as in Diffusion Policy's human demonstrations.

Physics and reward are gym-pusht's. Streams, units and the order of the nine keypoints are those of the published
human data, so that a policy trained on it can be run here.
"""

from __future__ import annotations

import math
import os
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import ActionKind, AnyArray, ArraySpec, FloatArray, RobotSpec

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
from gym_pusht.envs.pusht import PushTEnv

CONTROL_HZ = 10.0
WINDOW_PX = 512.0
IMAGE_PX = 96
PHYSICS_STEPS = 10
"""Physics steps per tick; contacts are averaged over them."""

KEYPOINTS_IN_BLOCK = np.array(
    [
        [9.26978, 90.04097],
        [-60.98347, -1.18673],
        [60.91276, -1.39336],
        [-0.27050, 25.54363],
        [-14.06493, 122.81585],
        [39.00274, 32.85740],
        [-39.96641, 32.72966],
        [-16.82434, 62.86318],
        [23.54146, -1.70029],
    ]
)
"""The nine keypoints in the block's frame [px], recovered from the human data; see `block_keypoints`."""

_OBSERVATIONS = {
    "state": ArraySpec(
        shape=(5,),
        dtype="float32",
        unit="px,px,px,px,rad",
        names=("pusher_x", "pusher_y", "block_x", "block_y", "block_angle"),
    ),
    "keypoint": ArraySpec(shape=(9, 2), dtype="float32", unit="px"),
    "n_contacts": ArraySpec(shape=(1,), dtype="float32", unit="1", low=0.0),
}
_IMAGE = ArraySpec(shape=(IMAGE_PX, IMAGE_PX, 3), dtype="uint8", unit="rgb")
_ACTION = ArraySpec(shape=(2,), dtype="float32", unit="px", low=0.0, high=WINDOW_PX)


def block_keypoints(x: float, y: float, angle: float) -> npt.NDArray[np.float32]:
    """Where the nine keypoints are for a block pose [px, px, rad]. Shape (9, 2) [px].

    The local coordinates are the median over the 25,650 human steps of the recorded keypoints moved into the recorded
    block frame; away from contact they agree with the recording to 2e-5 px.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    turned = KEYPOINTS_IN_BLOCK @ np.array([[cos, sin], [-sin, cos]])
    keypoints: npt.NDArray[np.float64] = turned + np.array([x, y])
    return keypoints.astype(np.float32)


def initial_state(seed: int) -> npt.NDArray[np.float64]:
    """Pusher x, y, block x, y [px] and angle [rad] for a seed. Shape (5,).

    These are the draws of Diffusion Policy's evaluation, so its published seeds (100000 and up) start here as there.
    """
    generator = np.random.RandomState(seed)
    pusher = generator.randint(50, 450), generator.randint(50, 450)
    block = generator.randint(100, 400), generator.randint(100, 400)
    return np.array([*pusher, *block, generator.randn() * 2 * np.pi - np.pi])


class PushTRobot:
    """Push-T as a `Robot` and its own `Judge`; time stands still between two calls of `apply`.

    Streams: `state` (5,) pusher x, y, block x, y [px], block angle in [0, 2 pi) [rad]; `keypoint` (9, 2) [px];
    `n_contacts` (1,) mean contact points per physics step, rounded up; `image` (96, 96, 3) if asked for.
    Actions (2,): where the pusher should go [px].

    Args:
        image: Whether to draw the scene at every `observe`.
    """

    simulated_time = True

    def __init__(self, image: bool = False) -> None:
        observations = dict(_OBSERVATIONS)
        if image:
            observations["image"] = _IMAGE
        self.spec = RobotSpec(
            name="pusht",
            observations=observations,
            action=_ACTION,
            action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
            control_hz=CONTROL_HZ,
        )
        self._environment = PushTEnv()
        self._image: npt.NDArray[np.uint8] | None = None
        self._ready = False
        self._judgement = Judgement(reward=0.0, success=False, done=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reset(self, seed: int) -> None:
        """Draws the start of an episode; the same for the same seed, whatever happened before."""
        self._environment.reset(options={"reset_to_state": initial_state(seed)})
        self._begin()

    def reset_to(self, state: npt.ArrayLike) -> None:
        """Starts an episode at exactly a recorded `state`, everything at rest. Shape (5,)."""
        pusher_x, pusher_y, block_x, block_y, block_angle = np.asarray(state, dtype=np.float64).tolist()
        environment = self._environment
        environment.reset(options={"reset_to_state": initial_state(0)})
        # The angle turns the block about its centre of mass and so moves its origin: position comes last.
        environment.block.angle = block_angle
        environment.block.position = block_x, block_y
        environment.block.velocity, environment.block.angular_velocity = (0.0, 0.0), 0.0
        environment.agent.position = pusher_x, pusher_y
        environment.agent.velocity = 0.0, 0.0
        # pymunk draws and collides shapes where they were last indexed, not where their body is.
        environment.space.reindex_shapes_for_body(environment.block)
        environment.space.reindex_shapes_for_body(environment.agent)
        self._begin()

    def _begin(self) -> None:
        self._image = None
        self._ready = True
        self._judgement = Judgement(reward=0.0, success=False, done=False)

    def observe(self, tick_ns: int) -> Observation:
        """Every stream as it is now, hence of age 0.

        Raises:
            StaleSensor: Before the first `reset`.
        """
        if not self._ready:
            raise StaleSensor("Push-T has nothing to show before the first reset: call reset(seed) first")
        pusher, block = self._environment.agent, self._environment.block
        angle = block.angle % (2 * math.pi)
        contacts = math.ceil(self._environment.n_contact_points / PHYSICS_STEPS)
        values: dict[str, AnyArray] = {
            "state": np.array([*pusher.position, *block.position, angle], dtype=np.float32),
            "keypoint": block_keypoints(block.position.x, block.position.y, angle),
            "n_contacts": np.array([contacts], dtype=np.float32),
        }
        if "image" in self.spec.observations:
            values["image"] = self.picture()
        return Observation(tick_ns, values, dict.fromkeys(values, 0))

    def apply(self, action: FloatArray) -> FloatArray:
        """Pulls the pusher towards a point for one tick and returns the point, kept inside the window.

        Raises:
            RobotRLError: The action is unusable or nothing was reset.
        """
        requested = np.asarray(action, dtype=np.float32)
        problem = self.spec.action.problem_with(requested)
        if problem:
            raise RobotRLError(f"Push-T cannot execute the action: {problem}")
        if not self._ready:
            raise RobotRLError("Push-T cannot move before the first reset: call reset(seed) first")
        applied = np.clip(requested, 0.0, WINDOW_PX)
        _, reward, success, _, _ = self._environment.step(applied.astype(np.float64))
        self._image = None
        self._judgement = Judgement(reward=float(reward), success=bool(success), done=bool(success))
        return applied

    def judge(self) -> Judgement:
        """Covered share of the outline over 0.95, at most 1; success is a share above 0.95."""
        return self._judgement

    def picture(self) -> npt.NDArray[np.uint8]:
        """What a bystander sees, for films and screens. Shape (96, 96, 3)."""
        if self._image is None:
            self._image = self._environment._render()
        return self._image.copy()

    def stop(self) -> None:
        """Nothing moves between ticks, so there is nothing to halt."""
