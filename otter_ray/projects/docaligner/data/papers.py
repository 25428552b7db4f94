"""Draw documents, so that nobody has to collect them: cards, forms, letters, receipts, notes, covers."""

from __future__ import annotations

import cv2
import numpy as np

from otter_ray.vision import drawing
from otter_ray.vision.drawing import ornaments as ink
from otter_ray.vision.drawing.ornaments import Image

A4 = 210 / 297
_KINDS = {"drawing": 0.42, "receipt": 0.16, "letter": 0.18, "note": 0.08, "cover": 0.08, "sheet": 0.08}
_WIDTH = 384


def draw_paper(index: int, seed: int) -> Image:
    """Draw document `index` of the endless series `seed`, uint8 [H, W, 3] of its own aspect ratio."""
    rng = np.random.default_rng([seed, 2, index])
    kind = str(rng.choice([*_KINDS], p=[*_KINDS.values()]))
    if kind == "drawing":
        return drawing.draw_document(index, seed, _WIDTH)
    painter = {"receipt": _receipt, "letter": _letter, "note": _note, "cover": _cover, "sheet": _sheet}[kind]
    return painter(rng)


def _blank(rng: np.random.Generator, aspect: float, whitest: float = 255, darkest: float = 200) -> Image:
    """Return paper of nearly one shade."""
    tone = rng.uniform(darkest, whitest) + np.array([1.0, 0.4, -1.0]) * rng.normal(0, 6)
    height = round(_WIDTH / aspect)
    return np.broadcast_to(np.clip(tone, 0, 255).astype(np.uint8), (height, _WIDTH, 3)).copy()


def _text(
    image: Image, rng: np.random.Generator, box: ink.Box, size: float, shade: int, density: float = 1.0
) -> None:
    """Print lines of text, ragged on the right, with gaps between paragraphs."""
    left, top, width, height = box
    y, line = top + int(size), int(size * rng.uniform(1.4, 2.1))
    while y < top + height:
        if rng.random() < density * 0.85:
            words = " ".join(ink.word(rng, int(rng.integers(1, 4))) for _ in range(12))
            count = int(width * rng.choice([1.0, 0.97, 0.93, rng.uniform(0.3, 1)]) / size * 1.45)
            ink.write(image, words[:count], (left, y), size * 0.62, (shade, shade, shade))
        y += line


def _letter(rng: np.random.Generator) -> Image:
    image = _blank(rng, A4 if rng.random() < 0.8 else 1 / A4, darkest=215)
    height, width = image.shape[:2]
    margin, size = int(width * rng.uniform(0.05, 0.14)), width / rng.uniform(28, 55)
    shade = int(rng.integers(10, 110))
    if rng.random() < 0.5:
        ink.write(image, ink.word(rng, 4).upper(), (margin, margin + 14), 14, (shade,) * 3, bold=True)
    columns = 1 if rng.random() < 0.7 else 2
    wide = (width - 2 * margin) // columns
    for column in range(columns):
        box = (
            margin + column * wide,
            int(margin + 24),
            wide - 8,
            int((height - 2 * margin) * rng.uniform(0.3, 1)),
        )
        _text(image, rng, box, size, shade)
    if rng.random() < 0.3:
        ink.signature(image, rng, (margin, height - margin - 30, 90, 24), (30, 30, 120))
    return image


def _receipt(rng: np.random.Generator) -> Image:
    image = _blank(rng, rng.uniform(0.24, 0.6), darkest=190)
    height, width = image.shape[:2]
    shade, size = int(rng.integers(20, 130)), width / rng.uniform(14, 24)
    margin = int(width * rng.uniform(0.03, 0.1))
    ink.write(
        image, ink.word(rng, 3).upper(), (int(width * 0.25), int(2.4 * size)), size, (shade,) * 3, bold=True
    )
    y = 4 * size
    while y < height - 4 * size:
        if rng.random() < 0.85:
            at, price = (margin, int(y)), ink.digits(rng, 2, 2, ".")
            ink.write(
                image, ink.word(rng, int(rng.integers(2, 5))), at, size * 0.62, (shade,) * 3, face=ink.MONO
            )
            ink.write(image, price, (int(width * 0.72), int(y)), size * 0.62, (shade,) * 3, face=ink.MONO)
        if rng.random() < 0.08:
            cv2.line(image, (margin, int(y + size / 2)), (width - margin, int(y + size / 2)), (shade,) * 3, 1)
        y += size * 1.5
    if rng.random() < 0.5:
        ink.barcode(image, rng, (margin * 2, int(height - 4 * size), int(width * 0.7), int(2.4 * size)))
    return image


def _note(rng: np.random.Generator) -> Image:
    """Draw ruled or squared paper with handwriting."""
    image = _blank(rng, rng.choice([A4, 1 / A4, 1.0, 0.66]), darkest=205)
    if rng.random() < 0.35:  # a sticky note
        image[:] = ink.tint(rng.uniform(0.1, 0.25), rng.uniform(0.15, 0.6), rng.uniform(0.85, 1))
    height, width = image.shape[:2]
    step, colour = int(rng.integers(10, 26)), ink.tint(rng.uniform(0.5, 0.7), 0.3, 0.85)
    image[::step] = colour
    if rng.random() < 0.5:
        image[:, ::step] = colour
    for y in range(2 * step, int(height * rng.uniform(0.2, 1)), 2 * step):
        ink.signature(
            image, rng, (int(width * 0.1), y, int(width * rng.uniform(0.3, 0.8)), step), (30, 30, 90)
        )
    return image


def _cover(rng: np.random.Generator) -> Image:
    """Draw a coloured page: a passport, a leaflet, a photograph."""
    aspect = rng.choice([A4, 1 / A4, 88 / 125, 125 / 88, 1.5, 0.67])
    shape = (round(_WIDTH / aspect), _WIDTH)
    colours = [ink.tint(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.1, 1)) for _ in range(3)]
    if rng.random() < 0.5:
        colours = colours[:1]
    image = ink.smooth_field(rng, shape, int(rng.integers(2, 7)), colours)
    light = (245, 235, 200) if np.mean(image) < 140 else (20, 20, 30)
    centre = int(shape[1] * rng.uniform(0.3, 0.7)), int(shape[0] * rng.uniform(0.3, 0.6))
    ink.rosette(image, rng, centre, min(shape) * rng.uniform(0.08, 0.25), light)
    ink.write(
        image, ink.word(rng, 3).upper(), (int(shape[1] * 0.2), int(shape[0] * 0.2)), 24, light, bold=True
    )
    if rng.random() < 0.3:  # a photograph's white margin
        cv2.rectangle(image, (0, 0), (shape[1] - 1, shape[0] - 1), (250, 250, 250), int(rng.integers(8, 24)))
    return image


def _sheet(rng: np.random.Generator) -> Image:
    """Draw a sheet with little or nothing on it."""
    image = _blank(rng, rng.choice([A4, 1 / A4, 1.0, 0.5]), darkest=150)
    if rng.random() < 0.6:
        height, width = image.shape[:2]
        box = (int(width * 0.1), int(height * rng.uniform(0.1, 0.6)), int(width * 0.8), int(height * 0.15))
        _text(image, rng, box, width / rng.uniform(16, 40), int(rng.integers(20, 150)))
    return image
