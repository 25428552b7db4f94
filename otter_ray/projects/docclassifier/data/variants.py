"""The 24 variants of an image that DocClassifier trains on as classes of their own.

Variant 8 * part + 4 * flip + turn: `turn` quarter turns counterclockwise (0 to 3), then unchanged or flipped
top to bottom (0, 1), and of the result the whole, the upper or the lower half (0, 1, 2). Variant 0 is the
image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otter_ray.vision.camera import resize

VARIANTS = 24
_PARTS = ("", "_upper", "_lower")


def variant(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Return variant `number` of an image uint8 [h, w, 3], stretched to its size; for 0 the same array."""
    if number == 0:
        return image
    part, flip, turn = number // 8, number // 4 % 2, number % 4
    turned = np.rot90(image, turn)
    upright = turned[::-1] if flip else turned
    half = len(upright) // 2
    piece = (upright, upright[:half], upright[half:])[part]
    return resize(np.ascontiguousarray(piece), (image.shape[0], image.shape[1]))


def variant_name(number: int) -> str:
    """Return `rot0` to `rot270`, with `_flip`, and `_upper` or `_lower` for a half: `rot90_flip_upper`."""
    return f"rot{90 * (number % 4)}{'_flip' if number // 4 % 2 else ''}{_PARTS[number // 8]}"
