"""The data sets that DocClassifier validates and tests with: simulated photographs, and real ones.

Items of all data sets are (float32 tensor [3, h, w] RGB in [0, 1], int label), or with `return_tensor=False`
(uint8 array [h, w, 3], int label). Pickling a data set passes paths, not pixels.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.common import (
    HoldsOut,
    Item,
    documents,
    picture,
)
from otter_ray.projects.docclassifier.metrics.pair_roc import negative_pairs, warn_if_few
from otter_ray.vision.camera import AREA, BILINEAR
from otter_ray.vision.dataset_options import option_key, pair, require, require_choice
from otter_ray.vision.image_cache import ImageTable
from otter_ray.vision.images import cached_captures, listed, load_images
from otter_ray.vision.near_duplicates import THRESHOLD, choose_distinct, near_duplicates

_ORIGINAL_SCALE = 2  # originals are kept larger than their photographs, as a real camera's are


class CaptureDataset(Dataset[Item]):
    """`held_out` distinct documents, each photographed `captures` times; the label is the document.

    The photographs depend on `seed` and the documents alone.

    Args:
        image_size: (h, w) of an item.
        root: Folder of documents. Give either this or `drawn`.
        drawn: Number of procedural documents.
        drawn_seed: Series of the procedural documents.
        held_out: Number of documents to choose.
        captures: Photographs of each document.
        strength: Scale of the photographs' disturbances; 0 means none.
        max_similarity: Largest correlation between the thumbnails of two documents. The lower it is, the
            easier the documents are to tell apart.
        valid_dataset: The validation set, if this is the test set: none of its documents resembles one of
            these.
        seed: Seed of the choice and of the photographs.
        return_tensor: Whether items are tensors.

    Raises:
        DataError: Neither or both of `root` and `drawn` are given, a folder cannot be used, there are fewer
            than `held_out` distinct documents, or a number is out of range.
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
        require(
            held_out >= 2, "held_out", held_out, "at least 2; one document makes no pairs to tell apart", part
        )
        require(captures >= 2, "captures", captures, "at least 2; one photograph makes no pair", part)
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
        """The number of documents."""
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
    """Real photographs, with one subfolder of `root` per document; its name is the label.

    Args:
        image_size: (h, w) of an item.
        root: The folder.
        resizing: `area`, or `bilinear` to measure what a program sees that resizes photographs so.
        valid_dataset: The validation set, if this is the test set.
        return_tensor: Whether items are tensors.

    Raises:
        DataError: The folder cannot be used, images are in no subfolder, there are fewer than two subfolders,
            or a photograph is a near-duplicate of one in `valid_dataset`.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        resizing: str = AREA,
        valid_dataset: HoldsOut | None = None,
        return_tensor: bool = True,
    ) -> None:
        require_choice(resizing, (AREA, BILINEAR), "resizing", _part(valid_dataset))
        key = option_key("root", _part(valid_dataset))
        if root is None:
            raise DataError(f"{key} is not set. Set it to a folder with one subfolder per document.")
        self._table = load_images(root, pair(image_size), key, resizing)
        if valid_dataset is not None:
            _keep_apart(self._table, valid_dataset, key)
        self.class_names = sorted(set(self._table.labels))
        if len(self.class_names) < 2 or "" in self.class_names:
            raise DataError(
                f"{key} is {root!r}, but images must be in at least two subfolders of it, one per document. "
                f"Subfolders found: {', '.join(repr(name) for name in self.class_names if name) or 'none'}"
                f"{', and images outside of them' if '' in self.class_names else ''}."
            )
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self._labels = [numbers[label] for label in self._table.labels]
        self._return_tensor = return_tensor
        warn_if_few(negative_pairs(list(Counter(self._labels).values())), self.num_classes)

    @property
    def num_classes(self) -> int:
        """The number of documents."""
        return len(self.class_names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """The photographs, uint8 [N, h, w, 3], sorted by path."""
        return self._table.images

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """The photographs' thumbnails, uint8 [N, 256]."""
        return self._table.thumbnails

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return picture(self._table.images[index], self._return_tensor), self._labels[index]


def _part(valid_dataset: HoldsOut | None) -> str:
    """Return which data set of the config it is: only the test set gets the validation set."""
    return "valid" if valid_dataset is None else "test"


def _keep_apart(table: ImageTable, valid_dataset: HoldsOut, key: str) -> None:
    """Raise DataError if the table holds photographs of documents that are in the validation set."""
    alike = near_duplicates(table.thumbnails, valid_dataset.thumbnails)
    if shared := sorted({table.labels[row] for row in np.flatnonzero(alike)}):
        raise DataError(
            f"{key}: these folders contain near-duplicates of validation documents: {listed(shared)}. Remove "
            "them from one of the two sets, or the test would not be independent."
        )
