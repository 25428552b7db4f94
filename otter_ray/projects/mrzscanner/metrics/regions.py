"""Find the zone's rectangle on a mask as the clients do."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


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
