"""What is printed on forms."""

from __future__ import annotations

import cv2
import numpy as np

from otter_ray.vision.drawing import ornaments as ink
from otter_ray.vision.drawing.family import Family
from otter_ray.vision.drawing.ornaments import Image


def form(image: Image, family: Family, rng: np.random.Generator) -> None:
    """Print a page: heading, blocks of paragraphs, tables and photos, then signature, stamp and code."""
    height, width = image.shape[:2]
    margin, unit = int(width * 0.07), width / 36
    if family.banner:
        image[: int(3.4 * unit)] = family.accent
    title = (255, 255, 255) if family.banner else (30, 30, 30)
    ink.write(image, family.issuer, (margin, int(2.3 * unit)), 1.5 * unit, title, face=ink.SERIF, bold=True)
    y = int(5 * unit)
    if rng.random() < 0.4:
        y += _letterhead(image, family, rng, y, unit)
    while y < height - 9 * unit:
        tall = int(rng.uniform(3, 9) * unit)
        block = (_paragraph, _table, _picture)[rng.choice(3, p=[0.4, 0.35, 0.25])]
        block(image, family, rng, (margin, y, width - 2 * margin, min(tall, int(height - 5 * unit - y))))
        y += tall + int(rng.uniform(0.8, 2.5) * unit)
    ink.signature(image, rng, (margin, int(height - 4 * unit), int(9 * unit), int(2.5 * unit)), (30, 30, 120))
    if rng.random() < 0.6:
        where = int(width * rng.uniform(0.3, 0.85)), int(height * rng.uniform(0.55, 0.92))
        ink.stamp(
            image, rng, where, int(rng.uniform(2.5, 4.5) * unit), ink.tint(rng.choice([0.0, 0.62]), 0.8, 0.8)
        )
    if rng.random() < 0.5:
        ink.barcode(
            image, rng, (int(width * 0.6), int(height - 3.4 * unit), int(width * 0.33), int(2.4 * unit))
        )


def _letterhead(image: Image, family: Family, rng: np.random.Generator, top: int, unit: float) -> int:
    """Draw a coloured picture across the page, and return its height."""
    tall, margin = int(rng.uniform(3, 8) * unit), int(rng.uniform(0, 4) * unit)
    wide = image.shape[1] - 2 * margin
    colours = [family.accent, *family.paper, ink.tint(rng.random(), 0.5, rng.uniform(0.3, 0.9))]
    ink.paste(image, ink.smooth_field(rng, (tall, wide), int(rng.integers(3, 6)), colours), margin, top)
    return tall + int(1.5 * unit)


def _paragraph(image: Image, family: Family, rng: np.random.Generator, box: ink.Box) -> None:
    """Print lines of small print, ragged on the right."""
    left, top, width, height = box
    step = max(7, width // 30)
    for y in range(top + step, top + height, step):
        words = " ".join(ink.word(rng, int(rng.integers(1, 4))) for _ in range(rng.integers(3, 11)))
        ink.write(image, words[: int(width / step * 1.55)], (left, y), step * 0.6, (50, 50, 55))


def _table(image: Image, family: Family, rng: np.random.Generator, box: ink.Box) -> None:
    """Draw a grid with a shaded head and some cells filled in."""
    left, top, width, height = box
    rows, columns = max(2, height // 14), int(rng.integers(2, 6))
    xs = left + np.concatenate([[0], np.cumsum(rng.dirichlet(np.full(columns, 4.0)))]) * width
    step = height // rows
    image[top : top + step, left : left + width] = family.accent if rng.random() < 0.5 else (205, 205, 210)
    for row in range(rows + 1):
        cv2.line(image, (left, top + row * step), (left + width, top + row * step), (70, 70, 70), 1)
    for x in xs.astype(int):
        cv2.line(image, (int(x), top), (int(x), top + rows * step), (70, 70, 70), 1)
        for row in range(rows):
            if x < left + width - 12 and rng.random() < 0.6:
                ink.write(
                    image,
                    ink.word(rng, 1),
                    (int(x) + 3, top + (row + 1) * step - 3),
                    step * 0.5,
                    (40, 40, 80),
                )


def _picture(image: Image, family: Family, rng: np.random.Generator, box: ink.Box) -> None:
    """Draw a photograph of somebody, or a coloured illustration, next to a paragraph."""
    left, top, width, height = box
    wide = min(int(height * rng.uniform(0.7, 1.6)), width // 2)
    if rng.random() < 0.5:
        patch = ink.portrait(rng, wide, height)
    else:
        patch = ink.smooth_field(rng, (height, wide), 4, rng.integers(0, 255, (4, 3)))
    x = left if rng.random() < 0.5 else left + width - wide
    ink.paste(image, patch, x, top)
    _paragraph(image, family, rng, (left + wide + 8 if x == left else left, top, width - wide - 8, height))
