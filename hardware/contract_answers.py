"""What a single answer of a robot may look like, whatever it was asked before; `contract.py` asks.

Where a message depends on the stream, a kind comes with it, so that each is told once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Judgement, KeepsTarget, Landmarked, Pictured, Robot
from robot_rl.core.specs import NS_PER_S, AnyArray, ArraySpec, RobotSpec

OLDEST_NS = NS_PER_S // 2
"""A stream older than this must be refused with `StaleSensor`, never handed over."""
MOST_LANDMARKS = 4


def spec_problems(spec: RobotSpec) -> list[str]:
    """Everything wrong with a robot's spec, in words."""
    problems = [] if spec.observations else ["spec.observations is empty: a robot shows at least one stream"]
    for name, array in {**spec.observations, "action": spec.action}.items():
        where = f"spec of '{name}'"
        try:
            np.dtype(array.dtype)
            low, high = array.bounds()
        except (TypeError, ValueError) as error:
            problems.append(f"{where}: {error}")
            continue
        if (low > high).any():
            problems.append(f"{where}: a low bound exceeds its high bound")
        if array.names and len(array.names) != array.size:
            problems.append(f"{where}: {len(array.names)} names for {array.size} elements")
    if RobotSpec.from_json(spec.to_json()) != spec:
        problems.append("spec does not survive to_json and from_json: use tuples, strings and numbers only")
    return problems


def observation_problems(spec: RobotSpec, observation: Observation, tick_ns: int) -> Iterator[tuple[str, str]]:
    """Kind and message of everything wrong with one observation."""
    if observation.stamp_ns != tick_ns:
        yield "stamp", f"observation is stamped {observation.stamp_ns} ns, wanted the tick asked for, {tick_ns} ns"
    for what, keys in (("values", observation.values), ("age_ns", observation.age_ns)):
        yield from _key_problems(what, spec.observations, keys)
    for name, age_ns in observation.age_ns.items():
        if type(age_ns) is not int:
            yield f"age type {name}", f"age of stream '{name}' is of type {type(age_ns).__name__}, wanted int"
        if age_ns < 0:
            yield f"age {name}", f"age of stream '{name}' is {age_ns} ns: captured after the tick, in the future"
        elif age_ns > OLDEST_NS:
            yield f"age {name}", f"stream '{name}' is {age_ns / 1e6:.0f} ms old and stale: raise StaleSensor instead"
    for name, array in spec.observations.items():
        if name in observation.values:
            problem = value_problem(array, observation.values[name]) or _bound_problem(array, observation.values[name])
            if problem:
                yield f"value {name}", f"stream '{name}': {problem}"


def _key_problems(what: str, wanted: Mapping[str, object], got: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in wanted:
        if name not in got:
            yield f"missing {what} {name}", f"stream '{name}' of the spec is missing from {what}"
    for name in got:
        if name not in wanted:
            yield f"extra {what} {name}", f"stream '{name}' in {what} is not in the spec"


def value_problem(array: ArraySpec, value: object) -> str | None:
    """Why a value is not what its spec says, None if it is."""
    if not isinstance(value, np.ndarray):
        return f"type is {type(value).__name__}, wanted a numpy array"
    return array.problem_with(value)


def _bound_problem(array: ArraySpec, value: AnyArray) -> str | None:
    low, high = array.bounds()
    outside = (value < low) | (value > high)
    if outside.any():
        return f"{value[outside][0]} is outside the spec's bounds"
    return None


def judgement_problems(judgement: object) -> Iterator[tuple[str, str]]:
    """Kind and message of everything wrong with one judgement."""
    if not isinstance(judgement, Judgement):
        yield "judgement", f"judge gave {type(judgement).__name__}, wanted a robot_rl.core.protocols.Judgement"
        return
    if not np.isfinite(judgement.reward):
        yield "reward", f"judge gave a reward of {judgement.reward}, wanted a finite number"
    verdicts: tuple[object, object] = judgement.success, judgement.done
    if not all(isinstance(verdict, bool) for verdict in verdicts):
        yield "judgement", "judge's success and done must be of type bool"


def capability_problems(robot: Robot) -> Iterator[tuple[str, str]]:
    """Kind and message of everything wrong with what a robot answers within an episode because it offers to."""
    if isinstance(robot, KeepsTarget):
        problem = _array_problem(robot.ahead(), robot.spec.action.shape, "f")
        if problem:
            yield "ahead", f"ahead() gave {problem}"
    if isinstance(robot, Pictured):
        picture: object = robot.picture()
        fits = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)
        if picture is not None and not fits:
            yield "picture", f"picture() gave {_shown(picture)}, wanted None or uint8 of shape (height, width, 3)"
    if isinstance(robot, Landmarked):
        yield from _landmark_problems(robot.landmarks(), robot.landmarks_box)


def _landmark_problems(landmarks: object, box: object) -> Iterator[tuple[str, str]]:
    if not isinstance(landmarks, Mapping) or not 1 <= len(landmarks) <= MOST_LANDMARKS:
        yield "landmarks", f"landmarks() gave {_shown(landmarks)}, wanted 1 to {MOST_LANDMARKS} positions by name"
        return
    for name, position in landmarks.items():
        problem = _array_problem(position, (3,), "f")
        if problem:
            yield "landmarks", f"landmarks() gave, for '{name}', {problem}"
    if not isinstance(box, Sequence) or [len(corner) for corner in box] != [3, 3]:
        yield "landmarks", f"landmarks_box is {box!r}, wanted its lowest and its highest corner"


def _array_problem(value: object, shape: tuple[int, ...], kind: str) -> str | None:
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind == kind:
        return None
    return f"{_shown(value)}, wanted floating-point numbers of shape {shape}"


def _shown(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
