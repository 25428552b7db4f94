"""Draw backgrounds for documents: tables, floors and cloth, with clutter on them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.vision.drawing import ornaments as ink

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Size = tuple[int, int]


def backdrop(rng: np.random.Generator, size: Size) -> Image:
    """Draw a surface uint8 [h, w, 3], or two that meet at a line, such as a table and the floor."""
    image = _surface(rng, size)
    if rng.random() < 0.3:
        other, mask = _surface(rng, size), _half(rng, size)
        image = np.where(mask[..., None], other, image)
        if rng.random() < 0.5:  # the shadow of the table's edge
            seam = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(size) * rng.uniform(0.01, 0.05))
            image = (image * (1 - rng.uniform(0.2, 0.7) * mask * (1 - seam))[..., None]).astype(np.uint8)
    return image


def crop(rng: np.random.Generator, photo: Image, size: Size) -> Image:
    """Cut a random part out of a photograph, and mirror or turn it."""
    height, width = photo.shape[:2]
    share = rng.uniform(0.4, 1, 2)
    tall, wide = max(2, int(height * share[0])), max(2, int(width * share[1]))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    part = photo[top : top + tall, left : left + wide]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    if rng.random() < 0.15:
        part = np.rot90(part, int(rng.integers(1, 4)))
    return np.asarray(
        cv2.resize(np.ascontiguousarray(part), size[::-1], interpolation=cv2.INTER_AREA), np.uint8
    )


def _surface(rng: np.random.Generator, size: Size) -> Image:
    kinds: list[Callable[[np.random.Generator, Size], Field]] = [
        _plain,
        _wood,
        _cloth,
        _tiles,
        _marble,
        _rough,
    ]
    return np.clip(kinds[rng.choice(6, p=[0.25, 0.33, 0.12, 0.08, 0.1, 0.12])](rng, size), 0, 255).astype(
        np.uint8
    )


def _noise(rng: np.random.Generator, size: Size, cells: Size, spread: float) -> Field:
    """Return smooth noise of so many cells, [h, w, 1]."""
    cells = (min(cells[0], size[0]), min(cells[1], size[1]))
    grid = rng.normal(0, spread, cells).astype(np.float32)
    return np.asarray(cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR))[..., None]


def _colour(rng: np.random.Generator) -> Field:
    """Draw a colour of furniture: most is gray, brown, white or black."""
    value, saturation = rng.uniform(15, 250), abs(rng.normal(0, 0.22))
    if rng.random() < 0.25:  # a white or a black desk
        value = rng.choice([rng.uniform(205, 252), rng.uniform(8, 50)])
    hue = rng.normal(0.08, 0.05) if rng.random() < 0.55 else rng.random()
    return np.array(ink.tint(hue, min(saturation, 0.9), value / 255), np.float32)


def _plain(rng: np.random.Generator, size: Size) -> Field:
    stains = _noise(rng, size, (4, 4), rng.uniform(0, 14))
    return _colour(rng) + stains + _noise(rng, size, size, rng.uniform(0, 5))


def _wood(rng: np.random.Generator, size: Size) -> Field:
    """Draw planks with grain along them, from bright beech to dark oak."""
    turned = rng.random() < 0.5
    height, width = size[::-1] if turned else size
    tone = ink.tint(rng.normal(0.075, 0.02), rng.uniform(0.15, 0.75), rng.uniform(0.2, 0.97))
    grain = _noise(rng, (height, width), (height, 3), rng.uniform(2, 16))
    grain = grain + _noise(rng, (height, width), (max(2, height // 6), 2), rng.uniform(2, 18))
    if rng.random() < 0.5:  # rings
        bend = _noise(rng, (height, width), (3, 4), rng.uniform(0.5, 2.5))
        lines = np.linspace(0, rng.uniform(4, 30), height, dtype=np.float32)[:, None, None]
        grain = grain + rng.uniform(3, 14) * np.sin(6.28 * (lines + bend))
    plank = np.array(tone, np.float32) * (1 + grain / 160)
    if rng.random() < 0.5:
        for y in np.arange(rng.uniform(0, 0.3), 1, rng.uniform(0.12, 0.5)):
            row = int(y * height)
            plank[row:] *= rng.uniform(0.9, 1.1)
            plank[row : row + max(1, height // 100)] *= rng.uniform(0.4, 0.85)
    return np.ascontiguousarray(plank.transpose(1, 0, 2)) if turned else plank


def _cloth(rng: np.random.Generator, size: Size) -> Field:
    """Draw stripes or checks."""
    first, second = _colour(rng), _colour(rng)
    y, x = (np.linspace(0, rng.uniform(2, 20), side, dtype=np.float32) for side in size)
    turn = rng.uniform(-0.5, 0.5)
    down, across = np.sin(6.28 * (y[:, None] + turn * x)), np.sin(6.28 * (x - turn * y[:, None]))
    wave = down * across if rng.random() < 0.6 else down
    if rng.random() < 0.5:
        wave = np.sign(wave)
    share = (0.5 + 0.5 * wave[..., None]) * rng.uniform(0.2, 1)
    mixed = first + (second - first) * share + _noise(rng, size, size, rng.uniform(0, 12))
    return np.asarray(mixed, np.float32)


def _tiles(rng: np.random.Generator, size: Size) -> Field:
    image = _colour(rng) + _noise(rng, size, (9, 9), rng.uniform(0, 12))
    line = _colour(rng)
    for axis in (0, 1):
        step = size[axis] * rng.uniform(0.12, 0.5)
        for place in np.arange(rng.uniform(0, step), size[axis], step).astype(int):
            wide = slice(place, place + max(1, size[axis] // 80))
            image[wide if axis == 0 else (slice(None), wide)] = line
    return image


def _marble(rng: np.random.Generator, size: Size) -> Field:
    image = _colour(rng) + _noise(rng, size, (3, 3), 12)
    veins = sum(_noise(rng, size, (cells, cells), 1 / 2**power) for power, cells in enumerate((4, 9, 20, 45)))
    veined = image + rng.uniform(-60, 60) * np.exp(-np.abs(np.asarray(veins)) * rng.uniform(2, 9))
    return np.asarray(veined, np.float32)


def _rough(rng: np.random.Generator, size: Size) -> Field:
    """Draw a carpet, gravel or grass: noise of two sizes and several colours."""
    cells = max(4, int(max(size) * rng.uniform(0.15, 0.5)))
    image = _colour(rng) + _noise(rng, size, size, rng.uniform(6, 30)) + _noise(rng, size, (cells, cells), 18)
    return image + _noise(rng, size, (cells, cells), rng.uniform(0, 18)) * rng.uniform(-1, 1, 3).astype(
        np.float32
    )


def _half(rng: np.random.Generator, size: Size) -> NDArray[np.bool_]:
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    turn = rng.choice(4) * np.pi / 2 + rng.normal(0, 0.2)
    return np.asarray(np.cos(turn) * x + np.sin(turn) * y > rng.uniform(0.1, 0.9))


def add_clutter(rng: np.random.Generator, image: Image, count: int) -> None:
    """Put things on a surface: none looks like a whole document that somebody wants to photograph."""
    for _ in range(count):
        (_box, _disc, _pen, _cable, _keys)[rng.choice(5, p=[0.35, 0.2, 0.2, 0.15, 0.1])](rng, image)


def _box(rng: np.random.Generator, image: Image) -> None:
    """Draw a book, a telephone or a sheet: small, or cut off by the frame."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        centre = rng.uniform(0, 1, 2) * (width, height)
        sides = rng.uniform(0.04, 0.2, 2) * min(size_of(image))
    else:
        side = int(rng.integers(4))
        along = rng.uniform(-0.1, 1.1)
        out = rng.uniform(0.0, 0.12)
        centre = np.array([(along, -out), (1 + out, along), (along, 1 + out), (-out, along)][side]) * (
            width,
            height,
        )
        sides = rng.uniform(0.15, 0.5, 2) * min(size_of(image))
    corners = _turned(rng, centre, sides)
    colour = _colour(rng) if rng.random() < 0.65 else rng.uniform(170, 255) + rng.normal(0, 4, 3)
    _shadowed(rng, image, corners, colour)
    if rng.random() < 0.5:  # a title, a screen or lines of text
        inner = corners.mean(0) + (corners - corners.mean(0)) * rng.uniform(0.3, 0.9)
        shade = tuple(float(part) for part in np.clip(colour + rng.uniform(-90, 90), 0, 255))
        if rng.random() < 0.5:
            cv2.fillPoly(image, [_fixed(inner)], shade, cv2.LINE_AA, shift=4)
        else:
            for share in np.linspace(0, 1, int(rng.integers(2, 9))):
                start, end = (
                    inner[0] + share * (inner[3] - inner[0]),
                    inner[1] + share * (inner[2] - inner[1]),
                )
                cv2.line(image, _fixed(start).tolist(), _fixed(end).tolist(), shade, 1, cv2.LINE_AA, 4)


def _disc(rng: np.random.Generator, image: Image) -> None:
    """Draw a cup, a coin or a plate."""
    height, width = image.shape[:2]
    centre, reach = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.02, 0.16) * min(size_of(image))
    axes = np.array([reach, reach * rng.uniform(0.6, 1)])
    for share in (1.0, rng.uniform(0.6, 0.9), rng.uniform(0.2, 0.6)):
        colour = tuple(float(part) for part in np.clip(_colour(rng), 0, 255))
        cv2.ellipse(
            image,
            _fixed(centre).tolist(),
            _fixed(axes * share).tolist(),
            0,
            0,
            360,
            colour,
            -1,
            cv2.LINE_AA,
            4,
        )
        if rng.random() < 0.4:
            break


def _pen(rng: np.random.Generator, image: Image) -> None:
    height, width = image.shape[:2]
    centre = rng.uniform(0, 1, 2) * (width, height)
    sides = np.array([rng.uniform(0.15, 0.6), rng.uniform(0.008, 0.035)]) * min(size_of(image))
    _shadowed(rng, image, _turned(rng, centre, sides, free=True), _colour(rng))


def _cable(rng: np.random.Generator, image: Image) -> None:
    height, width = image.shape[:2]
    knots = np.cumsum(rng.normal(0, 0.25, (4, 2)), axis=0) + rng.uniform(0, 1, 2)
    share = np.linspace(0, 1, 24)[:, None]
    a, b, c, d = knots
    curve = (
        (1 - share) ** 3 * a
        + 3 * share * (1 - share) ** 2 * b
        + 3 * share**2 * (1 - share) * c
        + share**3 * d
    )
    colour = tuple(float(part) for part in _colour(rng))
    thick = max(1, int(rng.uniform(0.004, 0.02) * min(size_of(image))))
    cv2.polylines(image, [_fixed(curve * (width, height))], False, colour, thick, cv2.LINE_AA, 4)


def _keys(rng: np.random.Generator, image: Image) -> None:
    """Draw rows of keys, as of a keyboard or a calculator, at the frame."""
    height, width = image.shape[:2]
    step = rng.uniform(0.03, 0.08) * min(size_of(image))
    left, top = (
        rng.uniform(-0.2, 0.9) * width,
        rng.choice([rng.uniform(-0.1, 0.1), rng.uniform(0.8, 1)]) * height,
    )
    base, key = _colour(rng), _colour(rng)
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(3, 12))
    box = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]]) * step + (left, top)
    cv2.fillPoly(image, [_fixed(box)], tuple(map(float, base)), cv2.LINE_AA, shift=4)
    cell = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]) * step
    starts = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), 2).reshape(-1, 1, 2) * step
    cells = [*_fixed(cell + starts + (left, top))]
    cv2.fillPoly(image, cells, tuple(map(float, key)), cv2.LINE_AA, shift=4)


def _shadowed(
    rng: np.random.Generator, image: Image, corners: NDArray[np.float64], colour: NDArray[np.floating]
) -> None:
    if rng.random() < 0.6:
        shift = rng.normal(0, 0.012, 2) * min(size_of(image))
        dark = image // 2
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [_fixed(corners + shift)], 255, cv2.LINE_AA, shift=4)
        image[:] = np.where(mask[..., None] > 0, dark, image)
    cv2.fillPoly(
        image, [_fixed(corners)], tuple(float(part) for part in np.clip(colour, 0, 255)), cv2.LINE_AA, 4
    )


def _turned(
    rng: np.random.Generator, centre: NDArray[np.float64], sides: NDArray[np.float64], free: bool = False
) -> NDArray[np.float64]:
    turn = rng.uniform(0, 6.28) if free else rng.normal(0, 0.35)
    box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * sides / 2
    return np.asarray(box @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + centre)


def _fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Return positions as OpenCV draws them with `shift=4`."""
    return np.round(np.asarray(points) * 16).astype(np.int32)


def size_of(image: Image) -> Size:
    """Return (h, w)."""
    return image.shape[0], image.shape[1]
