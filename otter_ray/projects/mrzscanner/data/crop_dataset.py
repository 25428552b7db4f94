"""Drawn crops of zones: what the recogniser trains on, and is measured with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.projects.mrzscanner.data import ocr_b
from otter_ray.projects.mrzscanner.data.crops import draw_crop
from otter_ray.projects.mrzscanner.data.options import chosen_formats, require, require_readable
from otter_ray.projects.mrzscanner.text.icao import FORMATS, random_text, random_zone
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS
from otter_ray.train.shared_epoch import shared_epoch

Item = tuple[Tensor, dict[str, Tensor]]


def to_planes(image: NDArray[np.uint8]) -> Tensor:
    """Return an image uint8 [h, w, 3] as float32 [3, h, w] in [0, 1]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    planes /= 255
    return torch.from_numpy(planes)


class CropDataset(Dataset[Item]):
    """Crops of drawn zones, RGB float32 [3, h, w] in [0, 1], each with its text and place.

    The text is int64 [93], in the recogniser's keys. The zone is float32 [4, 2]: the corners of its cells in
    fractions of the crop's sides, clockwise from top left.

    Args:
        image_size: (h, w) of a crop in pixels.
        formats: Names of the formats to draw, each as often as the others.
        share_random: Share of zones, 0 to 1, of random characters. The others are made up by ICAO 9303: the
            more there are, the more a model guesses what it cannot read.
        length_of_dataset: Number of crops.
        strength: Scale of every disturbance, 0 to 1: 0 draws clean and exact crops.
        seed: Seed of the crops. Data sets of different seeds have no zone in common.
        frozen: Whether all epochs have the same crops. A training set draws new ones.

    Raises:
        DataError: A format is none, or a number is out of range.
    """

    disjoint_by = "seed"
    keys = "reader"

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        formats: Sequence[str] = tuple(FORMATS),
        share_random: float = 0.0,
        length_of_dataset: int = 1024,
        strength: float = 1.0,
        seed: int = 0,
        frozen: bool = False,
    ) -> None:
        self.formats = chosen_formats(formats)
        require(0 <= share_random <= 1, "share_random", share_random, "a share in [0, 1]")
        require(length_of_dataset >= 1, "length_of_dataset", length_of_dataset, "at least 1")
        require(0 <= strength <= 1, "strength", strength, "in [0, 1] (0 is a clean print)")
        require(seed >= 0, "seed", seed, "at least 0")
        height, width = image_size
        self.image_size = (int(height), int(width))
        require_readable(self.image_size, self.formats)
        ocr_b.require_font()
        self.share_random, self.strength, self.seed = share_random, strength, seed
        self.length, self.frozen = length_of_dataset, frozen
        self._epoch = shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops of an epoch from now on, unless the set is frozen."""
        self._epoch.fill_(0 if self.frozen else epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        form = self.formats[rng.integers(len(self.formats))]
        zone = (random_text if rng.random() < self.share_random else random_zone)(form, rng)
        image, corners = draw_crop(zone, rng, self.image_size, self.strength)
        labels: dict[str, Any] = {"text": READER_KEYS.encode(zone), "zone": corners}
        return to_planes(image), {name: torch.from_numpy(values) for name, values in labels.items()}
