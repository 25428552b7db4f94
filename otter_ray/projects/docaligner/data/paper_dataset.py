"""The data set of simulated photographs of documents."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.errors import DataError
from otter_ray.projects.docaligner import corners
from otter_ray.projects.docaligner.data import backdrops, documents, scene
from otter_ray.projects.docaligner.data.documents import Documents, drawn_documents, folder_documents
from otter_ray.projects.docaligner.data.scene import SceneOptions, scene_size, take_photo
from otter_ray.train.shared_epoch import shared_epoch
from otter_ray.vision import camera, drawing
from otter_ray.vision.dataset_options import option_key, pair, require, require_one_source
from otter_ray.vision.image_cache import ImageTable, Row, cache_key, cached_table
from otter_ray.vision.images import in_order, source_digest, to_planes

Image = NDArray[np.uint8]
Item = tuple[Tensor, Tensor]
MIN_DOCUMENTS = 2


class HoldsOut(Protocol):
    """A data set whose documents others must leave out; None if they are drawn."""

    @property
    def thumbnails(self) -> NDArray[np.uint8] | None:
        """Thumbnails of the documents, uint8 [N, 256]."""


class PaperDataset(Dataset[Item]):
    """Documents that lie on something, in simulated photographs.

    Items are (float32 [3, h, w] RGB in [0, 1], float32 [LABEL]). Item i of epoch e depends on (seed, e, i)
    and on which documents there are: two sets with other documents have other scenes, too. Documents keep
    their aspect ratio; photographs of another shape than `image_size` are squeezed, as clients do it.

    Args:
        image_size: (h, w) of an item.
        root: Folder of documents. Give either this or `drawn`.
        drawn: Number of procedural documents.
        drawn_seed: Series of the procedural documents. Those of two series differ.
        indoor_root: Folder of photographs that documents lie on. Half of the backgrounds are drawn then.
        length_of_dataset: Items in an epoch.
        empty: Share of photographs without a document, in [0, 1).
        occlusion: Share of documents of which something covers an edge.
        patch: Share of documents of which something covers a corner.
        strength: Scale of all disturbances, in [0, 1].
        frozen: Whether all epochs are the same. Photographs are then drawn once on each machine and cached:
            to validate and test, or for a short search.
        valid_dataset: The validation set, whose documents are left out.
        test_dataset: The test set, whose documents are left out.
        dataset_part: Which data set of a config it is, for messages: `train`, `valid` or `test`.
        seed: Seed of the scenes.

    Raises:
        DataError: Neither or both of `root` and `drawn` are given, a folder cannot be used, a number is out
            of range, or two data sets draw the same documents.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        drawn: int = 0,
        drawn_seed: int = 0,
        indoor_root: str | None = None,
        length_of_dataset: int = 65_536,
        empty: float = 0.15,
        occlusion: float = 0.3,
        patch: float = 0.3,
        strength: float = 1.0,
        frozen: bool = False,
        valid_dataset: HoldsOut | None = None,
        test_dataset: HoldsOut | None = None,
        dataset_part: str = "train",
        seed: int = 0,
    ) -> None:
        part = dataset_part
        require(length_of_dataset >= 1, "length_of_dataset", length_of_dataset, "at least 1", part)
        require(0 <= empty < 1, "empty", empty, "in [0, 1): a share of scenes shows a document", part)
        for name, share in {"occlusion": occlusion, "patch": patch, "strength": strength}.items():
            require(0 <= share <= 1, name, share, "in [0, 1]", part)
        self._size = pair(image_size)
        others = [data for data in (valid_dataset, test_dataset) if data is not None]
        self._documents = _documents(self._size, root, drawn, drawn_seed, part)
        self._series = None if root is not None else drawn_seed
        if root is None:
            _check_series(drawn_seed, others, part)
        else:
            held_out = [data.thumbnails for data in others if data.thumbnails is not None]
            self._documents = self._documents.without(held_out, part)
        self._indoors = None
        if indoor_root is not None:
            self._indoors = folder_documents(indoor_root, self._size, "indoor_root", part, 1)
        self._options = SceneOptions(strength=strength, occlusion=occlusion, patch=patch)
        self._empty, self._length = empty, length_of_dataset
        self._seeds = [seed, drawn_seed if root is None else _number(self._documents)]
        self._table: ImageTable | None = self._frozen() if frozen else None
        self._epoch = shared_epoch()

    @property
    def thumbnails(self) -> NDArray[np.uint8] | None:
        """Thumbnails of the documents, if they are a folder's."""
        return None if self._series is not None else self._documents.table.thumbnails[self._documents.rows]

    @property
    def series(self) -> int | None:
        """The series of the documents, if they are drawn."""
        return self._series

    @property
    def epoch(self) -> int:
        """The epoch that `set_epoch` has set, at first 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make items those of epoch `epoch` from now on, also in worker processes that already run."""
        self._epoch.fill_(epoch)

    def without_augmentation(self) -> PaperDataset:
        """Return the data set itself: its photographs are what a model gets to see."""
        return self

    def photograph(self, index: int, epoch: int = 0) -> tuple[Image, NDArray[np.float32]]:
        """Return photograph `index` of an epoch, uint8 [h, w, 3], and its label."""
        rng = np.random.default_rng([*self._seeds, epoch, index])
        paper = None if rng.random() < self._empty else self._documents.draw(rng)
        size = scene_size(self._size)
        if self._indoors is not None and rng.random() < 0.5:
            surface = backdrops.crop(rng, self._indoors.draw(rng)[0], size)
        else:
            surface = backdrops.backdrop(rng, size)
        return take_photo(rng, self._size, surface, paper, self._options)

    def _frozen(self) -> ImageTable:
        """Draw all photographs, once on each machine. A label is the row's label, as JSON."""

        def rows() -> list[Row]:
            made = in_order(self.photograph, range(self._length), "photographing")
            return [
                Row(f"scene_{index:05d}", json.dumps(label.tolist()), image)
                for index, (image, label) in enumerate(made)
            ]

        tables = [
            each and (each.table.path.stem, each.rows.tolist()) for each in (self._documents, self._indoors)
        ]
        modules = (sys.modules[__name__], scene, backdrops, drawing, camera, documents, corners)
        code = [source_digest(module) for module in modules]
        options = [*vars(self._options).values()]
        key = cache_key("scenes", tables, self._size, options, self._empty, self._length, self._seeds, code)
        return cached_table(key, rows)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._length:
            raise IndexError(index)
        if self._table is None:
            return as_item(*self.photograph(index, self.epoch))
        label = np.array(json.loads(self._table.labels[index]), np.float32)
        return as_item(self._table.images[index], label)


def as_item(image: Image, label: NDArray[np.float32]) -> Item:
    """Return an image uint8 [h, w, 3] and its label as an item."""
    return to_planes(image), torch.from_numpy(label)


def _number(documents: Documents) -> int:
    """Return a number that stands for a folder's documents, the same on every machine."""
    thumbnails = documents.table.thumbnails[documents.rows]
    return int.from_bytes(hashlib.sha256(thumbnails.tobytes()).digest()[:8], "big")


def _documents(size: tuple[int, int], root: str | None, drawn: int, drawn_seed: int, part: str) -> Documents:
    require_one_source(root, drawn, part)
    if root is not None:
        return folder_documents(root, size, "root", part, MIN_DOCUMENTS)
    return drawn_documents(drawn, drawn_seed, size)


def _check_series(drawn_seed: int, others: Sequence[Any], part: str) -> None:
    if any(getattr(data, "series", None) == drawn_seed for data in others):
        raise DataError(
            f"{option_key('drawn_seed', part)} is {drawn_seed}, as in another data set, so that both would "
            "show the same documents. Give each data set a number of its own."
        )
