"""The data set: drawn sheets, so that the project runs as it is. Replace it by yours."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])  # top left first, clockwise


class Sheets(Dataset[tuple[Tensor, Tensor]]):
    """`count` images (float32 [3, h, w], RGB in [0, 1]), each with the corners of the sheet that it shows.

    Corners are float32 [4, 2]: (x, y) in fractions of the width and the height, from top left clockwise.

    Args:
        image_size: (h, w) in pixels; otter_ray passes that of the config's `common`.
        count: Number of images.
        seed: Another seed draws other images.
        noise: Standard deviation, in units of the full scale.
    """

    disjoint_by = "seed"  # training, validation and test set must differ in this option

    def __init__(self, image_size: tuple[int, int], *, count: int, seed: int = 0, noise: float = 0.1) -> None:
        self.image_size, self.count, self.seed, self.noise = image_size, count, seed, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        image, corners = draw(self.image_size, np.random.default_rng([self.seed, index]), self.noise)
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255), torch.from_numpy(corners)


def draw(
    image_size: tuple[int, int], rng: np.random.Generator, noise: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw a light sheet on a dark ground, uint8 [h, w, 3], RGB, and return it with its corners."""
    height, width = image_size
    angle = rng.uniform(-0.35, 0.35)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    half = rng.uniform(0.18, 0.3, 2)
    outline = (CORNERS * half + rng.uniform(-0.05, 0.05, (4, 2))) @ turn + rng.uniform(0.42, 0.58, 2)
    image = np.full((height, width, 3), rng.uniform(0, 110, 3), np.float32)
    pixels = np.round(16 * (outline * [width, height] - 0.5)).astype(np.int32)  # in sixteenths
    cv2.fillPoly(image, [pixels], rng.uniform(150, 255, 3).tolist(), cv2.LINE_AA, 4)
    image += rng.normal(0, 255 * noise, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), outline.astype(np.float32)
