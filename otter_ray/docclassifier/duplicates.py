"""Near-duplicate documents, found by correlating thumbnails.

A pair of near-duplicates among validation documents sets the threshold at a false positive rate of
1e-4 to almost 1 and turns the metric into noise; one between training and validation leaks.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.errors import DataError

THRESHOLD = 0.8
_SIDE = 16
_BLOCK = 4096  # rows that are compared at once
_FLAT = 1.0  # gray levels: below this standard deviation a thumbnail shows nothing but noise


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [N, 256] of RGB images uint8 [N, H, W, 3]: gray 16 x 16, zero mean, unit norm.

    The product of two rows is their correlation. All blank images get the same row, which
    correlates with no other image.
    """
    rows = np.empty((len(images), _SIDE * _SIDE), np.float32)
    for row, image in zip(rows, images, strict=True):
        row[:] = thumbnail(image)
    return rows


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [256], the row of one image uint8 [H, W, 3]."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    gray = small.astype(np.float32).ravel()
    centred = gray - gray.mean()
    if centred.std() < _FLAT:
        return np.full_like(gray, 1 / _SIDE)
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float32)


def near_duplicates(
    a: NDArray[np.float32], b: NDArray[np.float32], threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """bool [len(a)]: whether the row of `a` correlates above `threshold` with any row of `b`.

    A million rows against 24 take two seconds, memory for a block of them at a time.
    """
    found = np.zeros(len(a), dtype=np.bool_)
    for start in range(0, len(a) if len(b) else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = (a[block] @ b.T).max(axis=1) > threshold
    return found


def choose_distinct(
    thumbs: NDArray[np.float32],
    count: int,
    seed: int,
    threshold: float = THRESHOLD,
    apart: NDArray[np.float32] | None = None,
    key: str = "held_out",
) -> NDArray[np.intp]:
    """Indices [count] into `thumbs` [N, 256] in an order that `seed` shuffles, no two near-duplicates.

    Greedy: an image is taken unless it resembles one taken before.

    apart: float32 [M, 256], thumbnails of other documents; their near-duplicates are not taken.
    DataError: fewer than `count` can be taken; names `key` as what to lower.
    """
    chosen: list[int] = []
    barred = near_duplicates(thumbs, thumbs[:0] if apart is None else apart)
    for index in np.random.default_rng(seed).permutation(len(thumbs)):
        if len(chosen) == count:
            break
        if not barred[index] and not near_duplicates(thumbs[index : index + 1], thumbs[chosen], threshold)[0]:
            chosen.append(int(index))
    if len(chosen) < count:
        raise DataError(
            f"{count} distinct documents are asked for, but of {len(thumbs)} images only {len(chosen)} are "
            f"no near-duplicates of each other (correlation above {threshold:g})"
            f"{'' if apart is None else ' or of the documents that are validated with'}. "
            f"Lower {key} to {len(chosen)} or less, or add images."
        )
    return np.array(chosen, dtype=np.intp)
