"""Effects between a print and an image file: light, focus, sensor and JPEG.

Arrays are float32 [h, w, 3] in 0 to 255 until the sensor. Each effect is scaled by `strength`: 0 is none.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Light = NDArray[np.float32]

_CELLS = (6, 12)  # of the coarse grid on which light is drawn


def photographed(scene: Light, rng: np.random.Generator, strength: float, focus: float) -> Image:
    """Return the scene as a phone's camera writes it.

    Args:
        scene: What is in front of the camera.
        rng: Draws the disturbances.
        strength: Scale of every disturbance.
        focus: Standard deviation of the blur in pixels at which a sharp text becomes hard to read.
    """
    if strength == 0:
        return np.asarray(np.clip(scene, 0, 255), np.uint8)
    return _compressed(
        _sensed(_blurred(_lit(scene, rng, strength), rng, strength * focus), rng, strength), rng, strength
    )


def _lit(scene: Light, rng: np.random.Generator, strength: float) -> Light:
    """Apply exposure, colour cast, contrast, a gradient, a shadow's edge and a stripe of glare."""
    height, width = scene.shape[:2]
    y, x = np.mgrid[-1 : 1 : _CELLS[0] * 1j, -1 : 1 : _CELLS[1] * 1j].astype(np.float32)
    light = 1 + strength * (rng.normal(0, 0.12) * x + rng.normal(0, 0.08) * y)
    if rng.random() < 0.3:
        turn, shift, soft = rng.uniform(0, 2 * np.pi), rng.uniform(-0.7, 0.7), rng.uniform(0.1, 0.6)
        side = (x * np.cos(turn) + y * np.sin(turn) - shift) / soft
        light *= 1 - strength * rng.uniform(0.1, 0.5) * (0.5 + 0.5 * np.tanh(side))
    gain = np.exp2(strength * (rng.normal(-0.15, 0.25) + rng.normal(0, 0.06, 3)))
    contrast = np.exp(strength * rng.normal(-0.05, 0.12))
    light = cv2.resize(light.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    lit = scene * np.float32(contrast) + np.float32(128 * (1 - contrast))
    lit *= light[..., None]
    lit *= gain.astype(np.float32)
    if rng.random() < 0.25:
        centre, reach = rng.uniform(-1, 1), rng.uniform(0.05, 0.3)
        stripe = np.exp(-(((x - centre + rng.uniform(-0.3, 0.3) * y) / reach) ** 2))
        glare = np.float32(strength * rng.uniform(30, 130)) * stripe
        lit += cv2.resize(glare.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.asarray(lit, np.float32)


def _blurred(scene: Light, rng: np.random.Generator, most: float) -> Light:
    """Defocus, and sometimes shake along a line."""
    blur = most * abs(rng.normal(0, 0.5))
    if blur > 0.25:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    if rng.random() < 0.2:
        length = max(1, round(most * rng.uniform(1, 3)))
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        turn = rng.uniform(0, np.pi)
        ends = [
            (
                round(length + sign * length / 2 * np.cos(turn)),
                round(length + sign * length / 2 * np.sin(turn)),
            )
            for sign in (-1, 1)
        ]
        cv2.line(kernel, ends[0], ends[1], (1.0,))
        scene = cv2.filter2D(scene, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return scene


def _sensed(scene: Light, rng: np.random.Generator, strength: float) -> Image:
    """Add noise, and lose the colours now and then."""
    noise = _noise(scene.size, rng).reshape(scene.shape)
    noisy = np.clip(scene + noise * np.float32(strength * abs(rng.normal(0, 6))), 0, 255).astype(np.uint8)
    if rng.random() < 0.1:
        noisy = np.repeat(cv2.cvtColor(noisy, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return noisy


def _noise(size: int, rng: np.random.Generator) -> Light:
    """Return normal noise: a piece of a tape, as drawing it would take half of a crop's time."""
    tape = _tape()
    if size > len(tape) // 2:
        return rng.standard_normal(size, np.float32)
    start = int(rng.integers(0, len(tape) - size))
    return tape[start : start + size]


@cache
def _tape() -> Light:
    return np.random.default_rng(0).standard_normal(2**20, np.float32)


def _compressed(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Write and read a JPEG of quality 35 to 95 (at strength 1)."""
    quality = int(np.clip(100 - strength * rng.uniform(5, 65), 5, 100))
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
