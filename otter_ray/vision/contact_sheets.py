"""Contact sheets: images of one size in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_GAP = 4


def grid(images: Sequence[Image], columns: int = 8) -> Image:
    """Join images uint8 [h, w, 3] (RGB, all of one size), row by row."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    step = np.array([height + _GAP, width + _GAP])
    sheet = np.full((rows * step[0] + _GAP, columns * step[1] + _GAP, 3), 32, np.uint8)
    for index, image in enumerate(images):
        top, left = _GAP + np.array(divmod(index, columns)) * step
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_sheet(images: Sequence[Image], path: str | Path, columns: int = 8) -> None:
    """Write the `grid` of the images as a PNG at `path`."""
    sheet = grid(images, columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
