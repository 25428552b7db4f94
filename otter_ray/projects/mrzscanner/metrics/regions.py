"""Find the zone's rectangle on a mask as the clients do, and compare it with the true corners.

The overlap is the Jaccard index of SmartDoc 2015: both outlines are seen through the homography that takes
the true corners to a rectangle.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def rectangle(mask: NDArray[np.float32], image_size: tuple[int, int]) -> Points:
    """Return the corners of the zone on a mask, [4, 2] (x, y) in fractions; NaN if there is none.

    Args:
        mask: In 0 to 1, [h, w].
        image_size: (h, w) of the image, to which a client enlarges the mask.
    """
    height, width = image_size
    gray = cv2.resize((mask * 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    _, binary = cv2.threshold(gray, 0, 255, cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.full((4, 2), np.nan)
    corners = cv2.boxPoints(cv2.minAreaRect(max(contours, key=cv2.contourArea)))
    # Contours go through the middles of pixels.
    return np.asarray((corners + 0.5) / (width, height), np.float64)


def overlap(found: Points, true: Points) -> float:
    """Return the Jaccard index of two outlines [4, 2], seen from the true one; 0 if none was found."""
    if not np.isfinite(found).all():
        return 0.0
    matrix = cv2.getPerspectiveTransform(true.astype(np.float32), _SQUARE)
    seen = np.c_[found, np.ones(4)] @ matrix.T
    if (seen[:, 2] <= 0).any():  # beyond the horizon
        return 0.0
    outline = cv2.convexHull((seen[:, :2] / seen[:, 2:]).astype(np.float32))
    both, _ = cv2.intersectConvexConvex(outline, _SQUARE)
    either = cv2.contourArea(outline) + 1.0 - both
    return float(np.clip(both / either, 0, 1))
