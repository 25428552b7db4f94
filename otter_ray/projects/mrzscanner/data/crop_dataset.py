"""The data set of the recogniser: drawn crops of zones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from otter_ray.projects.mrzscanner.data.crops import draw_crop
from otter_ray.projects.mrzscanner.data.drawn_dataset import DrawnDataset, Item
from otter_ray.projects.mrzscanner.data.options import require_readable
from otter_ray.projects.mrzscanner.text.icao import FORMATS
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS
from otter_ray.vision.dataset_options import require
from otter_ray.vision.images import to_planes


class CropDataset(DrawnDataset):
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
        dataset_part: Which data set of a config it is, for messages: `train`, `valid` or `test`.

    Raises:
        DataError: A format is none, or a number is out of range.
    """

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
        dataset_part: str = "train",
    ) -> None:
        super().__init__(image_size, formats, share_random, length_of_dataset, seed, frozen, dataset_part)
        require(0 <= strength <= 1, "strength", strength, "in [0, 1] (0 is a clean print)", dataset_part)
        require_readable(self.image_size, self.formats)
        self.strength = strength

    def __getitem__(self, index: int) -> Item:
        rng, form = self._begun(index)
        zone = self._zone(form, rng)
        image, corners = draw_crop(zone, rng, self.image_size, self.strength)
        labels: dict[str, Any] = {"text": READER_KEYS.encode(zone), "zone": corners}
        return to_planes(image), {name: torch.from_numpy(values) for name, values in labels.items()}
