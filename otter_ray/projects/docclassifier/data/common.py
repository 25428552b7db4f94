"""What the data sets share: the form of an item, and where documents come from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.vision.camera import AREA
from otter_ray.vision.dataset_options import option_key, require_one_source
from otter_ray.vision.image_cache import ImageTable
from otter_ray.vision.images import drawn_images, load_images, to_planes

Picture = Tensor | NDArray[np.uint8]
Item = tuple[Picture, int]


class HoldsOut(Protocol):
    """A data set whose documents others must leave out."""

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """Thumbnails, uint8 [N, 256], as `near_duplicates.thumbnails` makes them."""


def picture(image: NDArray[np.uint8], return_tensor: bool) -> Picture:
    """Return `image` (uint8 [h, w, 3]), or if a tensor is wanted float32 [3, h, w] in [0, 1]."""
    return to_planes(image) if return_tensor else image


def documents(
    root: str | None,
    drawn: int,
    drawn_seed: int,
    image_size: tuple[int, int],
    part: str,
    resizing: str = AREA,
) -> ImageTable:
    """Load the images below `root`, or draw `drawn` procedural ones; `resizing` as `camera.resize` has it.

    Raises:
        DataError: Neither or both are given, or the folder cannot be used.
    """
    require_one_source(root, drawn, part)
    if root is not None:
        return load_images(root, image_size, option_key("root", part), resizing)
    return drawn_images(drawn, drawn_seed, image_size, resizing)
