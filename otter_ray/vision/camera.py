"""Simulated photographs of documents, taken by hand and cropped roughly.

The camera is held at a slight angle over a table, in uneven light, with a shadow and glare. It focuses
badly, shakes, adds noise and writes a JPEG. It never mirrors a document or turns it upside down.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Light = NDArray[np.float32]
Pixel = TypeVar("Pixel", np.uint8, np.float32)

AREA, BILINEAR, PADDED = "area", "bilinear", "padded"  # ways to resize
_OVERSAMPLING = 2  # the scene has twice the final size: shrinking it is the lens's anti-aliasing


def capture(
    image: Image, rng: np.random.Generator, image_size: tuple[int, int], strength: float = 1.0
) -> Image:
    """Take one photograph of a clean document. The same state of `rng` makes the same pixels.

    Args:
        image: The document, uint8 [H, W, 3], RGB.
        rng: Draws the disturbances.
        image_size: (h, w) of the photograph in pixels.
        strength: Scale of every disturbance: 0 is a plain resize, 1 a hasty snapshot.

    Returns:
        The photograph, uint8 [h, w, 3].
    """
    height, width = image_size
    if strength == 0:
        return resize(image, image_size)
    scene = _shoot(image, rng, (height * _OVERSAMPLING, width * _OVERSAMPLING), strength)
    return develop(scene, rng, image_size, strength)


def develop(
    scene: Image, rng: np.random.Generator, image_size: tuple[int, int], strength: float = 1.0
) -> Image:
    """Light a scene uint8 [H, W, 3] and take it with a camera, as `capture` does."""
    lit = _illuminate(scene.astype(np.float32), rng, strength)
    sharp = resize(_defocus(lit, rng, strength), image_size)
    return _compress(_sensor(sharp, rng, strength), rng, strength)


def resize(image: NDArray[Pixel], size: tuple[int, int], resizing: str = AREA) -> NDArray[Pixel]:
    """Resize to `size` (h, w); the type is that of `image`.

    Args:
        image: [H, W, 3].
        size: (h, w) in pixels.
        resizing: `area` averages what becomes one pixel, when shrinking. `bilinear` looks at four pixels
            only, as many programs that use a model do: fine print turns into noise. `padded` does so after
            black has been added to a square.
    """
    image = _padded(image) if resizing == PADDED else image
    shrinking = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinking and resizing == AREA else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), dtype=image.dtype)


def _padded(image: NDArray[Pixel]) -> NDArray[Pixel]:
    """Add black on both sides, to a square."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), image.dtype)
    square[top : top + height, left : left + width] = image
    return square


def _shoot(image: Image, rng: np.random.Generator, size: tuple[int, int], strength: float) -> Image:
    """Put the document in perspective on a background."""
    height, width = size
    image = resize(image, size)  # warping only interpolates: shrink first
    page = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * np.array([width, height])
    corners = _corners(rng, strength) * np.array([width, height])
    matrix = cv2.getPerspectiveTransform(page.astype(np.float32), corners.astype(np.float32))
    scene = _background(rng, size)
    cv2.warpPerspective(
        image, matrix, (width, height), dst=scene, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    return scene


def _corners(rng: np.random.Generator, strength: float) -> NDArray[np.float64]:
    """Draw the document's corners, [4, 2] in fractions of the photograph, clockwise from top left.

    The crop is between 4 % too tight and 10 % too wide on each side.
    """
    crop = strength * rng.uniform(-0.04, 0.10, 4)
    left, top, right, bottom = crop[0], crop[1], 1 - crop[2], 1 - crop[3]
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    corners += strength * rng.uniform(-0.03, 0.03, (4, 2))
    turn = np.deg2rad(strength * rng.normal(0, 2.5))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.asarray((corners - 0.5) @ rotation + 0.5)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Draw a table top: one colour with large soft stains and grain along one direction."""
    height, width = size
    colour = rng.uniform(30, 230) + rng.uniform(-25, 25, 3)
    stains = cv2.resize(rng.normal(0, 14, (4, 4, 1)).astype(np.float32), (width, height))[..., None]
    grain = rng.normal(0, rng.uniform(2, 12), (height, 1, 1)) if rng.random() < 0.5 else 0.0
    table = colour + stains + grain + rng.normal(0, 4, (height, width, 1))
    return np.asarray(np.clip(table, 0, 255), dtype=np.uint8)


def _illuminate(scene: Light, rng: np.random.Generator, strength: float) -> Light:
    """Apply exposure, colour cast, contrast, a gradient of light, a shadow's edge and a patch of glare."""
    height, width = scene.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    # Phones expose for the page: too dark is more common than burnt out.
    gain = np.exp2(strength * (rng.normal(-0.15, 0.22) + rng.normal(0, 0.07, 3))).astype(np.float32)
    slope = strength * rng.normal(0, 0.15, 2)
    light = 1 + slope[0] * x + slope[1] * y
    if rng.random() < 0.35:
        light = light * _shadow(x, y, rng, strength)
    lit = (scene - 128) * float(np.exp(strength * rng.normal(0, 0.1))) + 128
    lit = lit * np.clip(light, 0.2, 2.0)[..., None] * gain
    if rng.random() < 0.3:
        lit = lit + _glare(x, y, rng, strength)[..., None]
    return np.asarray(np.clip(lit, 0, 255), dtype=np.float32)


def _shadow(x: Light, y: Light, rng: np.random.Generator, strength: float) -> Light:
    """Return factors in (0, 1]: a half plane with a soft edge is darker."""
    turn, shift, softness = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.8), rng.uniform(0.03, 0.3)
    side = (x * np.cos(turn) + y * np.sin(turn) - shift) / softness
    return np.asarray(1 - strength * rng.uniform(0.15, 0.45) * (0.5 + 0.5 * np.tanh(side)), dtype=np.float32)


def _glare(x: Light, y: Light, rng: np.random.Generator, strength: float) -> Light:
    """Return gray levels to add: the reflection of a lamp, an elongated Gaussian spot."""
    centre, reach, turn = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.1, 0.5, 2), rng.uniform(0, np.pi)
    along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    across = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
    spot = np.exp(-((along / reach[0]) ** 2) - (across / reach[1]) ** 2)
    return np.asarray(strength * rng.uniform(60, 200) * spot, dtype=np.float32)


def _defocus(scene: Light, rng: np.random.Generator, strength: float) -> Light:
    """Defocus by up to about 0.9 % of the width, and sometimes shake along a line."""
    blur = strength * abs(rng.normal(0, 0.0045)) * scene.shape[1]
    if blur > 0.3:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    if rng.random() < 0.3:
        length = strength * rng.uniform(0.005, 0.025) * scene.shape[1]
        scene = cv2.filter2D(
            scene, -1, _shake(length, rng.uniform(0, np.pi)), borderType=cv2.BORDER_REPLICATE
        )
    return scene


def _shake(length: float, turn: float) -> Light:
    """Return the kernel of a straight movement by `length` pixels in the direction `turn` (radians)."""
    radius = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    step = np.array([np.cos(turn), np.sin(turn)]) * length / 2
    start, end = (np.round((radius + sign * step) * 256).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_8, shift=8)
    soft = cv2.GaussianBlur(kernel, (3, 3), 0)
    return np.asarray(soft / soft.sum(), dtype=np.float32)


def _sensor(image: Light, rng: np.random.Generator, strength: float) -> Image:
    noise = rng.normal(0, 1, image.shape) * strength * abs(rng.normal(0, 5))
    return np.asarray(np.clip(image + noise, 0, 255), dtype=np.uint8)


def _compress(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Write and read a JPEG of quality 40 to 95 (at strength 1)."""
    quality = int(np.clip(100 - strength * rng.uniform(5, 60), 5, 100))
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
