"""Draw photographs of documents with a zone, padded with black to a square as the clients pad them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.projects.mrzscanner.data.documents import draw_page
from otter_ray.projects.mrzscanner.data.effects import Image, photographed
from otter_ray.projects.mrzscanner.text.icao import Format, Zone
from otter_ray.vision.drawing import draw_document
from otter_ray.vision.drawing.ornaments import smooth_field

_ASPECTS = (9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9)  # width / height of photographs
_UNIT = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)


def draw_scene(
    zone: Zone | None,
    form: Format,
    rng: np.random.Generator,
    image_size: tuple[int, int],
    strength: float,
    max_turn: float,
) -> tuple[Image, NDArray[np.float32]]:
    """Draw a document, put it somewhere and take a photograph.

    Args:
        zone: The text; None for a document without a zone.
        form: The zone's format.
        rng: Draws everything else.
        image_size: (h, w) of the padded photograph in pixels.
        strength: Scale of every disturbance.
        max_turn: Degrees by which the document may be turned.

    Returns:
        The photograph, uint8 [h, w, 3] RGB, and the corners of the zone's cells: float32 [4, 2], (x, y) in
        fractions of its sides, clockwise from the zone's own top left; NaN without a zone.
    """
    height, width = image_size
    aspect = float(rng.choice(_ASPECTS))
    frame = (round(width * min(1, aspect)), round(height * min(1, 1 / aspect)))  # (w, h) of the photograph
    if zone is None:
        page = draw_document(int(rng.integers(10**6)), int(rng.integers(10**6)), 256)
        corners = np.full((4, 2), np.nan, np.float32)
    else:
        # Half as much again as it will be at most: what is lost is lost by the lens.
        page, corners = draw_page(zone, form, rng, max(256, round(1.2 * max(frame))))
    there = _pose(rng, page.shape[1] / page.shape[0], frame, max_turn, strength)
    here = _UNIT * (page.shape[1], page.shape[0]) - 0.5
    matrix = cv2.getPerspectiveTransform(here.astype(np.float32), there.astype(np.float32))
    scene = _table(rng, (frame[1], frame[0]))
    shrinks = page.shape[1] / max(1.0, float(np.linalg.norm(there[1] - there[0])))
    if shrinks > 1.3:
        page = cv2.GaussianBlur(page, (0, 0), 0.35 * shrinks)
    cv2.warpPerspective(
        page, matrix, frame, dst=scene, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    photo = photographed(scene.astype(np.float32), rng, strength, focus=max(frame) / 400)
    zone_there = cv2.perspectiveTransform(corners[None] - np.float32(0.5), matrix)[0] + 0.5
    if zone is None:  # OpenCV takes NaN to 0
        zone_there = corners
    left, top = (width - frame[0]) // 2, (height - frame[1]) // 2
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + frame[1], left : left + frame[0]] = photo
    return padded, ((zone_there + np.array([left, top])) / (width, height)).astype(np.float32)


def _pose(
    rng: np.random.Generator, aspect: float, frame: tuple[int, int], max_turn: float, strength: float
) -> NDArray[np.float64]:
    """Draw where the document's corners are, in pixels, wholly inside the frame."""
    turn = np.deg2rad(np.clip(rng.normal(0, 0.4), -1, 1) * max_turn)
    page = (_UNIT - 0.5) * (aspect, 1)
    page = page @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    page += strength * rng.uniform(-0.06, 0.06, (4, 2)) * np.ptp(page, axis=0)
    room = np.array(frame, np.float64)
    size = np.ptp(page, axis=0)
    page *= (room / size).min() * rng.uniform(0.55, 0.98)
    slack = room - np.ptp(page, axis=0)
    return np.asarray(page - page.min(axis=0) + slack * rng.random(2) - 0.5)


def _table(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Draw what the document lies on: smooth colours, grain, and a few things."""
    base = rng.uniform(20, 230) + rng.uniform(-30, 30, 3)
    colours = np.clip(base + rng.normal(0, 18, (4, 3)), 0, 255)
    table = smooth_field(rng, size, int(rng.integers(2, 7)), colours)
    grain = rng.normal(0, rng.uniform(1, 10), (size[0], 1, 1) if rng.random() < 0.5 else (*size, 1))
    table = np.clip(table + grain, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 4)):
        points = (rng.uniform(-0.1, 1.1, (int(rng.integers(3, 6)), 2)) * (size[1], size[0])).astype(np.int32)
        cv2.fillConvexPoly(table, cv2.convexHull(points), rng.uniform(0, 255, 3).tolist(), cv2.LINE_AA)
    return np.asarray(table)
