"""The data set of the detector and the spotter: drawn photographs of documents with a zone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from otter_ray.projects.mrzscanner.data.drawn_dataset import DrawnDataset, Item
from otter_ray.projects.mrzscanner.data.scenes import draw_scene
from otter_ray.projects.mrzscanner.text.icao import FORMATS
from otter_ray.projects.mrzscanner.text.keys import LENGTH, SPOTTER_KEYS
from otter_ray.vision.dataset_options import require
from otter_ray.vision.images import to_planes


class SceneDataset(DrawnDataset):
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
        dataset_part: Which data set of a config it is, for messages: `train`, `valid` or `test`.

    Raises:
        DataError: A format is none, or a number is out of range.
    """

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
        dataset_part: str = "train",
    ) -> None:
        part = dataset_part
        super().__init__(image_size, formats, share_random, length_of_dataset, seed, frozen, part)
        rule = "a share in [0, 1): without a zone there is nothing to score"
        require(0 <= empty < 1, "empty", empty, rule, part)
        require(0 <= strength <= 1, "strength", strength, "in [0, 1]", part)
        require(0 <= max_turn <= 180, "max_turn", max_turn, "an angle in [0, 180]", part)
        self.empty, self.strength, self.max_turn = empty, strength, max_turn

    def __getitem__(self, index: int) -> Item:
        rng, form = self._begun(index)
        # The first one has a zone, so that a set always has something to score.
        is_empty = index != 0 and rng.random() < self.empty
        zone = None if is_empty else self._zone(form, rng)
        image, corners = draw_scene(zone, form, rng, self.image_size, self.strength, self.max_turn)
        text = np.full(LENGTH, SPOTTER_KEYS.pad) if zone is None else SPOTTER_KEYS.encode(zone)
        if zone is None:
            text[0] = SPOTTER_KEYS.eos
        return to_planes(image), {"text": torch.from_numpy(text), "zone": torch.from_numpy(corners)}
