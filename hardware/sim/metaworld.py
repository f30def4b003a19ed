"""Meta-World v3: fifty table-top tasks of a Sawyer arm in MuJoCo, as a robot that judges itself.

The environments are the goal-observable ones with a fresh random layout per seed: the goal is part of
`environment_state`, and `reset(seed)` draws object and goal positions from that seed alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hardware.point_cloud import PinholeCamera, Workspace, points_from_depth, sample_cloud
from hardware.sim.drawing import SceneDrawer
from hardware.sim.gl import gl_backend, import_physics, require_gl
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import ActionKind, AnyArray, ArraySpec, FloatArray, RobotSpec

CONTROL_HZ = 80.0
STEPS_LIMIT = 500
"""Meta-World refuses to be stepped further than this in one episode."""
PICTURE_PX = 240
DEPTH_PX = 128
"""Height and width of the depth image that points are made of."""
DEPTH_CAMERA = "corner"
WORKSPACE = Workspace((-0.5, 0.3, 0.005), (0.5, 0.95, 0.45))
"""Objects and gripper without the table top, which would take two thirds of the points, and the wall around it [m]."""
POINTS = "points"
HAND_SIZE = 4
"""Leading entries of the 39-vector that are the robot's own: hand position and gripper opening."""


class CameraMount(NamedTuple):
    """A camera of Meta-World's models: its name there, and whether it hangs head down."""

    name: str
    upside_down: bool


CAMERAS = {
    # The view that published image policies on Meta-World use: it sees table, objects and the whole arm.
    "corner": CameraMount("corner4", upside_down=True),
    "gripper": CameraMount("gripperPOV", upside_down=False),
}

_ACTION = ArraySpec(
    shape=(4,),
    dtype="float32",
    unit="cm/tick,cm/tick,cm/tick,1",
    low=-1.0,
    high=1.0,
    names=("x", "y", "z", "gripper"),
)
_STATE = ArraySpec(shape=(4,), dtype="float32", unit="m,m,m,1", names=("hand_x", "hand_y", "hand_z", "gripper_opening"))
_ENVIRONMENT_STATE = ArraySpec(shape=(35,), dtype="float32", unit="m or quaternion")


def task_names() -> tuple[str, ...]:
    """Names of the fifty tasks, for example `peg-insert-side-v3`."""
    return tuple(_environment_classes())


def require_task(task: str) -> None:
    """Refuses a task that Meta-World does not have.

    Raises:
        RobotRLError: Names the closest matches.
    """
    names = task_names()
    if task in names:
        return
    close = difflib.get_close_matches(task, names, n=3, cutoff=0.4) or names
    raise RobotRLError(f"Meta-World has no task '{task}'; did you mean {', '.join(close)}? (set task.name)")


def _environment_classes() -> dict[str, Any]:
    classes = import_physics("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    return {name.removesuffix("-goal-observable"): each for name, each in classes.items()}


class MetaWorldRobot:
    """One Meta-World task as a `Robot` and its own `Judge`; time stands still between two calls of `apply`.

    Streams: `state` (4,) hand x, y, z [m] and gripper opening in [0, 1]; `environment_state` (35,) the rest of
    Meta-World's 39 numbers: two object poses, the previous tick's 18 numbers, the goal; `image_<camera>` (height,
    width, 3); `points` (P, 3) what a depth camera beside the table sees in `WORKSPACE` [m]. Actions (4,): hand
    displacement [cm/tick] in x, y, z and gripper effort, 1 closes.

    Args:
        task: One of `task_names()`.
        cameras: Any of `CAMERAS`; drawing needs OpenGL, everything else does not.
        image_size: Height and width [px].
        show_goal: Draws the goal's marker, which is no part of the scene. Reaching, pushing and pick-and-place have
            no other visible goal, so a policy that sees only images needs it there.
        points: Number of points `P` of the stream `points`, from drawn depth; 0 for no such stream.

    Raises:
        RobotRLError: A task or camera that does not exist, or cameras or points where there is no OpenGL.
    """

    simulated_time = True
    landmarks_box = ((-0.55, 0.35, 0.0), (0.35, 1.0, 0.45))
    """Lowest and highest corner of the space around the table in which `landmarks` move [m]."""

    def __init__(
        self,
        task: str = "peg-insert-side-v3",
        cameras: Sequence[str] = (),
        image_size: Sequence[int] = (84, 84),
        show_goal: bool = False,
        points: int = 0,
    ) -> None:
        require_task(task)
        self.task = task
        self.spec = _spec(cameras, image_size, points)
        self._cameras = {f"image_{camera}": CAMERAS[camera] for camera in cameras}
        self._show_goal = show_goal
        self._gl = require_gl() if cameras or points else ""
        # With a seed the constructor leaves numpy's global generator as it found it.
        self._environment = _environment_classes()[task](seed=0)
        self._environment._freeze_rand_vec = False
        self._environment.seeded_rand_vec = True
        self._drawer: SceneDrawer | None = None
        self._bystander: SceneDrawer | None = None
        self._depth: SceneDrawer | None = None
        self._seen: npt.NDArray[np.float32] | None = None
        self._pictures: dict[str, npt.NDArray[np.uint8]] = {}
        self._cloud: npt.NDArray[np.float32] | None = None
        self._judgement = Judgement(reward=0.0, success=False, done=False)
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for drawer in (self._drawer, self._bystander, self._depth):
            if drawer is not None:
                drawer.close()
        self._drawer = self._bystander = self._depth = None

    def reset(self, seed: int) -> None:
        """Lays the task out anew; the same for the same seed, whatever happened before."""
        environment = self._environment
        environment.seed(seed)
        environment.reset()
        self._see(_fresh_observation(environment))
        self._judgement = Judgement(reward=0.0, success=False, done=False)
        self._steps = 0

    def observe(self, tick_ns: int) -> Observation:
        """Every stream as it is now, hence of age 0.

        Raises:
            StaleSensor: Before the first `reset`, or no point of the workspace is in sight.
        """
        if self._seen is None:
            raise StaleSensor("Meta-World has nothing to show before the first reset: call reset(seed) first")
        values: dict[str, AnyArray] = {
            "state": self._seen[:HAND_SIZE].copy(),
            "environment_state": self._seen[HAND_SIZE:].copy(),
        }
        for stream in self._cameras:
            values[stream] = self._picture(stream).copy()
        if POINTS in self.spec.observations:
            values[POINTS] = self._points().copy()
        return Observation(tick_ns, values, dict.fromkeys(values, 0))

    def apply(self, action: FloatArray) -> FloatArray:
        """Moves for one tick and returns the displacement commanded once bounds and workspace had clipped it.

        Raises:
            RobotRLError: The action is unusable, nothing was reset, or the episode has had its 500 ticks.
        """
        requested = np.asarray(action, dtype=np.float32)
        problem = self.spec.action.problem_with(requested)
        if problem:
            raise RobotRLError(f"Meta-World cannot execute the action: {problem}")
        if self._seen is None:
            raise RobotRLError("Meta-World cannot move before the first reset: call reset(seed) first")
        if self._steps >= STEPS_LIMIT:
            raise RobotRLError(
                f"Meta-World ends an episode after {STEPS_LIMIT} ticks: reset, or lower task.max_ticks to {STEPS_LIMIT}"
            )
        clipped = np.clip(requested, -1.0, 1.0)
        applied = self._within_workspace(clipped)
        observed, reward, _, _, info = self._environment.step(clipped)
        self._steps += 1
        self._see(observed)
        success = bool(info["success"])
        self._judgement = Judgement(reward=float(reward), success=success, done=success)
        return applied

    def judge(self) -> Judgement:
        """Meta-World's own reward (0 to 10) and success for the state the last action led to."""
        return self._judgement

    def stop(self) -> None:
        """Nothing moves between ticks, so there is nothing to halt."""

    def picture(self) -> npt.NDArray[np.uint8] | None:
        """What a bystander sees, for films and screens, with the goal marked; None where there is no OpenGL."""
        if self._bystander is None:
            backend = gl_backend()
            if backend is None:
                return None
            model, data = self._environment.model, self._environment.data
            self._bystander = SceneDrawer(model, data, PICTURE_PX, PICTURE_PX, backend=backend, show_sites=True)
        return self._bystander.draw(*CAMERAS["corner"])

    def landmarks(self) -> dict[str, npt.NDArray[np.float32]]:
        """Where hand, object and goal are, to draw an episode without OpenGL [m]. Shapes (3,)."""
        if self._seen is None:
            raise StaleSensor("Meta-World has nothing to show before the first reset: call reset(seed) first")
        return {"hand": self._seen[:3], "object": self._seen[HAND_SIZE : HAND_SIZE + 3], "goal": self._seen[-3:]}

    def _see(self, observed: npt.NDArray[np.float64]) -> None:
        self._seen = observed.astype(np.float32)
        self._pictures.clear()
        self._cloud = None

    def _picture(self, stream: str) -> npt.NDArray[np.uint8]:
        """A camera's picture of the present state, drawn once."""
        if stream not in self._pictures:
            if self._drawer is None:
                height_px, width_px, _ = self.spec.observations[stream].shape
                model, data = self._environment.model, self._environment.data
                self._drawer = SceneDrawer(
                    model, data, height_px, width_px, backend=self._gl, show_sites=self._show_goal
                )
            self._pictures[stream] = self._drawer.draw(*self._cameras[stream])
        return self._pictures[stream]

    def _points(self) -> npt.NDArray[np.float32]:
        """The present state's point cloud, made once; the robot's base stands at the world's origin."""
        if self._cloud is None:
            if self._depth is None:
                model, data = self._environment.model, self._environment.data
                self._depth = SceneDrawer(model, data, DEPTH_PX, DEPTH_PX, backend=self._gl)
            camera = CAMERAS[DEPTH_CAMERA].name
            intrinsics = PinholeCamera.from_field_of_view(self._depth.field_of_view_rad(camera), DEPTH_PX, DEPTH_PX)
            seen = points_from_depth(self._depth.draw_depth(camera), intrinsics, self._depth.pose(camera))
            count = self.spec.observations[POINTS].shape[0]
            self._cloud = sample_cloud(seen, WORKSPACE, count, POINTS)
        return self._cloud

    def _within_workspace(self, action: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What is left of an action once the commanded hand position is kept inside the task's workspace."""
        environment = self._environment
        position = environment.data.mocap_pos[0]
        wanted = position + action[:3] * environment.action_scale
        reached = np.clip(wanted, environment.mocap_low, environment.mocap_high)
        applied = action.copy()
        blocked = reached != wanted
        applied[:3][blocked] = ((reached - position) / environment.action_scale)[blocked]
        return np.clip(applied, -1.0, 1.0)


def _spec(cameras: Sequence[str], image_size: Sequence[int], points: int) -> RobotSpec:
    if points < 0:
        raise RobotRLError(f"robot.points is {points}, wanted a number of points, for example 512, or 0 for none")
    for camera in cameras:
        if camera not in CAMERAS:
            raise RobotRLError(f"Meta-World has no camera '{camera}': robot.cameras takes {', '.join(CAMERAS)}")
    height_px, width_px = image_size
    image = ArraySpec(shape=(height_px, width_px, 3), dtype="uint8", unit="rgb")
    return RobotSpec(
        name="metaworld",
        observations={
            "state": _STATE,
            "environment_state": _ENVIRONMENT_STATE,
            **{f"image_{camera}": image for camera in cameras},
            **({POINTS: ArraySpec((points, 3), "float32", "m xyz")} if points else {}),
        },
        action=_ACTION,
        action_kinds=(ActionKind.RATE, ActionKind.RATE, ActionKind.RATE, ActionKind.POSITION),
        control_hz=CONTROL_HZ,
    )


def _fresh_observation(environment: Any) -> npt.NDArray[np.float64]:
    """The 39 numbers after a reset, as the scene really is.

    Seven tasks (drawers, windows, the dial, the lever) place their object after Meta-World last computed positions: the
    observation that its `reset` returns, and a picture taken then, show the object up to 0.2 m from where it is.
    """
    import mujoco

    mujoco.mj_kinematics(environment.model, environment.data)
    for site, position in environment._target_site_config:
        environment._set_pos_site(site, position)
    environment._prev_obs = environment._get_curr_obs_combined_no_goal()
    space = environment.sawyer_observation_space
    observed: npt.NDArray[np.float64] = np.clip(environment._get_obs(), space.low, space.high)
    return observed
