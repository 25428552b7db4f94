"""Drawn photographs of documents with a zone: what the detector and the spotter train on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from otter_ray.projects.mrzscanner.data import ocr_b
from otter_ray.projects.mrzscanner.data.crop_dataset import Item, to_planes
from otter_ray.projects.mrzscanner.data.options import chosen_formats, require
from otter_ray.projects.mrzscanner.data.scenes import draw_scene
from otter_ray.projects.mrzscanner.text.icao import FORMATS, random_text, random_zone
from otter_ray.projects.mrzscanner.text.keys import LENGTH, SPOTTER_KEYS
from otter_ray.train.shared_epoch import shared_epoch


class SceneDataset(Dataset[Item]):
    """Photographs of drawn documents, padded with black: RGB float32 [3, h, w] in [0, 1].

    The text is int64 [93], in the spotter's keys. The zone is float32 [4, 2]: the corners of its cells in
    fractions of the image's sides, clockwise from the zone's own top left; NaN if there is none.

    Args:
        image_size: (h, w) of an item in pixels.
        formats: Names of the formats to draw, each as often as the others.
        share_random: Share of zones, 0 to 1, of random characters.
        empty: Share of photographs, 0 to less than 1, of documents without a zone.
        length_of_dataset: Number of photographs.
        strength: Scale of every disturbance, 0 to 1.
        max_turn: Degrees, 0 to 180, by which a document may be turned.
        seed: Seed of the photographs. Data sets of different seeds have no document in common.
        frozen: Whether all epochs have the same photographs.

    Raises:
        DataError: A format is none, or a number is out of range.
    """

    disjoint_by = "seed"
    keys = "spotter"

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        formats: Sequence[str] = tuple(FORMATS),
        share_random: float = 0.0,
        empty: float = 0.0,
        length_of_dataset: int = 1024,
        strength: float = 1.0,
        max_turn: float = 45.0,
        seed: int = 0,
        frozen: bool = False,
    ) -> None:
        self.formats = chosen_formats(formats)
        require(0 <= share_random <= 1, "share_random", share_random, "a share in [0, 1]")
        require(0 <= empty < 1, "empty", empty, "a share in [0, 1): without a zone there is nothing to score")
        require(length_of_dataset >= 1, "length_of_dataset", length_of_dataset, "at least 1")
        require(0 <= strength <= 1, "strength", strength, "in [0, 1]")
        require(0 <= max_turn <= 180, "max_turn", max_turn, "an angle in [0, 180]")
        require(seed >= 0, "seed", seed, "at least 0")
        ocr_b.require_font()
        height, width = image_size
        self.image_size = (int(height), int(width))
        self.share_random, self.empty, self.strength, self.max_turn = share_random, empty, strength, max_turn
        self.length, self.seed, self.frozen = length_of_dataset, seed, frozen
        self._epoch = shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw the photographs of an epoch from now on, unless the set is frozen."""
        self._epoch.fill_(0 if self.frozen else epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        form = self.formats[rng.integers(len(self.formats))]
        zone = None
        # The first one has a zone, so that a set always has something to score.
        if index == 0 or rng.random() >= self.empty:
            zone = (random_text if rng.random() < self.share_random else random_zone)(form, rng)
        image, corners = draw_scene(zone, form, rng, self.image_size, self.strength, self.max_turn)
        text = np.full(LENGTH, SPOTTER_KEYS.pad) if zone is None else SPOTTER_KEYS.encode(zone)
        if zone is None:
            text[0] = SPOTTER_KEYS.eos
        return to_planes(image), {"text": torch.from_numpy(text), "zone": torch.from_numpy(corners)}
