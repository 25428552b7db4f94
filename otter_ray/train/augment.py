"""Otter's mixins for albumentations' transforms: what a transform leaves empty is filled at random.

    class Affine(BorderValueMixin, A.Affine): ...
    class CoarseDropout(FillValueMixin, A.CoarseDropout): ...

albumentations takes one border mode and one fill colour for good; a model then learns to know them. Both
mixins draw anew at each call, from the transform's own `py_random`: a seeded `Compose` stays deterministic,
and a pickled transform goes on as its original would. Not for `ReplayCompose`, which stores no fill.
"""

from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np

BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT)
_INPUTS = ("volume", "volumes", "image", "images")  # in the order in which albumentations looks for a shape


class FillValueMixin:
    """Stands before a transform that fills with `self.fill`, such as those that cut holes.

    At each call that applies the transform, `fill` is one random colour of the input's channels: integers 0
    to 255, or numbers in [0, 1] for a floating-point image. What was given as `fill` is never used.
    """

    fill: tuple[float, ...]
    py_random: random.Random

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """albumentations calls this once before each application."""
        self.fill = self._random_colour(params, data)
        return dict(super().get_params_dependent_on_data(params, data))  # type: ignore[misc]

    def _random_colour(self, params: dict[str, Any], data: dict[str, Any]) -> tuple[float, ...]:
        channels = params["shape"][-1] if len(params["shape"]) > 2 else 1
        colour = tuple(self.py_random.randint(0, 255) for _ in range(channels))
        pixels = data[next(name for name in _INPUTS if name in data)]
        return tuple(value / 255 for value in colour) if np.asarray(pixels).dtype.kind == "f" else colour


class BorderValueMixin(FillValueMixin):
    """Stands before a transform that warps with `self.border_mode` and `self.fill`.

    At each call that applies the transform, what the warp uncovers is filled with one random colour (as
    FillValueMixin's), by drawing out the edge, or with a mirror image: each a third of the time. What was
    given as `border_mode` and `fill` is never used.
    """

    border_mode: int

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """albumentations calls this once before each application."""
        self.border_mode = self.py_random.choice(BORDERS)
        return super().get_params_dependent_on_data(params, data)
