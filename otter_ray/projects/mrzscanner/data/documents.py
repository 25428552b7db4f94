"""Identity cards, passport pages and visas with a zone at their foot."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.projects.mrzscanner.data import ocr_b
from otter_ray.projects.mrzscanner.data.effects import Image
from otter_ray.projects.mrzscanner.text.icao import Format, Zone
from otter_ray.vision.drawing.cards import identity_card
from otter_ray.vision.drawing.family import random_family
from otter_ray.vision.drawing.paper import blank_paper

# Width and height in mm: ID-1, ID-2, ID-3, and visas of these sizes.
_SIZES = {
    "TD1": (85.6, 54.0),
    "TD2": (105.0, 74.0),
    "TD3": (125.0, 88.0),
    "MRVA": (120.0, 80.0),
    "MRVB": (105.0, 74.0),
}
_PITCH = 2.54  # of characters, in mm
_LEADING = (4.2, 6.35)  # of lines, in mm


def draw_page(
    zone: Zone, form: Format, rng: np.random.Generator, width: int
) -> tuple[Image, NDArray[np.float32]]:
    """Draw a document with its zone.

    Args:
        zone: The text.
        form: Its format, which says how large the document is.
        rng: Draws everything else.
        width: Of the document in pixels.

    Returns:
        The document, uint8 [h, width, 3] RGB, and the corners of the zone's cells in pixels: float32 [4, 2],
        (x, y), clockwise from top left.
    """
    millimetres = _SIZES[form.name]
    scale = width / millimetres[0]
    height = round(millimetres[1] * scale)
    family = random_family(rng)
    page = blank_paper(family, rng, (height, width))
    identity_card(page, family, rng)
    pitch = max(3, round(_PITCH * scale))
    leading = max(5, round(rng.uniform(*_LEADING) * scale))
    ink = ocr_b.printed(zone, pitch, leading)
    rows, columns = ink.shape
    left = max(0, (width - columns) // 2)
    top = height - rows - round(rng.uniform(0.3, 3) * scale)
    _clear(page, top, rng)
    room = page[top : top + rows, left : left + columns]
    alpha = ink[: room.shape[0], : room.shape[1], None].astype(np.float32) / 255
    colour = rng.uniform(0, 60) + rng.uniform(0, 15, 3)
    room[:] = (room + alpha * (colour - room)).astype(np.uint8)
    corners = [[left, top], [left + columns, top], [left + columns, top + rows], [left, top + rows]]
    return page, np.array(corners, np.float32)


def _clear(page: Image, top: int, rng: np.random.Generator) -> None:
    """Lighten the foot of the page, where nothing else is printed, from a little above the zone on."""
    foot = page[max(0, top - round(0.02 * len(page))) :]
    paper = np.clip(page.reshape(-1, 3).mean(axis=0) + rng.uniform(0, 60), 140, 250)
    plain = cv2.GaussianBlur(foot, (0, 0), len(page) / 40)
    share = rng.uniform(0.15, 1.0)
    foot[:] = (plain * (1 - share) + paper * share).astype(np.uint8)
