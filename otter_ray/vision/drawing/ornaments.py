"""The pieces that `drawing` composes documents from, each drawn in place on an RGB canvas.

Every function takes the generator it draws its chances from; lengths are in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, width, height

PLAIN, SERIF, MONO = cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_DUPLEX
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnprstvz"


def word(rng: np.random.Generator, syllables: int = 2) -> str:
    """Make up a pronounceable word: 'Kamilo'."""
    pairs = (_CONSONANTS[rng.integers(17)] + _VOWELS[rng.integers(5)] for _ in range(syllables))
    return "".join(pairs).capitalize()


def digits(rng: np.random.Generator, groups: int, size: int, separator: str = " ") -> str:
    """Draw groups of random digits: '4021 7730'."""
    return separator.join("".join(str(digit) for digit in rng.integers(0, 10, size)) for _ in range(groups))


def tint(hue: float, saturation: float, value: float) -> Colour:
    """Convert a hue in turns, a saturation and a value in [0, 1] to RGB in 0-255."""
    pixel = np.array([[[hue % 1.0 * 360.0, np.clip(saturation, 0, 1), np.clip(value, 0, 1)]]], np.float32)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0] * 255.0
    return int(red), int(green), int(blue)


def write(
    image: Image,
    text: str,
    at: tuple[int, int],
    height: float,
    colour: Colour,
    *,
    face: int = PLAIN,
    bold: bool = False,
) -> None:
    """Write text that starts at `at` (left, baseline), with capitals about `height` pixels tall."""
    cv2.putText(image, text, at, face, height / 21.0, colour, 2 if bold else 1, cv2.LINE_AA)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cells: int, colours: ArrayLike) -> Image:
    """Blend random cells smoothly between `colours` ([K, 3]), [H, W, 3]."""
    palette = np.asarray(colours, np.float32)
    grid = palette[rng.integers(0, len(palette), (cells, cells))]
    field = cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(field, 0, 255), dtype=np.uint8)


def guilloche(image: Image, rng: np.random.Generator, colour: Colour, lines: int, opacity: float) -> None:
    """Draw interlaced sine waves over the whole canvas, as on security paper."""
    height, width = image.shape[:2]
    x = np.linspace(0, 1, 60)
    layer = image.copy()
    waves, phase, swing = rng.uniform(1, 5, 2), rng.uniform(0, 6.3, 2), height * rng.uniform(0.05, 0.3)
    for line in range(lines):
        turn = 6.28 * line / lines
        y = np.sin(6.28 * waves[0] * x + phase[0] + turn) + np.sin(6.28 * waves[1] * x + phase[1] - turn)
        _stroke(layer, x * width, height * (line + 0.5) / lines + swing * y / 2, colour)
    cv2.addWeighted(layer, opacity, image, 1 - opacity, 0, dst=image)


def rosette(
    image: Image, rng: np.random.Generator, centre: tuple[int, int], radius: float, colour: Colour
) -> None:
    """Draw a spirograph flower, the emblem of a bank or a state."""
    turns = np.linspace(0, 6.2832, 200)
    petals, depth = int(rng.integers(3, 12)), rng.uniform(0.2, 0.6)
    reach = radius * (1 - depth / 2 + depth / 2 * np.cos(petals * turns))
    points = np.stack([centre[0] + reach * np.cos(turns), centre[1] + reach * np.sin(turns)], axis=1)
    outline = [np.round(points * 8).astype(np.int32)]
    if rng.random() < 0.5:
        cv2.fillPoly(image, outline, colour, cv2.LINE_AA, shift=3)
        cv2.circle(image, centre, int(radius * rng.uniform(0.15, 0.4)), (255, 255, 255), -1, cv2.LINE_AA)
    else:
        cv2.polylines(image, outline, True, colour, max(1, int(radius / 8)), cv2.LINE_AA, shift=3)
        cv2.circle(image, centre, int(radius * rng.uniform(0.2, 0.5)), colour, -1, cv2.LINE_AA)


def portrait(rng: np.random.Generator, width: int, height: int) -> Image:
    """Draw a soft photograph of somebody, [height, width, 3]."""
    backdrop = rng.integers(150, 250)
    photo = smooth_field(rng, (96, 72), 3, rng.integers(backdrop - 40, backdrop, (3, 3)))
    skin = tint(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.45, 0.95))
    hair = tint(rng.uniform(0.02, 0.12), rng.uniform(0.1, 0.7), rng.uniform(0.05, 0.6))
    clothes = tint(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.95))
    x, y = int(rng.integers(32, 41)), int(rng.integers(38, 46))
    head = (int(rng.integers(14, 20)), int(rng.integers(19, 26)))
    long_hair, neck = int(rng.integers(0, 13)), tuple(int(part * 0.9) for part in skin)
    _disc(photo, (x, y + long_hair - 4), (head[0] + 5, head[1] + long_hair + 3), hair)
    _disc(photo, (x, 100), (int(rng.integers(26, 38)), int(rng.integers(26, 36))), clothes)
    cv2.rectangle(photo, (x - 7, y + 10), (x + 7, y + 32), neck, -1)
    _disc(photo, (x, y + 3), head, skin)
    cv2.ellipse(photo, (x, y - head[1] + 9), (head[0], int(rng.integers(5, 12))), 0, 180, 360, hair, -1)
    for side in (-1, 1):
        _disc(photo, (x + side * head[0] // 2, y), (3, 2), (40, 30, 30))
    cv2.line(photo, (x - 5, y + 15), (x + 5, y + 15), (150, 70, 70), 2, cv2.LINE_AA)
    photo = cv2.GaussianBlur(photo, (0, 0), 1.2)
    return np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _disc(image: Image, centre: tuple[int, int], axes: tuple[int, int], colour: Colour) -> None:
    cv2.ellipse(image, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def paste(image: Image, patch: Image, left: int, top: int) -> None:
    """Put `patch` at (left, top), cut off at the canvas's edge."""
    room = image[top : top + patch.shape[0], left : left + patch.shape[1]]
    room[:] = patch[: room.shape[0], : room.shape[1]]


def barcode(image: Image, rng: np.random.Generator, box: Box, colour: Colour = (20, 20, 20)) -> None:
    """Draw black bars on white."""
    left, top, width, height = box
    bars = np.repeat(rng.random(width // 2 + 1) < 0.5, 2)[:width]
    row = np.where(bars[:, None], colour, 255).astype(np.uint8)
    paste(image, np.broadcast_to(row, (height, width, 3)), left, top)


def matrix_code(image: Image, rng: np.random.Generator, left: int, top: int, size: int) -> None:
    """Draw a square code with three finder corners."""
    cells = (rng.random((21, 21)) < 0.5).astype(np.uint8)
    finder = np.ones((7, 7), np.uint8)
    finder[1:6, 1:6] = 0
    finder[2:5, 2:5] = 1
    cells[:7, :7] = cells[:7, -7:] = cells[-7:, :7] = finder
    pixels = cv2.resize((1 - cells) * 255, (size, size), interpolation=cv2.INTER_NEAREST)
    paste(image, np.repeat(pixels[:, :, None], 3, axis=2), left, top)


def stamp(
    image: Image, rng: np.random.Generator, centre: tuple[int, int], radius: int, colour: Colour
) -> None:
    """Draw a rubber stamp: two rings and a word, half transparent."""
    layer = image.copy()
    cv2.circle(layer, centre, radius, colour, 2, cv2.LINE_AA)
    cv2.circle(layer, centre, int(radius * 0.75), colour, 1, cv2.LINE_AA)
    left, baseline = centre[0] - int(radius * 0.65), centre[1] + radius // 8
    write(layer, word(rng).upper(), (left, baseline), radius * 0.3, colour, bold=True)
    cv2.addWeighted(layer, 0.7, image, 0.3, 0, dst=image)


def signature(image: Image, rng: np.random.Generator, box: Box, colour: Colour) -> None:
    """Draw a scribble that roughly fills the box."""
    left, top, width, height = box
    t = np.linspace(0, 1, 50)
    waves, phase = rng.uniform(2, 8, 3), rng.uniform(0, 6.3, 3)
    y = np.sin(6.28 * waves[0] * t + phase[0]) * (1.1 - t) + 0.5 * np.sin(6.28 * waves[1] * t + phase[1])
    x = t + 0.06 * np.sin(6.28 * waves[2] * t + phase[2])
    _stroke(image, left + width * x, top + height * (0.5 + 0.3 * y), colour)


def _stroke(image: Image, x: NDArray[np.float64], y: NDArray[np.float64], colour: Colour) -> None:
    """Draw a thin open line through (x, y), to an eighth of a pixel."""
    points = np.round(np.stack([x, y], axis=1) * 8).astype(np.int32)
    cv2.polylines(image, [points], False, colour, 1, cv2.LINE_AA, shift=3)
