"""Otter's mixins for albumentations' transforms, which fill at random what a transform leaves empty.

    class Affine(BorderValueMixin, A.Affine): ...
    class CoarseDropout(FillValueMixin, A.CoarseDropout): ...

albumentations uses one border mode and one fill colour for every image, and a model learns to recognize them.
Both mixins draw new ones at each call, from the transform's own `py_random`: a seeded `Compose` stays
deterministic, and a pickled transform continues as its original would. They do not work in `ReplayCompose`,
which stores no fill.
"""

from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np

BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT)
_INPUTS = ("volume", "volumes", "image", "images")  # in the order in which albumentations looks for a shape


class FillValueMixin:
    """Comes before a transform that fills with `self.fill`, such as one that cuts holes.

    At each call that applies the transform, `fill` is one random colour of the input's channels: integers 0
    to 255, or numbers in [0, 1] for a floating-point image. The argument `fill` is never used.
    """

    fill: tuple[float, ...]
    py_random: random.Random

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw, which albumentations has done once before each application."""
        self.fill = self._random_colour(params, data)
        return dict(super().get_params_dependent_on_data(params, data))  # type: ignore[misc]

    def _random_colour(self, params: dict[str, Any], data: dict[str, Any]) -> tuple[float, ...]:
        channels = params["shape"][-1] if len(params["shape"]) > 2 else 1
        colour = tuple(self.py_random.randint(0, 255) for _ in range(channels))
        pixels = data[next(name for name in _INPUTS if name in data)]
        return tuple(value / 255 for value in colour) if np.asarray(pixels).dtype.kind == "f" else colour


class BorderValueMixin(FillValueMixin):
    """Comes before a transform that warps with `self.border_mode` and `self.fill`.

    At each call that applies the transform, the area that the warp uncovers is filled with one random colour
    (as in FillValueMixin), by extending the edge, or with a mirror image: each a third of the time. The
    arguments `border_mode` and `fill` are never used.
    """

    border_mode: int

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw, which albumentations has done once before each application."""
        self.border_mode = self.py_random.choice(BORDERS)
        return super().get_params_dependent_on_data(params, data)
