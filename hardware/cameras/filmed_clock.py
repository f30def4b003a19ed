"""Reads the time that a picture shows: a generated camera's own stamp, or a clock on a screen that a camera films.

The clock is a card: the cells of `pattern.py` in a black margin in a white frame, each one cell wide, on a black page.
Frame and margin let it be found anywhere in the picture, at any angle, in perspective and upside down; the stamp's
checksum tells a card that was found from anything else with four corners.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from hardware.cameras.frame_source import Picture
from hardware.cameras.pattern import COLUMNS, ROWS, STRIP, NoStamp, decode_stamp
from robot_rl.core.specs import AnyArray

EDGE_CELLS = 2
"""Frame and margin on each side."""
CARD_COLUMNS, CARD_ROWS = COLUMNS + 2 * EDGE_CELLS, ROWS + 2 * EDGE_CELLS
CELL_PX = 8
"""Size of a cell of a card that was turned to face us."""
SMALLEST_SHARE = 0.02
"""Least share of the picture's area that a card fills."""
MOST_CARDS = 6
_STRAIGHTNESS = 0.03
_GREY = 128

Corners = npt.NDArray[np.float32]


def shown_time(image: AnyArray) -> int | None:
    """The time that a picture shows [ns]; None if it shows none that can be read.

    Args:
        image: RGB, shape (height, width, 3), uint8.
    """
    for picture in (image, *_cards(image)):
        try:
            return decode_stamp(picture)
        except NoStamp:
            continue
    return None


def _cards(image: AnyArray) -> list[Picture]:
    """Pictures that `decode_stamp` might read, of everything with four corners, the largest first."""
    grey = cv2.GaussianBlur(np.ascontiguousarray(image[..., 1]), (3, 3), 0)
    _, bright = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(bright, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    least = SMALLEST_SHARE * grey.size
    large = sorted((each for each in contours if cv2.contourArea(each) > least), key=cv2.contourArea, reverse=True)
    quads = [quad for each in large[: 2 * MOST_CARDS] if (quad := _corners(each)) is not None]
    return [_facing(grey, np.roll(quad, turn, axis=0)) for quad in quads[:MOST_CARDS] for turn in range(4)]


def _corners(contour: AnyArray) -> Corners | None:
    """Four corners in the order of a clock's hands; None if the contour has more or fewer."""
    hull = cv2.convexHull(contour)
    outline = cv2.approxPolyDP(hull, _STRAIGHTNESS * cv2.arcLength(hull, True), True).reshape(-1, 2)
    if len(outline) != 4:
        return None
    fitted = _fitted(hull.reshape(-1, 2).astype(np.float64), outline.astype(np.float64))
    around = np.arctan2(*(fitted - fitted.mean(axis=0)).T[::-1])
    return fitted[np.argsort(around)].astype(np.float32)


def _fitted(points: npt.NDArray[np.float64], corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Corners as crossings of lines through all the points of each side, finer than a pixel. Shapes (n, 2), (4, 2)."""
    lines = []
    for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (second - first) / np.linalg.norm(second - first)
        place = (points - first) @ along / np.linalg.norm(second - first)
        off = np.abs((points - first) @ np.array([-along[1], along[0]]))
        side = points[(place > -0.02) & (place < 1.02) & (off < 3.0)]
        if len(side) < 2:
            return corners
        vx, vy, x, y = cv2.fitLine(side.astype(np.float32), cv2.DIST_HUBER, 0, 0.01, 0.01).ravel().tolist()
        lines.append((np.array([-vy, vx]), -vy * x + vx * y))
    crossings = []
    for (n1, c1), (n2, c2) in zip([lines[-1], *lines[:-1]], lines, strict=True):
        matrix = np.array([n1, n2])
        if abs(np.linalg.det(matrix)) < 1e-3:
            return corners
        crossings.append(np.linalg.solve(matrix, np.array([c1, c2])))
    return np.array(crossings)


def _facing(grey: AnyArray, corners: Corners) -> Picture:
    """The cells of a card as the top of a picture, as `decode_stamp` wants them."""
    width, height = CARD_COLUMNS * CELL_PX, CARD_ROWS * CELL_PX
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    card = cv2.warpPerspective(grey, cv2.getPerspectiveTransform(corners, target), (width, height))
    edge = EDGE_CELLS * CELL_PX
    cells = card[edge:-edge, edge:-edge]
    whole = np.full((round(len(cells) / STRIP), cells.shape[1]), _GREY, np.uint8)
    whole[: len(cells)] = cells
    return np.repeat(whole[..., None], 3, axis=2)
