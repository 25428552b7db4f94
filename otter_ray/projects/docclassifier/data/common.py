"""What the data sets share: the form of an item, and where documents come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.options import option_key
from otter_ray.vision.camera import AREA
from otter_ray.vision.image_cache import ImageTable
from otter_ray.vision.images import drawn_images, load_images

Picture = Tensor | NDArray[np.uint8]
Item = tuple[Picture, int]


class HoldsOut(Protocol):
    """A data set whose documents others must leave out."""

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """Thumbnails, uint8 [N, 256], as `near_duplicates.thumbnails` makes them."""


def picture(image: NDArray[np.uint8], return_tensor: bool) -> Picture:
    """Return `image` (uint8 [h, w, 3]), or if a tensor is wanted float32 [3, h, w] in [0, 1]."""
    if not return_tensor:
        return image
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    planes /= 255.0
    return torch.from_numpy(planes)


def pair(image_size: Sequence[int]) -> tuple[int, int]:
    """Return (h, w) of what YAML wrote as a list."""
    height, width = image_size
    return int(height), int(width)


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
    key = option_key("root", part)
    if (root is None) == (drawn <= 0):
        given = "neither is given" if root is None else f"both are given ({root!r} and {drawn})"
        raise DataError(
            f"Set exactly one of {key} (a folder) and {option_key('drawn', part)} (a number of documents): "
            f"{given}."
        )
    if root is not None:
        return load_images(root, image_size, key, resizing)
    return drawn_images(drawn, drawn_seed, image_size, resizing)
