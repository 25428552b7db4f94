"""What is printed on bank cards and identity cards."""

from __future__ import annotations

import cv2
import numpy as np

from otter_ray.vision.drawing import ornaments as ink
from otter_ray.vision.drawing.family import Family
from otter_ray.vision.drawing.ornaments import Image

_GOLD, _SILVER = (214, 178, 94), (190, 192, 196)


def bank_card(image: Image, family: Family, rng: np.random.Generator) -> None:
    """Print issuer, chip, number, dates, holder and the network's mark."""
    height, width = image.shape[:2]
    unit = height / 24
    left = int(width * 0.07)
    side = int(width * 0.5) if family.mirrored else left
    ink.rosette(image, rng, (int(side + unit), int(2.6 * unit)), 1.5 * unit, family.accent)
    ink.write(
        image, family.issuer, (int(side + 3.2 * unit), int(3.2 * unit)), 1.3 * unit, family.ink, bold=True
    )
    _chip(image, left if not family.mirrored else int(width * 0.1), int(height * 0.34), unit, rng)
    if rng.random() < 0.7:
        ink.write(
            image, ink.digits(rng, 4, 4), (left, int(height * 0.66)), 1.9 * unit, family.ink, face=ink.MONO
        )
    ink.write(image, f"VALID {ink.digits(rng, 2, 2, '/')}", (left * 3, int(height * 0.77)), unit, family.ink)
    holder = f"{ink.word(rng)} {ink.word(rng, 3)}".upper()
    ink.write(image, holder, (left, int(height * 0.9)), 1.2 * unit, family.ink)
    _network(image, np.random.default_rng(family.waves_seed), unit)


def _chip(image: Image, left: int, top: int, unit: float, rng: np.random.Generator) -> None:
    metal = _GOLD if rng.random() < 0.6 else _SILVER
    right, bottom = left + int(5 * unit), top + int(4 * unit)
    cv2.rectangle(image, (left, top), (right, bottom), metal, -1)
    for share in (1 / 3, 2 / 3):
        y = int(top + share * (bottom - top))
        cv2.line(image, (left, y), (right, y), (90, 80, 60), 1)
    cv2.rectangle(image, (left + int(1.7 * unit), top), (right - int(1.7 * unit), bottom), (90, 80, 60), 1)


def _network(image: Image, rng: np.random.Generator, unit: float) -> None:
    """Draw two discs or a lettered plate in the lower right corner."""
    height, width = image.shape[:2]
    x, y = int(width - 5 * unit), int(height - 3.4 * unit)
    if rng.random() < 0.5:
        for shift in (-1, 1):
            colour = ink.tint(rng.random(), 0.9, 0.9)
            cv2.circle(image, (int(x + shift * unit), y), int(1.9 * unit), colour, -1, cv2.LINE_AA)
        return
    plate = (int(x - 3.5 * unit), int(y - 2 * unit)), (int(x + 4 * unit), int(y + 2 * unit))
    cv2.rectangle(image, *plate, (250, 250, 250), -1)
    name, colour = ink.word(rng).upper(), ink.tint(rng.random(), 0.9, 0.6)
    ink.write(image, name, (int(x - 3 * unit), int(y + 0.8 * unit)), 1.5 * unit, colour, bold=True)


def identity_card(image: Image, family: Family, rng: np.random.Generator) -> None:
    """Print title, photo with a small ghost, fields, signature, and a machine-readable zone or barcode."""
    height, width = image.shape[:2]
    unit = height / 24
    if family.banner:
        image[: int(3.6 * unit)] = family.accent
    title = (255, 255, 255) if family.banner else family.ink
    ink.write(image, family.issuer.upper(), (int(3.5 * unit), int(2.7 * unit)), 1.3 * unit, title, bold=True)
    ink.rosette(image, rng, (int(1.9 * unit), int(1.9 * unit)), 1.3 * unit, title)
    photo = ink.portrait(rng, int(rng.uniform(7.5, 11.5) * unit), int(rng.uniform(10, 14) * unit))
    photo_left = width - photo.shape[1] - int(1.5 * unit) if family.mirrored else int(1.5 * unit)
    ink.paste(image, photo, photo_left, int(rng.uniform(4.2, 7) * unit))
    fields_left = int(2 * unit) if family.mirrored else photo_left + photo.shape[1] + int(1.5 * unit)
    _fields(image, family, rng, fields_left, unit)
    ink.signature(image, rng, (fields_left, int(16 * unit), int(8 * unit), int(2.5 * unit)), (30, 30, 60))
    _foot(image, rng, unit)


def _fields(image: Image, family: Family, rng: np.random.Generator, left: int, unit: float) -> None:
    """Print small labels, each with its value below."""
    for row in range(rng.integers(3, 5)):
        y = int((5.8 + 2.9 * row) * unit)
        ink.write(image, ink.word(rng, 3), (left, y), 0.7 * unit, family.accent)
        names = " ".join(ink.word(rng) for _ in range(rng.integers(1, 3)))
        value = ink.digits(rng, 3, 2, ".") if row == 2 else names
        ink.write(
            image, value.upper(), (left, int(y + 1.4 * unit)), 1.1 * unit, family.ink, bold=bool(row == 0)
        )
    if rng.random() < 0.6:
        ghost = (int(left + 14 * unit), int(rng.uniform(7, 14) * unit))
        ink.rosette(image, rng, ghost, rng.uniform(1.5, 3.5) * unit, ink.tint(rng.random(), 0.4, 0.8))


def _foot(image: Image, rng: np.random.Generator, unit: float) -> None:
    """Print two lines of machine-readable text, or a barcode, along the lower edge."""
    height, width = image.shape[:2]
    kind = rng.integers(3)
    if kind == 0:
        for row in range(2):
            names, numbers = (ink.word(rng), ink.word(rng, 3)), (ink.digits(rng, 1, 9), ink.digits(rng, 1, 5))
            line = "<".join([*names, "", *numbers, "", ink.word(rng)]).upper()
            baseline = int(height - (3 - 1.8 * row) * unit)
            ink.write(image, line, (int(unit), baseline), 1.15 * unit, (20, 20, 20), face=ink.MONO)
    elif kind == 1:
        ink.barcode(
            image, rng, (int(width * 0.5), int(height - 4 * unit), int(width * 0.44), int(2.8 * unit))
        )
    else:
        ink.matrix_code(image, rng, int(width - 7.5 * unit), int(height - 7.5 * unit), int(6 * unit))
