"""Which off-screen OpenGL this machine offers; importing this module loads no graphics library."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from types import ModuleType

from robot_rl.core.errors import RobotRLError

GL_BACKENDS = ("egl", "osmesa")
"""In order of preference: EGL uses a GPU where there is one, OSMesa always draws in software."""

GL_REMEDY = "sudo apt install libegl1 libopengl0 libgl1-mesa-dri (or, to draw in software only, libosmesa6)"

_PROBE_TIMEOUT_S = 60.0
# A real context and a real model: a library can be present and still have no driver to draw with.
_PROBE = """
import mujoco
from mujoco.{backend} import GLContext
context = GLContext(8, 8)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_150).free()
context.free()
"""


@functools.cache
def gl_backend() -> str | None:
    """The off-screen OpenGL that works here, `egl` or `osmesa`, or None.

    `MUJOCO_GL=egl|osmesa` restricts the choice. Each candidate is tried in a process of its own, because a failed
    attempt cannot be undone in this one and some drivers crash.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    candidates = [asked] if asked in GL_BACKENDS else GL_BACKENDS
    return next((backend for backend in candidates if _draws(backend)), None)


def require_gl() -> str:
    """The off-screen OpenGL that works here.

    Raises:
        RobotRLError: There is none; names the Debian packages.
    """
    backend = gl_backend()
    if backend is None:
        asked = os.environ.get("MUJOCO_GL")
        where = f"with MUJOCO_GL={asked}" if asked else "neither EGL nor OSMesa"
        raise RobotRLError(
            f"no OpenGL to draw simulated cameras ({where}): {GL_REMEDY}; without cameras everything else works"
        )
    return backend


def import_physics(module: str) -> ModuleType:
    """A module that imports mujoco, imported even where `MUJOCO_GL` names a backend that this machine lacks.

    mujoco loads that backend while it is imported, and fails, although stepping a simulation needs none.
    """
    try:
        return importlib.import_module(module)
    except (AttributeError, ImportError):
        asked = os.environ.get("MUJOCO_GL", "")
        if asked.strip().lower() not in GL_BACKENDS:
            raise
    os.environ["MUJOCO_GL"] = "disable"
    try:
        return importlib.import_module(module)
    finally:
        os.environ["MUJOCO_GL"] = asked


def _draws(backend: str) -> bool:
    environment = {**os.environ, "PYOPENGL_PLATFORM": backend}
    # An unusable MUJOCO_GL would make the probe's own `import mujoco` fail.
    environment.pop("MUJOCO_GL", None)
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE.format(backend=backend)],
            env=environment,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0
