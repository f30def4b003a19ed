"""Realistic pictures of two cameras for the storage benchmarks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hardware.sim.metaworld import MetaWorldRobot

CAMERAS = ("corner", "gripper")
TICKS_PER_FRAME = 3
Frames = npt.NDArray[np.uint8]


def film(count: int, size: tuple[int, int], noise: float, seed: int = 0) -> dict[str, Frames]:
    """Frames of a moving Meta-World arm by camera, about 27 per second of its time.

    Args:
        count: Frames per camera.
        size: Height and width [px].
        noise: Standard deviation of a real sensor's noise, added to every value [0-255]. A rendered picture has
            none, which flatters every codec.
        seed: Of the motion and the noise.

    Returns:
        Camera to frames of shape (count, height, width, 3), RGB.
    """
    generator = np.random.default_rng(seed)
    frames: dict[str, list[Frames]] = {camera: [] for camera in CAMERAS}
    with MetaWorldRobot(cameras=CAMERAS, image_size=size) as robot:
        robot.reset(seed)
        action = np.zeros(4, np.float32)
        for index in range(count):
            observation = robot.observe(index)
            for camera in CAMERAS:
                clean = observation.values[f"image_{camera}"].astype(np.float32)
                noisy = clean + noise * generator.standard_normal(clean.shape, dtype=np.float32)
                frames[camera].append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
            for _ in range(TICKS_PER_FRAME):
                action = np.clip(0.9 * action + 0.3 * generator.standard_normal(4), -1, 1).astype(np.float32)
                robot.apply(action)
    return {camera: np.stack(pictures) for camera, pictures in frames.items()}
