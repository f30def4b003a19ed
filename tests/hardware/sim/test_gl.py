import subprocess
import sys

import pytest

from hardware.sim import gl
from robot_rl.core.errors import RobotRLError


@pytest.fixture
def machine(monkeypatch):
    """A machine on which a set of backends can draw; notes those that were tried."""

    class Machine:
        def __init__(self):
            self.offers = frozenset()
            self.tried = []

        def draws(self, backend):
            self.tried.append(backend)
            return backend in self.offers

    here = Machine()
    gl.gl_backend.cache_clear()
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "_draws", here.draws)
    yield here
    gl.gl_backend.cache_clear()


def test_egl_is_preferred_to_software_drawing(machine):
    machine.offers = {"egl", "osmesa"}
    assert gl.gl_backend() == "egl"


def test_software_drawing_is_used_where_egl_is_missing(machine):
    machine.offers = {"osmesa"}
    assert gl.gl_backend() == "osmesa"


def test_the_user_can_choose_the_backend(machine, monkeypatch):
    machine.offers = {"egl", "osmesa"}
    monkeypatch.setenv("MUJOCO_GL", "OSMesa")
    assert gl.gl_backend() == "osmesa"
    assert machine.tried == ["osmesa"]


def test_a_machine_is_asked_once(machine):
    machine.offers = {"egl"}
    assert [gl.gl_backend(), gl.gl_backend()] == ["egl", "egl"]
    assert machine.tried == ["egl"]


def test_without_opengl_the_error_names_the_packages(machine):
    with pytest.raises(RobotRLError, match=r"apt install libegl1 .* libosmesa6.*without cameras everything else works"):
        gl.require_gl()


def test_a_library_that_cannot_draw_is_not_offered():
    assert not gl._draws("nonesuch")


def test_importing_the_simulators_loads_no_graphics_library():
    code = (
        "import sys, hardware.sim.metaworld, hardware.sim.drawing, hardware.sim.gl\n"
        "sys.exit(any(name.split('.')[0] in {'OpenGL', 'mujoco', 'glfw', 'torch'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
