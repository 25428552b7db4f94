"""The Jaccard index of SmartDoc 2015: how well four corners cover a document, measured on the document.

The homography that takes the true corners to a rectangle also takes the found ones there, where the two areas
are compared. A far corner that perspective makes small counts as much as a near one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = Sequence[Sequence[float]]
Polygon = list[tuple[float, float]]

SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def jaccard(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return the Jaccard index, in [0, 1], of found corners `[4, 2]` and the true ones `[4, 2]`, in order.

    It is 0 if a found corner is missing (NaN) or would be behind the camera, or if the outline crosses
    itself.
    """
    matrix = homography(true)
    if matrix is None or not np.isfinite(found).all():
        return 0.0
    x, y, w = matrix @ np.c_[np.asarray(found, np.float64), np.ones(len(found))].T
    if not (w > 1e-9).all():
        return 0.0
    seen = [*zip((x / w).tolist(), (y / w).tolist(), strict=True)]
    if crosses(seen):
        return 0.0
    both, area = abs(_area(_clipped(seen))), abs(_area(seen))
    return min(both / (1.0 + area - both), 1.0) if area > 0 else 0.0


def homography(corners: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the matrix that takes `[4, 2]` corners to the unit square; None if three are on a line.

    The third homogeneous coordinate of points on the corners' side of the horizon is positive.
    """
    a, b, c, d = np.asarray(corners, np.float64)
    # Heckbert's closed form of square -> quadrilateral.
    first, second, rest = b - c, d - c, a - b + c - d
    scale = first[0] * second[1] - second[0] * first[1]
    if not np.isfinite(scale) or abs(scale) < 1e-12:
        return None
    g = (rest[0] * second[1] - second[0] * rest[1]) / scale
    h = (first[0] * rest[1] - rest[0] * first[1]) / scale
    away = np.array(
        [
            [b[0] - a[0] + g * b[0], d[0] - a[0] + h * d[0], a[0]],
            [b[1] - a[1] + g * b[1], d[1] - a[1] + h * d[1], a[1]],
            [g, h, 1.0],
        ]
    )
    if abs(np.linalg.det(away)) < 1e-12:
        return None
    back = np.linalg.inv(away)
    return np.asarray(back * np.sign(back[2] @ np.array([*np.mean(corners, axis=0), 1.0])))


def crosses(polygon: Points) -> bool:
    """Return whether opposite sides of an outline of four points cross each other."""
    a, b, c, d = polygon
    return _meet(a, b, c, d) or _meet(b, c, d, a)


def _meet(a: Sequence[float], b: Sequence[float], c: Sequence[float], d: Sequence[float]) -> bool:
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _clipped(polygon: Polygon) -> Polygon:
    """Cut off what is outside the unit square, one side after the other (Sutherland and Hodgman 1974)."""
    for axis, limit, sign in ((0, 0.0, 1.0), (0, 1.0, -1.0), (1, 0.0, 1.0), (1, 1.0, -1.0)):
        kept: Polygon = []
        for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            inside, beyond = sign * (start[axis] - limit), sign * (end[axis] - limit)
            if inside >= 0:
                kept.append(start)
            if (inside >= 0) != (beyond >= 0):
                share = inside / (inside - beyond)
                kept.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
        polygon = kept
        if not polygon:
            break
    return polygon


def _area(polygon: Polygon) -> float:
    """Return the signed area."""
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs) / 2
