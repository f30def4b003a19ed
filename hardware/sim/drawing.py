"""Pictures of a MuJoCo scene without a window."""

from __future__ import annotations

import atexit
import importlib
import os
from typing import Any

import numpy as np
import numpy.typing as npt

FRAMEBUFFER_MAX_GEOMETRIES = 2000


class SceneDrawer:
    """Draws one model from its named cameras. Use it from one thread and close it.

    Args:
        model: `mujoco.MjModel`; its drawing options are simplified in place, its physics is not touched.
        data: The `mujoco.MjData` to draw; the drawer only reads it.
        height_px: Of every picture.
        width_px: Of every picture.
        backend: What `gl_backend` returned.
        show_sites: Whether to draw the model's markers, such as a goal's.
    """

    def __init__(
        self, model: Any, data: Any, height_px: int, width_px: int, *, backend: str, show_sites: bool = False
    ) -> None:
        os.environ["PYOPENGL_PLATFORM"] = backend
        import mujoco

        self._mujoco = mujoco
        self._model, self._data = model, data
        self._size_px = height_px, width_px
        _simplify(model)
        visual = model.vis.global_
        visual.offheight, visual.offwidth = max(visual.offheight, height_px), max(visual.offwidth, width_px)
        self._context = importlib.import_module(f"mujoco.{backend}").GLContext(width_px, height_px)
        self._context.make_current()
        self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)
        self._scene = mujoco.MjvScene(model, FRAMEBUFFER_MAX_GEOMETRIES)
        self._viewport = mujoco.MjrRect(0, 0, width_px, height_px)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = show_sites
        # Registered after the backend's own, hence run before it: a context freed later than its display complains.
        atexit.register(self.close)

    def draw(self, camera: str, upside_down: bool = False) -> npt.NDArray[np.uint8]:
        """The scene as a camera of the model sees it. Shape (height, width, 3), RGB, upright.

        Args:
            camera: Name in the model.
            upside_down: The model has this camera mounted head down; the picture is turned by 180 degrees.
        """
        self._render(camera)
        picture = np.empty((*self._size_px, 3), dtype=np.uint8)
        self._mujoco.mjr_readPixels(picture, None, self._viewport, self._renderer)
        # OpenGL's first row is the bottom one.
        return np.ascontiguousarray(picture[:, ::-1] if upside_down else picture[::-1])

    def draw_depth(self, camera: str) -> npt.NDArray[np.float32]:
        """How far away along the view everything is that a camera of the model sees [m]. Shape (height, width).

        Rows and columns follow the camera's own axes, however it is mounted, so that `pose` applies to them.
        """
        self._render(camera)
        buffer = np.empty(self._size_px, dtype=np.float32)
        self._mujoco.mjr_readPixels(None, buffer, self._viewport, self._renderer)
        near = self._model.vis.map.znear * self._model.stat.extent
        far = self._model.vis.map.zfar * self._model.stat.extent
        # The buffer holds (1/near - 1/z) / (1/near - 1/far); its 1 is the background, which has no depth.
        depth_m = near / (1.0 - buffer[::-1] * (1.0 - near / far))
        return np.where(buffer[::-1] < 1.0, depth_m, np.inf).astype(np.float32)

    def pose(self, camera: str) -> npt.NDArray[np.float64]:
        """Where a camera is in the world, as a depth image's frame has it: x right, y down, z ahead. Shape (4, 4)."""
        index = self._model.camera(camera).id
        pose = np.eye(4)
        # MuJoCo's cameras look along -z, with y up.
        pose[:3, :3] = self._data.cam_xmat[index].reshape(3, 3) * (1.0, -1.0, -1.0)
        pose[:3, 3] = self._data.cam_xpos[index]
        return pose

    def field_of_view_rad(self, camera: str) -> float:
        """Vertical."""
        return float(np.radians(self._model.camera(camera).fovy[0]))

    def close(self) -> None:
        """Frees the graphics memory; safe to call more than once."""
        atexit.unregister(self.close)
        if self._context is not None:
            self._renderer.free()
            self._context.free()
            self._context = None

    def _render(self, camera: str) -> None:
        mujoco = self._mujoco
        self._context.make_current()
        self._camera.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._renderer)


def _simplify(model: Any) -> None:
    """Leaves out what costs most in software: 121 ms a picture became 9 ms at 84 px. Only counts before a context."""
    model.light_castshadow[:] = 0
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.mat_reflectance[:] = 0
