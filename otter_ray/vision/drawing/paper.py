"""Empty documents: gradients, security patterns, and the artwork of bank cards."""

from __future__ import annotations

import cv2
import numpy as np

from otter_ray.vision.drawing import ornaments as ink
from otter_ray.vision.drawing.family import Family
from otter_ray.vision.drawing.ornaments import Colour, Image


def blank_paper(family: Family, rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw the empty document: a gradient that the family shares, and its security pattern."""
    height, width = shape
    first, second = (np.array(colour, np.float32) for colour in family.paper)
    slope, down = rng.uniform(0.0, 1.0, 2)
    across = np.linspace(0, 1, width)[None, :, None]
    below = np.linspace(down > 0.5, down <= 0.5, height)[:, None, None]
    blend = slope * across + (1 - slope) * below
    shades = first + (second - first) * blend + rng.normal(0, 3, 3)
    image = np.asarray(np.clip(shades, 0, 255), dtype=np.uint8)
    if family.kind == "bank":
        _artwork(image, family, rng)
    else:
        if family.kind == "identity":
            _scenery(image, family, rng)
        waves = np.random.default_rng(family.waves_seed)
        ink.guilloche(image, waves, family.accent, family.lines, 0.12 if family.kind == "form" else 0.3)
    return image


def _scenery(image: Image, family: Family, rng: np.random.Generator) -> None:
    """Draw a pale picture behind the fields of an identity card."""
    darker = [np.multiply(colour, rng.uniform(0.55, 0.85)).tolist() for colour in family.paper]
    field = ink.smooth_field(rng, image.shape[:2], int(rng.integers(3, 6)), [*family.paper, *darker])
    _blend(field, image, rng.uniform(0.2, 0.9))
    emblem = int(image.shape[1] * rng.uniform(0.3, 0.9)), int(image.shape[0] * rng.uniform(0.3, 0.8))
    layer = image.copy()
    ink.rosette(layer, rng, emblem, image.shape[0] * rng.uniform(0.15, 0.35), family.accent)
    _blend(layer, image, 0.3)


def _artwork(image: Image, family: Family, rng: np.random.Generator) -> None:
    """Draw the picture on a bank card: a landscape of blobs, large shapes, waves, or several of them."""
    height, width = image.shape[:2]
    field = rng.random() < 0.6
    if field:
        colours = [*family.paper, family.accent, ink.tint(rng.random(), 0.6, rng.uniform(0.2, 0.9))]
        _blend(
            ink.smooth_field(rng, (height, width), int(rng.integers(3, 7)), colours),
            image,
            rng.uniform(0.3, 0.8),
        )
    for _ in range(rng.integers(0 if field else 2, 5)):
        colour = family.accent if rng.random() < 0.5 else ink.tint(rng.random(), rng.random(), rng.random())
        centre = int(width * rng.uniform(0.1, 0.9)), int(height * rng.uniform(0.1, 0.9))
        layer = image.copy()
        _shape(layer, rng, centre, colour)
        _blend(layer, image, rng.uniform(0.35, 0.9))
    if rng.random() < 0.5:
        ink.guilloche(image, rng, family.accent, family.lines, rng.uniform(0.3, 0.7))


def _shape(image: Image, rng: np.random.Generator, centre: tuple[int, int], colour: Colour) -> None:
    """Draw one large ellipse, polygon, rosette or ribbon."""
    size = image.shape[0] * rng.uniform(0.12, 0.45)
    kind = rng.integers(4)
    if kind == 0:
        axes = int(size), int(size * rng.uniform(0.4, 1))
        cv2.ellipse(image, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    elif kind == 1:
        turns = np.sort(rng.uniform(0, 6.28, rng.integers(3, 7)))
        corners = np.stack([centre[0] + size * np.cos(turns), centre[1] + size * np.sin(turns)], axis=1)
        cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    elif kind == 2:
        ink.rosette(image, rng, centre, size, colour)
    else:
        end = int(centre[0] + size * rng.normal()), int(centre[1] + 2 * size * rng.normal())
        cv2.line(image, centre, end, colour, int(size * 0.4), cv2.LINE_AA)


def _blend(layer: Image, image: Image, opacity: float) -> None:
    cv2.addWeighted(layer, opacity, image, 1 - opacity, 0, dst=image)
