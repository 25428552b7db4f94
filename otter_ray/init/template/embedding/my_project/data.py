"""The data set: drawn marks, so that the project runs as it is. Replace it by yours."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

STROKES = 5  # of a mark


class Marks(Dataset[tuple[Tensor, int]]):
    """`count` images (float32 [3, h, w], RGB in [0, 1]), each with the number of the mark that it shows.

    Sets with different seeds show different marks: a model is validated on marks that it never saw.

    Args:
        image_size: (h, w) in pixels; otter_ray passes that of the config's `common`.
        count: Number of images.
        classes: Number of marks.
        seed: Another seed draws other marks.
        noise: Standard deviation, in units of the full scale.
    """

    disjoint_by = "seed"  # training, validation and test set must differ in this option

    def __init__(
        self, image_size: tuple[int, int], *, count: int, classes: int, seed: int = 0, noise: float = 0.1
    ) -> None:
        self.image_size, self.count, self.seed, self.noise = image_size, count, seed, noise
        self.num_classes = classes  # used if the config says -1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        label = index % self.num_classes
        image = draw(label, self.image_size, np.random.default_rng([self.seed, index]), self.noise, self.seed)
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255), label


def draw(
    label: int, image_size: tuple[int, int], rng: np.random.Generator, noise: float, seed: int
) -> NDArray[np.uint8]:
    """Draw mark `label` of a seed, at any size and angle, in any ink: uint8 [h, w, 3], RGB."""
    mark = np.random.default_rng([seed, label])
    height, width = image_size
    image = np.full((height, width, 3), rng.uniform(145, 255, 3), np.float32)
    ink = rng.uniform(0, 110, 3).tolist()
    angle, size = rng.uniform(-0.3, 0.3), rng.uniform(0.35, 0.5) * min(image_size)
    turn = size * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for _ in range(STROKES):
        ends = mark.uniform(-0.9, 0.9, (2, 2)) @ turn + [width / 2, height / 2]
        first, second = np.round(ends).astype(int).tolist()
        cv2.line(image, first, second, ink, 2)
    image += rng.normal(0, 255 * noise, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)
