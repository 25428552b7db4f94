"""What the datasets share: the form of an item, the checks of their options, where documents come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.docclassifier.cache import ImageTable
from otter_ray.docclassifier.images import drawn_images, load_images
from otter_ray.errors import DataError

Picture = Tensor | NDArray[np.uint8]
Item = tuple[Picture, int]


class HoldsOut(Protocol):
    """A data set whose documents others must leave out."""

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """uint8 [N, 256], as `duplicates.thumbnails` makes them."""


def picture(image: NDArray[np.uint8], return_tensor: bool) -> Picture:
    """`image` (uint8 [h, w, 3]), or for a tensor float32 [3, h, w] in [0, 1]."""
    if not return_tensor:
        return image
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    planes /= 255.0
    return torch.from_numpy(planes)


def option_key(option: str, part: str) -> str:
    """The key of an option of the `train`, the `valid` or the `test` dataset in a config."""
    return f"dataset.{part}_options.options.{option}"


def require(holds: bool, option: str, value: float, rule: str, part: str = "valid") -> None:
    """DataError: an option does not obey its rule."""
    if not holds:
        raise DataError(f"{option_key(option, part)} is {value} but must be {rule}.")


def pair(image_size: Sequence[int]) -> tuple[int, int]:
    """(h, w) of what YAML wrote as a list."""
    height, width = image_size
    return int(height), int(width)


def documents(
    root: str | None, drawn: int, drawn_seed: int, image_size: tuple[int, int], part: str
) -> ImageTable:
    """The images below `root`, or `drawn` procedural ones. DataError: neither or both are given."""
    key = option_key("root", part)
    if (root is None) == (drawn <= 0):
        given = "neither is given" if root is None else f"both are given ({root!r} and {drawn})"
        raise DataError(
            f"Set exactly one of {key} (a folder) and {option_key('drawn', part)} (a number of documents): "
            f"{given}."
        )
    if root is not None:
        return load_images(root, image_size, key)
    return drawn_images(drawn, drawn_seed, image_size)
