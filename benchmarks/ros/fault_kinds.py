"""The ways to fail: what is done to which process, and what bounds the consequences."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.ros.fault_bench import Process
from benchmarks.ros.fault_scene import Scene

STOPPED_S = 1.0
"""How long a process is stopped, and the network cut."""
QUIET_S = 0.2
"""Of it, what has passed once the arm was seen at rest; for as long it is watched for motion that nobody asked for."""


def nothing(scene: Scene) -> None:
    """The cause is gone already."""


@dataclass(frozen=True)
class Fault:
    """A way to fail.

    Attributes:
        name: In the table.
        configured: What bounds it, for people.
        scene: See `Scene`.
        inject: Makes it fail; returns when, monotonic [ns].
        relieve: Ends the cause.
        leads: A leader arm drives, not a policy.
        arm_says: The arm node can say something afterwards.
        ends: How it ends where the arm is not to stop at once: `late` or `lossy`.
    """

    name: str
    configured: str
    scene: str
    inject: Callable[[Scene], int]
    relieve: Callable[[Scene], None] = nothing
    leads: bool = False
    arm_says: bool = True
    ends: str = ""


def go_on(scene: Scene, process: Process) -> None:
    """SIGCONT once a second has passed since SIGSTOP."""
    time.sleep(max(0.0, STOPPED_S - QUIET_S))
    process.signal(signal.SIGCONT)


def continued(name: str) -> Callable[[Scene], None]:
    return lambda scene: go_on(scene, getattr(scene, name))


def healed(scene: Scene) -> None:
    time.sleep(max(0.0, STOPPED_S - QUIET_S))
    scene.far.heal()


def restarted_camera(scene: Scene) -> None:
    scene.start_camera()


def restarted_leader(scene: Scene) -> None:
    scene.leader = scene.bench.actor("leader")
    scene.leader.wait_for("ready")


def asked_camera(mode: str) -> Callable[[Scene], int]:
    def ask(scene: Scene) -> int:
        scene.camera.ask(mode=mode)
        return int(scene.camera.wait_for("mode")["at_ns"])

    return ask


def camera_well(scene: Scene) -> None:
    asked_camera("well")(scene)


def camera_signalled(number: int) -> Callable[[Scene], Any]:
    return lambda scene: scene.camera.signal(number)


def intruded(scene: Scene) -> int:
    scene.intruder.ask(send=True)
    return int(scene.intruder.wait_for("sent")["sent_ns"])


WATCHDOG = "watchdog 100"
CAMERA = "image 100 old, ramp 100"
FAULTS: Sequence[Fault] = (
    Fault("policy process: SIGKILL", WATCHDOG, "plain", lambda scene: scene.kill_policy()),
    Fault(
        "policy process: SIGSTOP for 1 s",
        WATCHDOG,
        "plain",
        lambda scene: scene.policy.signal(signal.SIGSTOP),
        continued("policy"),
    ),
    Fault("stop pressed", "at once", "plain", lambda scene: scene.observer.press_stop()),
    Fault("camera node: SIGKILL", CAMERA, "plain", lambda scene: scene.camera.kill(), restarted_camera),
    Fault(
        "camera node: SIGSTOP for 1 s",
        CAMERA,
        "plain",
        lambda scene: scene.camera.signal(signal.SIGSTOP),
        continued("camera"),
    ),
    Fault("camera repeats one stamp", CAMERA, "foreign camera", asked_camera("stamp"), camera_well),
    Fault(
        "camera's picture frozen, stamps new",
        "15 frames, then as above",
        "freezing camera",
        camera_signalled(signal.SIGUSR1),
        camera_signalled(signal.SIGUSR2),
    ),
    Fault(
        "camera moves but shows the past, stamps new",
        "cannot be told",
        "foreign camera",
        asked_camera("late"),
        camera_well,
        ends="late",
    ),
    Fault(
        "operator's process (leader arm): SIGKILL",
        "leader 100 old, ramp",
        "leader",
        lambda scene: scene.leader.kill(),
        restarted_leader,
        leads=True,
    ),
    Fault("second publisher of commands", "at once", "intruder", intruded),
    Fault(
        "arm node: SIGKILL",
        "its driver holds",
        "vendor",
        lambda scene: scene.arm.kill(),
        lambda scene: scene.start_arm(),
        arm_says=False,
    ),
    Fault(
        "arm node: SIGSTOP for 1 s",
        "its driver holds",
        "vendor",
        lambda scene: scene.arm.signal(signal.SIGSTOP),
        continued("arm"),
        arm_says=False,
    ),
    Fault("20 % of packets lost", WATCHDOG, "lossy", lambda _: time.monotonic_ns(), ends="lossy"),
    Fault("network cut for 1 s, healed", WATCHDOG, "two hosts", lambda scene: scene.far.cut(), healed),
)
