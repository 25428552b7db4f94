"""The datasets that DocClassifier validates and tests with: simulated photographs, and real ones.

Items of all datasets are (float32 tensor [3, h, w] RGB in [0, 1], int label), or with `return_tensor=False`
(uint8 array [h, w, 3], int label). Pickling a dataset passes paths, not pixels.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from otter_ray.docclassifier.cache import ImageTable
from otter_ray.docclassifier.duplicates import THRESHOLD, choose_distinct, near_duplicates
from otter_ray.docclassifier.images import cached_captures, listed, load_images
from otter_ray.docclassifier.items import HoldsOut, Item, documents, option_key, pair, picture, require
from otter_ray.docclassifier.metric import negative_pairs, warn_if_few
from otter_ray.errors import DataError

_ORIGINAL_SCALE = 2  # originals are kept larger than their photographs, as a real camera's are


class CaptureDataset(Dataset[Item]):
    """`held_out` documents, no two alike, each photographed `captures` times; label = document.

    Documents come from `root` or are drawn, like SynthDataset's. `strength` scales the photographs'
    disturbances (0: none). The photographs depend on `seed` and the documents alone. No two documents'
    thumbnails correlate above `max_similarity`: the lower, the easier they are to tell apart.
    Told of a `valid_dataset` it is the one to test with: none of its documents is near to one of that.
    DataError: neither or both of `root` and `drawn`, an unusable folder, fewer than `held_out`
    distinct documents, a number out of range.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        drawn: int = 0,
        drawn_seed: int = 0,
        held_out: int = 24,
        captures: int = 18,
        strength: float = 1.0,
        max_similarity: float = THRESHOLD,
        valid_dataset: HoldsOut | None = None,
        seed: int = 0,
        return_tensor: bool = True,
    ) -> None:
        part = _part(valid_dataset)
        rule = f"in (0, {THRESHOLD}]"
        require(0 < max_similarity <= THRESHOLD, "max_similarity", max_similarity, rule, part)
        require(held_out >= 2, "held_out", held_out, "at least 2, or there are no pairs to tell apart", part)
        require(captures >= 2, "captures", captures, "at least 2, or no document is seen again", part)
        require(strength >= 0, "strength", strength, "at least 0 (0 is a plain resize)", part)
        height, width = pair(image_size)
        original_size = (height * _ORIGINAL_SCALE, width * _ORIGINAL_SCALE)
        originals = documents(root, drawn, drawn_seed, original_size, part)
        apart = None if valid_dataset is None else valid_dataset.thumbnails
        key = option_key("held_out", part)
        chosen = choose_distinct(originals.thumbnails, held_out, seed, max_similarity, apart, key)
        self._table = cached_captures(
            originals,
            chosen.tolist(),
            per_document=captures,
            image_size=(height, width),
            strength=strength,
            seed=seed,
        )
        self._captures, self._return_tensor = captures, return_tensor
        warn_if_few(negative_pairs([captures] * held_out), held_out)
        self.thumbnails = originals.thumbnails[chosen]
        self.class_names = [originals.names[row] for row in chosen]

    @property
    def num_classes(self) -> int:
        """How many documents there are."""
        return len(self.class_names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """The photographs, uint8 [held_out * captures, h, w, 3], those of one document together."""
        return self._table.images

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return picture(self._table.images[index], self._return_tensor), index // self._captures


class RealDataset(Dataset[Item]):
    """Real photographs: one folder below `root` for each document, its name the label.

    Told of a `valid_dataset` it is the one to test with.
    DataError: an unusable folder, images that lie in no folder, fewer than two folders; a photograph that is
    a near-duplicate of the `valid_dataset`'s.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        valid_dataset: HoldsOut | None = None,
        return_tensor: bool = True,
    ) -> None:
        key = option_key("root", _part(valid_dataset))
        if root is None:
            raise DataError(f"{key} is not set. Set it to a folder that holds one folder a document.")
        self._table = load_images(root, pair(image_size), key)
        if valid_dataset is not None:
            _keep_apart(self._table, valid_dataset, key)
        self.class_names = sorted(set(self._table.labels))
        if len(self.class_names) < 2 or "" in self.class_names:
            raise DataError(
                f"{key} is {root!r} but images must lie in two or more folders below it, one "
                f"a document; found {', '.join(repr(name) for name in self.class_names if name) or 'none'}"
                f"{' and images in no folder' if '' in self.class_names else ''}."
            )
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self._labels = [numbers[label] for label in self._table.labels]
        self._return_tensor = return_tensor
        warn_if_few(negative_pairs(list(Counter(self._labels).values())), self.num_classes)

    @property
    def num_classes(self) -> int:
        """How many documents there are."""
        return len(self.class_names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [N, h, w, 3], sorted by path."""
        return self._table.images

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """uint8 [N, 256] of the photographs."""
        return self._table.thumbnails

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return picture(self._table.images[index], self._return_tensor), self._labels[index]


def _part(valid_dataset: HoldsOut | None) -> str:
    """Which of the config's data sets it is: the one to test with is told of the one to validate with."""
    return "valid" if valid_dataset is None else "test"


def _keep_apart(table: ImageTable, valid_dataset: HoldsOut, key: str) -> None:
    """DataError: documents that are validated with are photographed here, too."""
    alike = near_duplicates(table.thumbnails, valid_dataset.thumbnails)
    if shared := sorted({table.labels[row] for row in np.flatnonzero(alike)}):
        raise DataError(
            f"{key}: documents that the search selects on are to be tested with, too: {listed(shared)} hold "
            f"near-duplicates of what is validated with. Take them out of one of the two folders."
        )
