"""What every policy does in closed loop before its network runs: stack the newest observations, draw noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, RobotSpec


def stack_history(history: Sequence[Observation], spec: RobotSpec, count: int) -> dict[str, AnyArray]:
    """The newest observations as one batch of one, the oldest repeated while there are too few.

    Args:
        history: Oldest first, at least one.
        spec: Of the streams wanted.
        count: Observations wanted, `N`.

    Returns:
        Stream name to its values. Shapes (1, N, *shape).

    Raises:
        RobotRLError: No observation, or one that misses a stream or does not match its spec.
    """
    if not history:
        raise RobotRLError("a policy needs at least one observation, got none")
    newest = list(history[-count:])
    newest = [newest[0]] * (count - len(newest)) + newest
    return {name: np.stack([_value(each, name, spec) for each in newest])[None] for name in spec.observations}


def draw_noise(generator: np.random.Generator, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Standard normal noise for one sample. Shape (1, K, H, A).

    numpy's, whatever runs the network: one seed gives one behaviour in torch and in onnxruntime.
    """
    return generator.standard_normal((1, *shape), dtype=np.float32)


def _value(observation: Observation, name: str, spec: RobotSpec) -> AnyArray:
    if name not in observation.values:
        raise RobotRLError(f"the policy sees stream '{name}'; the observation has {', '.join(observation.values)}")
    value = observation.values[name]
    problem = spec.observations[name].problem_with(value)
    if problem:
        raise RobotRLError(f"observation of stream '{name}': {problem}")
    return value
