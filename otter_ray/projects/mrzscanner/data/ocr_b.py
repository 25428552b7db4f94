"""OCR-B, in which zones are printed: masks of a zone's ink.

The font ships with the project: fonts/OCRB.otf, see fonts/NOTICE.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.text.icao import ALPHABET, Zone

FONT = Path(__file__).parent.parent / "fonts" / "OCRB.otf"
CAP_HEIGHT = 0.7  # of the font's size, about
_PITCH = 0.723  # of the font's size: all glyphs are this wide
_PLACES = {character: place for place, character in enumerate(ALPHABET)}


def require_font() -> None:
    """Raise DataError if the font cannot be read."""
    _font(16)


def _font(size: float) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(FONT), size)
    except OSError as exc:
        raise DataError(
            f"The font OCR-B cannot be read: {FONT} ({exc}). It is part of otter_ray: install otter_ray "
            "again, or copy OCRB.otf of Debian's package fonts-ocr-b there."
        ) from exc


@lru_cache(maxsize=64)
def _glyphs(pitch: int, leading: int) -> NDArray[np.uint8]:
    """Return the ink of each character of the alphabet in a cell, uint8 [37, leading, pitch].

    Args:
        pitch: Width of a cell in pixels.
        leading: Height of a cell in pixels: the distance of two lines.
    """
    size = pitch / _PITCH
    font, baseline = _font(size), (leading + CAP_HEIGHT * size) / 2
    cells = np.zeros((len(ALPHABET), leading, pitch), np.uint8)
    for cell, character in zip(cells, ALPHABET, strict=True):
        image = Image.new("L", (pitch, leading))
        ImageDraw.Draw(image).text((pitch / 2, baseline), character, fill=255, font=font, anchor="ms")
        cell[:] = np.asarray(image)
    return cells


def printed(zone: Zone, pitch: int, leading: int) -> NDArray[np.uint8]:
    """Return a zone's ink, 0 to 255, uint8 [lines * leading, columns * pitch]."""
    places = np.array([[_PLACES[character] for character in line] for line in zone])
    cells = _glyphs(pitch, leading)[places]
    ink: NDArray[np.uint8] = cells.transpose(0, 2, 1, 3).reshape(len(zone) * leading, -1)
    return ink
