"""The base of the data sets whose zones are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.projects.mrzscanner.data import ocr_b
from otter_ray.projects.mrzscanner.data.options import chosen_formats
from otter_ray.projects.mrzscanner.text.icao import Format, Zone, random_text, random_zone
from otter_ray.train.shared_epoch import shared_epoch
from otter_ray.vision.dataset_options import pair, require

Item = tuple[Tensor, dict[str, Tensor]]


class DrawnDataset(Dataset[Item]):
    """Pictures of made-up zones: item i of an epoch depends on (seed, epoch, i) alone.

    Args:
        image_size: (h, w) of an item in pixels.
        formats: Names of the formats to draw, each as often as the others.
        share_random: Share of zones, 0 to 1, of random characters.
        length_of_dataset: Number of items.
        seed: Seed of the items.
        frozen: Whether all epochs have the same items.
        part: Which data set of a config it is, for messages: `train`, `valid` or `test`.

    Raises:
        DataError: A format is none, or a number is out of range.
    """

    disjoint_by = "seed"

    def __init__(
        self,
        image_size: tuple[int, int],
        formats: Sequence[str],
        share_random: float,
        length_of_dataset: int,
        seed: int,
        frozen: bool,
        part: str,
    ) -> None:
        self.formats = chosen_formats(formats, part)
        require(0 <= share_random <= 1, "share_random", share_random, "a share in [0, 1]", part)
        require(length_of_dataset >= 1, "length_of_dataset", length_of_dataset, "at least 1", part)
        require(seed >= 0, "seed", seed, "at least 0", part)
        ocr_b.require_font()
        self.image_size = pair(image_size)
        self.share_random, self.length = share_random, length_of_dataset
        self.seed, self.frozen = seed, frozen
        self._epoch = shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw the items of an epoch from now on, unless the set is frozen."""
        self._epoch.fill_(0 if self.frozen else epoch)

    def without_augmentation(self) -> DrawnDataset:
        """Return the data set itself: its pictures are what a model gets to see."""
        return self

    def __len__(self) -> int:
        return self.length

    def _begun(self, index: int) -> tuple[np.random.Generator, Format]:
        """Return the random numbers of an item, and its format."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        return rng, self.formats[rng.integers(len(self.formats))]

    def _zone(self, form: Format, rng: np.random.Generator) -> Zone:
        return (random_text if rng.random() < self.share_random else random_zone)(form, rng)
