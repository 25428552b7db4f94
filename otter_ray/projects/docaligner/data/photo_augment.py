"""Augment photographs whose corners are known: move the camera, change the light, cover a corner."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.projects.docaligner.data.scene import cover_corner
from otter_ray.vision import camera

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

_SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
_TRIES = 10  # views that are drawn until one shows all corners
_PATCH = 0.3  # share of documents of which something covers a corner


def taken_again(
    rng: np.random.Generator, image: Image, corners: Points | None, strength: float
) -> tuple[Image, Points | None]:
    """Return a photograph as it could also have been taken, and where its corners are then.

    Args:
        rng: Draws all chances.
        image: uint8 [h, w, 3].
        corners: `[4, 2]` in fractions, which stay in the frame; None without a document.
        strength: Scale of all changes, in (0, 1].
    """
    size = (image.shape[0], image.shape[1])
    view = _view(rng, corners, strength)
    scene = _seen_from(rng, image, view)
    if corners is not None:
        corners = _moved(corners, view)
        if rng.random() < _PATCH * strength:
            cover_corner(rng, scene, corners)
    return camera.develop(scene, rng, size, strength * rng.uniform(0.1, 0.8)), corners


def _view(rng: np.random.Generator, corners: Points | None, strength: float) -> Points:
    """Draw where the frame's corners go, `[4, 2]` in fractions. The document's stay in the frame."""
    for _ in range(_TRIES):
        turn = np.deg2rad(strength * rng.uniform(-20, 20))
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        scale = np.exp(strength * rng.uniform(-0.3, 0.3, 2))
        view = (_SQUARE - 0.5 + strength * rng.uniform(-0.06, 0.06, (4, 2))) * scale @ rotation
        view += 0.5 + strength * rng.uniform(-0.12, 0.12, 2)
        if rng.random() < 0.5:
            view = view * [-1, 1] + [1, 0]
        moved = None if corners is None else _moved(corners, view)
        if moved is None or ((moved >= 0) & (moved <= 1)).all():
            return np.asarray(view)
    return _SQUARE


def _moved(corners: Points, view: Points) -> Points:
    matrix = cv2.getPerspectiveTransform(_SQUARE.astype(np.float32), view.astype(np.float32))
    return np.asarray(cv2.perspectiveTransform(corners[None], matrix)[0])


def _seen_from(rng: np.random.Generator, image: Image, view: Points) -> Image:
    """Warp a photograph; what it does not show is one colour, or what is at its edge."""
    height, width = image.shape[:2]
    before, after = ((frame * (width, height) - 0.5).astype(np.float32) for frame in (_SQUARE, view))
    warped = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(before, after),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT,
        borderValue=rng.uniform(0, 255, 3).tolist(),
    )
    return np.asarray(warped, np.uint8)
