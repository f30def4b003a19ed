"""Unit quaternions (x, y, z, w) and rotation vectors [rad], as far as commanding a pose needs them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float64]


def compose(second: Row, first: Row) -> Row:
    """The rotation that `first` and then `second` make, both in the fixed frame. Shapes (4,)."""
    x2, y2, z2, w2 = second
    x1, y1, z1, w1 = first
    product = np.array(
        [
            w2 * x1 + x2 * w1 + y2 * z1 - z2 * y1,
            w2 * y1 - x2 * z1 + y2 * w1 + z2 * x1,
            w2 * z1 + x2 * y1 - y2 * x1 + z2 * w1,
            w2 * w1 - x2 * x1 - y2 * y1 - z2 * z1,
        ]
    )
    unit: Row = product / np.linalg.norm(product)
    return unit


def from_vector(vector: Row) -> Row:
    """The quaternion of a rotation vector. Shapes (3,) and (4,)."""
    angle = float(np.linalg.norm(vector))
    # sin(a/2)/a of a small angle, where the quotient itself would be 0/0.
    scale = 0.5 - angle * angle / 48.0 if angle < 1e-6 else math.sin(angle / 2.0) / angle
    return np.append(scale * vector, math.cos(angle / 2.0))


def turned(quaternion: Row, vector: Row) -> Row:
    """A rotation turned further by a rotation vector in the fixed frame. Shapes (4,), (3,)."""
    return compose(from_vector(vector), quaternion)


def rotation_between(start: Row, end: Row) -> Row:
    """The shortest rotation vector in the fixed frame that turns `start` into `end`. Shapes (4,) to (3,)."""
    x, y, z, w = compose(end, start * np.array([-1.0, -1.0, -1.0, 1.0]))
    sign = -1.0 if w < 0.0 else 1.0
    axis, sine = sign * np.array([x, y, z]), math.sqrt(x * x + y * y + z * z)
    if sine < 1e-12:
        return 2.0 * axis
    vector: Row = axis / sine * 2.0 * math.atan2(sine, sign * w)
    return vector
