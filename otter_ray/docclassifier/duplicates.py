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


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [N, 256] of RGB images uint8 [N, H, W, 3]: gray 16 x 16."""
    rows = np.empty((len(images), _SIDE * _SIDE), np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[:] = thumbnail(image)
    return rows


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [256], the row of one image uint8 [H, W, 3]."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8).ravel()


def unit(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [N, 256] of thumbnails uint8 [N, 256]: zero mean, unit norm.

    The product of two rows is their correlation. All blank images get the same row, which
    correlates with no other image.
    """
    rows = thumbs.astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = norms[:, 0] < _FLAT * _SIDE
    rows /= np.maximum(norms, _FLAT)
    rows[flat] = 1 / _SIDE
    return rows


def near_duplicates(
    a: NDArray[np.uint8], b: NDArray[np.uint8], threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """bool [len(a)]: whether the thumbnail in `a` correlates above `threshold` with any of `b`.

    A million rows against 24 take two seconds, memory for a block of them at a time.
    """
    found, others = np.zeros(len(a), dtype=np.bool_), unit(b).T
    for start in range(0, len(a) if len(b) else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = (unit(a[block]) @ others).max(axis=1) > threshold
    return found


def choose_distinct(
    thumbs: NDArray[np.uint8],
    count: int,
    seed: int,
    threshold: float = THRESHOLD,
    apart: NDArray[np.uint8] | None = None,
    key: str = "held_out",
) -> NDArray[np.intp]:
    """Indices [count] into `thumbs` [N, 256] in an order that `seed` shuffles, no two near-duplicates.

    Greedy: an image is taken unless it resembles one taken before.

    apart: uint8 [M, 256], thumbnails of other documents; their near-duplicates are not taken.
    DataError: fewer than `count` can be taken; names `key` as what to lower.
    """
    chosen: list[int] = []
    taken = np.empty((count, thumbs.shape[1]), np.float32)
    barred = near_duplicates(thumbs, thumbs[:0] if apart is None else apart)
    for index in np.random.default_rng(seed).permutation(len(thumbs)):
        if len(chosen) == count:
            break
        row = unit(thumbs[index : index + 1])[0]
        if not barred[index] and (taken[: len(chosen)] @ row).max(initial=-1) <= threshold:
            taken[len(chosen)] = row
            chosen.append(int(index))
    if len(chosen) < count:
        raise DataError(
            f"{count} distinct documents are asked for, but of {len(thumbs)} images only {len(chosen)} are "
            f"no near-duplicates of each other (correlation above {threshold:g})"
            f"{'' if apart is None else ' or of the documents that are validated with'}. "
            f"Lower {key} to {len(chosen)} or less, or add images."
        )
    return np.array(chosen, dtype=np.intp)
