"""Near-duplicate documents, found by correlating thumbnails.

A pair of near-duplicates among validation documents sets the threshold at a false positive rate of 1e-4 to
almost 1 and turns the metric into noise. One between training and validation leaks.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.errors import DataError

THRESHOLD = 0.8
_SIDE = 16
_BLOCK = 4096  # rows that are compared at once
_FLAT = 1.0  # gray levels; a thumbnail with a smaller standard deviation shows only noise


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make thumbnails uint8 [N, 256] (gray 16 x 16) of RGB images uint8 [N, H, W, 3]."""
    rows = np.empty((len(images), _SIDE * _SIDE), np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[:] = thumbnail(image)
    return rows


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the thumbnail uint8 [256] of one image uint8 [H, W, 3]."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8).ravel()


def normalized(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalize thumbnails uint8 [N, 256] to zero mean and unit norm, float32 [N, 256].

    The product of two rows is their correlation. All blank images get the same row, which correlates with no
    other image.
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
    """Return bool [len(a)]: whether the thumbnail in `a` correlates above `threshold` with any of `b`.

    Comparing a million rows with 24 takes two seconds, and memory for one block at a time.
    """
    found, others = np.zeros(len(a), dtype=np.bool_), normalized(b).T
    for start in range(0, len(a) if len(b) else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = (normalized(a[block]) @ others).max(axis=1) > threshold
    return found


def choose_distinct(
    thumbs: NDArray[np.uint8],
    count: int,
    seed: int,
    threshold: float = THRESHOLD,
    apart: NDArray[np.uint8] | None = None,
    key: str = "held_out",
) -> NDArray[np.intp]:
    """Choose images of which no two are near-duplicates, in an order that `seed` shuffles.

    The choice is greedy: an image is chosen unless it resembles one chosen before.

    Args:
        thumbs: Thumbnails [N, 256] of all images.
        count: How many to choose.
        seed: Seed of the order.
        threshold: Correlation above which two images are near-duplicates.
        apart: Thumbnails [M, 256] of other documents, whose near-duplicates are not chosen.
        key: The key of the config that gives `count`, for messages.

    Returns:
        Indices [count] into `thumbs`.

    Raises:
        DataError: Fewer than `count` can be chosen.
    """
    chosen: list[int] = []
    taken = np.empty((count, thumbs.shape[1]), np.float32)
    barred = near_duplicates(thumbs, thumbs[:0] if apart is None else apart)
    for index in np.random.default_rng(seed).permutation(len(thumbs)):
        if len(chosen) == count:
            break
        row = normalized(thumbs[index : index + 1])[0]
        if not barred[index] and (taken[: len(chosen)] @ row).max(initial=-1) <= threshold:
            taken[len(chosen)] = row
            chosen.append(int(index))
    if len(chosen) < count:
        raise DataError(
            f"{key} is {count}, but only {len(chosen)} of the {len(thumbs)} images are distinct; the others "
            f"are near-duplicates (correlation above {threshold:g}) of these"
            f"{'' if apart is None else ' or of validation documents'}. "
            f"Set {key} to {len(chosen)} or less, or add images."
        )
    return np.array(chosen, dtype=np.intp)
