"""Corners of a document in an image, and the labels that data sets return of them.

Positions are fractions of the image's width and height, measured from edge to edge: the centre of pixel `i`
of `n` is `(i + 0.5) / n`. A label is one row of `LABEL` numbers, so that batches of labels are tensors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Four corners (x, y), whether there is a document, width and height of the photograph in pixels.
LABEL: Final = 11


def in_order(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sort `[4, 2]` corners clockwise on the screen, beginning at the one with the least x + y."""
    corners = np.asarray(corners, np.float64)
    centre = corners.mean(axis=0)
    around = corners[np.argsort(np.arctan2(*(corners - centre).T[::-1]), kind="stable")]
    return np.asarray(np.roll(around, -int(around.sum(axis=1).argmin()), axis=0))


def label(corners: NDArray[np.float64] | None, width: float, height: float) -> NDArray[np.float32]:
    """Return a label of corners `[4, 2]`, or of a photograph without a document."""
    row = np.zeros(LABEL, np.float32)
    row[9:] = width, height
    if corners is not None:
        row[:8], row[8] = np.asarray(corners).ravel(), 1
    return row


def corners_of(labels: Tensor) -> Tensor:
    """Return the corners `[N, 4, 2]` of labels `[N, LABEL]`."""
    return labels[:, :8].reshape(-1, 4, 2)


def has_document(labels: Tensor) -> Tensor:
    """Return which of the photographs `[N]` show a document."""
    return labels[:, 8] > 0.5


def to_pixels(fractions: Tensor, size: tuple[int, int]) -> Tensor:
    """Return positions `[..., 2]` as indices of pixels of an image of `size` (h, w)."""
    return fractions * torch.tensor([size[1], size[0]], dtype=fractions.dtype, device=fractions.device) - 0.5


def to_fractions(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what `to_pixels` was given."""
    return (pixels + 0.5) / torch.tensor([size[1], size[0]], dtype=pixels.dtype, device=pixels.device)
