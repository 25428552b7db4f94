"""Draw crops of a zone, as a detector cuts them out of a photograph and the recogniser reads them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.projects.mrzscanner.data import ocr_b
from otter_ray.projects.mrzscanner.data.effects import Image, Light, photographed
from otter_ray.projects.mrzscanner.text.icao import Zone

Corners = NDArray[np.float32]

_LEADING = (1.25, 1.8)  # distance of two lines, in sizes of the font


def draw_crop(
    zone: Zone, rng: np.random.Generator, image_size: tuple[int, int], strength: float
) -> tuple[Image, Corners]:
    """Draw a zone and cut it out roughly.

    Args:
        zone: The text.
        rng: Draws everything else.
        image_size: (h, w) of the crop in pixels.
        strength: Scale of every disturbance: 0 is an exact crop of a clean print.

    Returns:
        The crop, uint8 [h, w, 3] RGB, and where the corners of the zone's cells are in it: float32 [4, 2],
        (x, y) in fractions of its sides, clockwise from top left.
    """
    height, width = image_size
    corners = _corners(rng, len(zone), strength)
    # As large as it will be, so that warping neither loses nor makes up detail.
    pitch = max(4, round((corners[1, 0] - corners[0, 0]) * width / len(zone[0])))
    leading = max(6, round(pitch / 0.723 * rng.uniform(*_LEADING)))
    ink = _worn(ocr_b.printed(zone, pitch, leading), rng, strength)
    rows, columns = ink.shape
    # Pixels are squares around whole numbers: the cells' edge is half a pixel outside of the first one.
    here = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32) - 0.5
    there = (corners * (width, height)).astype(np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(here, there)
    shrinks = height * (corners[2, 1] - corners[1, 1]) < 0.7 * rows
    if shrinks:
        ink = cv2.GaussianBlur(ink, (1, 3), 0)
    ink = cv2.warpPerspective(ink, matrix, (width, height), flags=cv2.INTER_LINEAR)
    scene = _paper(rng, image_size, strength)
    colour = rng.uniform(0, 60) + rng.uniform(0, 20, 3)
    if strength and rng.random() < 0.15:  # a line of other print cut in half above the zone
        _stray(ink, rng)
    alpha = (ink.astype(np.float32) / 255)[..., None]
    scene += alpha * (colour.astype(np.float32) - scene)
    return photographed(scene, rng, strength, focus=height / 40), corners.astype(np.float32)


def _corners(rng: np.random.Generator, lines: int, strength: float) -> NDArray[np.float64]:
    """Draw where the corners of the zone's cells are in the crop, in fractions.

    A detector may cut the space around the first and last line away, or leave some around the zone.
    """
    left, right = strength * rng.uniform(-0.004, 0.05, 2)
    top, bottom = strength * rng.uniform(-0.2 / lines, 0.09, 2)
    corners = np.array([[left, top], [1 - right, top], [1 - right, 1 - bottom], [left, 1 - bottom]])
    return corners + strength * rng.uniform(-1, 1, (4, 2)) * (0.006, 0.04)


def _worn(ink: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """Print with more or less ink: fat or thin strokes, and a ribbon that fades."""
    if strength == 0:
        return ink
    chance = rng.random()
    if chance < 0.25:
        ink = np.maximum(
            ink, (cv2.dilate(ink, np.ones((2, 2), np.uint8)) * rng.uniform(0.3, 1)).astype(np.uint8)
        )
    elif chance < 0.4:
        ink = cv2.addWeighted(ink, 0.6, cv2.erode(ink, np.ones((2, 2), np.uint8)), 0.4, 0)
    fade = 1 - strength * rng.uniform(0, 0.45, (2, 12)).astype(np.float32)
    field = cv2.resize(fade, (ink.shape[1], ink.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(ink * field, np.uint8)


def _paper(rng: np.random.Generator, size: tuple[int, int], strength: float) -> Light:
    """Draw paper with soft stains, and often fine waves as on security paper."""
    height, width = size
    colour = rng.uniform(150, 250) + rng.uniform(-20, 20, 3)
    grid = colour + strength * rng.normal(0, 9, (3, 10, 3))
    paper = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    if strength and rng.random() < 0.5:
        _waves(paper, rng)
    return np.asarray(paper, np.float32)


def _waves(paper: Light, rng: np.random.Generator) -> None:
    height, width = paper.shape[:2]
    x = np.linspace(0, width, 48)
    colour = (paper.mean(axis=(0, 1)) + rng.uniform(-60, 15, 3)).tolist()
    step, swing, waves = rng.uniform(3, 12), rng.uniform(0.05, 0.5) * height, rng.uniform(2, 30)
    wave = swing * np.sin(x / width * waves + rng.uniform(0, 6.28))
    for y in np.arange(-swing, height + swing, step):
        line = np.stack([x, y + wave], axis=1)
        cv2.polylines(paper, [np.round(line * 8).astype(np.int32)], False, colour, 1, cv2.LINE_AA, shift=3)


def _stray(ink: NDArray[np.uint8], rng: np.random.Generator) -> None:
    height, width = ink.shape
    text = "".join(chr(65 + letter) for letter in rng.integers(0, 26, int(rng.integers(4, 20))))
    place = (int(rng.uniform(0, 0.7) * width), int(rng.uniform(-0.02, 0.06) * height))
    cv2.putText(ink, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 90, 255, 1, cv2.LINE_AA)
