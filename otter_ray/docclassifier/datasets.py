"""The datasets that a DocClassifier config names: one to train on, two to validate with.

All items are (float32 tensor [3, h, w] RGB in [0, 1], int label), or with `return_tensor=False`
(uint8 array [h, w, 3], int label). Pickling a dataset passes paths, not pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.docclassifier.cache import ImageTable
from otter_ray.docclassifier.duplicates import THRESHOLD, choose_distinct, near_duplicates
from otter_ray.docclassifier.images import cached_captures, drawn_images, load_images
from otter_ray.docclassifier.metric import negative_pairs, warn_if_few
from otter_ray.errors import DataError, did_you_mean

Item = tuple[Tensor | NDArray[np.uint8], int]

_TRAIN_ROOT = "dataset.train_options.options.root"
_VALID_ROOT = "dataset.valid_options.options.root"
_ORIGINAL_SCALE = 2  # originals are kept larger than their photographs, as a real camera's are


class HoldsOut(Protocol):
    """A validation dataset: `thumbnails` float32 [N, 256] of what training must not see."""

    @property
    def thumbnails(self) -> NDArray[np.float32]:
        """As `duplicates.thumbnails` makes them."""


class SynthDataset(Dataset[Item]):
    """Every document a class; items are augmented copies of it.

    The documents are the images below `root`, or `drawn` procedural ones of series `drawn_seed`,
    without those that `valid_dataset` holds or that are near-duplicates of one of its own.

    Item i of epoch e depends on (seed, e, i) alone, whichever process asks for it. Labels go round
    all classes, in an order new for each round and epoch.

    length_of_dataset: items in an epoch. aug_ratio: probability in [0, 1] that an item is augmented.
    augmentation: "default" (DocClassifier's) or "capture" (imitates a camera).
    DataError: neither or both of `root` and `drawn`, an unusable folder, fewer than two classes left, a
    number out of range.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        drawn: int = 0,
        drawn_seed: int = 0,
        aug_ratio: float = 1.0,
        augmentation: str = "default",
        length_of_dataset: int = 200_000,
        valid_dataset: HoldsOut | None = None,
        seed: int = 0,
        return_tensor: bool = True,
    ) -> None:
        _require(0 <= aug_ratio <= 1, "aug_ratio", aug_ratio, "a probability in [0, 1]", "train")
        _require(length_of_dataset >= 1, "length_of_dataset", length_of_dataset, "at least 1", "train")
        self._table = _documents(root, drawn, drawn_seed, _pair(image_size), _TRAIN_ROOT)
        self._kept = _kept(self._table, valid_dataset)
        self._augmentation = _augmentation(augmentation, aug_ratio, seed)
        self._length, self._seed, self._return_tensor = length_of_dataset, seed, return_tensor
        # In shared memory: persistent DataLoader workers hold a copy of this object.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._order: tuple[tuple[int, ...], NDArray[np.intp]] | None = None

    @property
    def num_classes(self) -> int:
        """How many documents there are."""
        return len(self._kept)

    @property
    def class_names(self) -> list[str]:
        """The name of each label's document: its path below `root`, or its number."""
        return [self._table.names[row] for row in self._kept]

    @property
    def images(self) -> NDArray[np.uint8]:
        """The clean documents, a new uint8 [num_classes, h, w, 3]."""
        return self._table.images[self._kept]

    @property
    def epoch(self) -> int:
        """Set by `set_epoch`, at first 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Items from here on are those of epoch `epoch`, in worker processes that already run, too."""
        self._epoch.fill_(epoch)

    def label(self, index: int) -> int:
        """The label of item `index`: round `index // num_classes` is a shuffle of all classes."""
        turn, place = divmod(index, self.num_classes)
        seed = (self._seed, 0, self.epoch, turn)
        if self._order is None or self._order[0] != seed:
            self._order = seed, np.random.default_rng(seed).permutation(self.num_classes)
        return int(self._order[1][place])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._length:
            raise IndexError(index)
        label = self.label(index)
        return _item(self.sample(label, index), label, self._return_tensor)

    def sample(self, label: int, index: int) -> NDArray[np.uint8]:
        """Document `label`, uint8 [h, w, 3], augmented as item `index` of this epoch is."""
        from otter_ray.docclassifier.augment import augmented

        clean = self._table.images[self._kept[label]]
        return augmented(self._augmentation, clean, [self._seed, 1, self.epoch, index])


class CaptureDataset(Dataset[Item]):
    """`held_out` documents, no two alike, each photographed `captures` times; label = document.

    Documents come from `root` or are drawn, like SynthDataset's. `strength` scales the photographs'
    disturbances (0: none). The photographs depend on `seed` and the documents alone. No two documents'
    thumbnails correlate above `max_similarity`: the lower, the easier they are to tell apart.
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
        seed: int = 0,
        return_tensor: bool = True,
    ) -> None:
        _require(0 < max_similarity <= THRESHOLD, "max_similarity", max_similarity, f"in (0, {THRESHOLD}]")
        _require(held_out >= 2, "held_out", held_out, "at least 2, or there are no pairs to tell apart")
        _require(captures >= 2, "captures", captures, "at least 2, or no document is seen again")
        _require(strength >= 0, "strength", strength, "at least 0 (0 is a plain resize)")
        height, width = _pair(image_size)
        original_size = (height * _ORIGINAL_SCALE, width * _ORIGINAL_SCALE)
        documents = _documents(root, drawn, drawn_seed, original_size, _VALID_ROOT)
        chosen = choose_distinct(documents.thumbnails, held_out, seed, max_similarity)
        self._table = cached_captures(
            documents,
            chosen.tolist(),
            per_document=captures,
            image_size=(height, width),
            strength=strength,
            seed=seed,
        )
        self._captures, self._return_tensor = captures, return_tensor
        warn_if_few(negative_pairs([captures] * held_out))
        self.thumbnails = documents.thumbnails[chosen]
        self.class_names = [documents.names[row] for row in chosen]

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
        return _item(self._table.images[index], index // self._captures, self._return_tensor)


class RealDataset(Dataset[Item]):
    """Real photographs: one folder below `root` for each document, its name the label.

    DataError: an unusable folder, images that lie in no folder, fewer than two folders.
    """

    def __init__(
        self, image_size: tuple[int, int], *, root: str | None = None, return_tensor: bool = True
    ) -> None:
        if root is None:
            raise DataError(f"{_VALID_ROOT} is not set. Set it to a folder that holds one folder a document.")
        self._table = load_images(root, _pair(image_size), _VALID_ROOT)
        self.class_names = sorted(set(self._table.labels))
        if len(self.class_names) < 2 or "" in self.class_names:
            raise DataError(
                f"{_VALID_ROOT} is {root!r} but images must lie in two or more folders below it, one "
                f"a document; found {', '.join(repr(name) for name in self.class_names if name) or 'none'}"
                f"{' and images in no folder' if '' in self.class_names else ''}."
            )
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self._labels = [numbers[label] for label in self._table.labels]
        self._return_tensor = return_tensor
        warn_if_few(negative_pairs(list(Counter(self._labels).values())))

    @property
    def num_classes(self) -> int:
        """How many documents there are."""
        return len(self.class_names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [N, h, w, 3], sorted by path."""
        return self._table.images

    @property
    def thumbnails(self) -> NDArray[np.float32]:
        """float32 [N, 256] of the photographs."""
        return self._table.thumbnails

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _item(self._table.images[index], self._labels[index], self._return_tensor)


def _require(holds: bool, option: str, value: float, rule: str, part: str = "valid") -> None:
    if not holds:
        raise DataError(f"dataset.{part}_options.options.{option} is {value} but must be {rule}.")


def _pair(image_size: Sequence[int]) -> tuple[int, int]:
    """(h, w) of what YAML wrote as a list."""
    height, width = image_size
    return int(height), int(width)


def _documents(
    root: str | None, drawn: int, drawn_seed: int, image_size: tuple[int, int], key: str
) -> ImageTable:
    if (root is None) == (drawn <= 0):
        given = "neither is given" if root is None else f"both are given ({root!r} and {drawn})"
        drawn_key = key.removesuffix("root") + "drawn"
        raise DataError(
            f"Set exactly one of {key} (a folder) and {drawn_key} (a number of documents): {given}."
        )
    return (
        load_images(root, image_size, key)
        if root is not None
        else drawn_images(drawn, drawn_seed, image_size)
    )


def _kept(table: ImageTable, valid_dataset: HoldsOut | None) -> NDArray[np.intp]:
    if valid_dataset is None:
        return np.arange(len(table))
    kept = np.flatnonzero(~near_duplicates(table.thumbnails, valid_dataset.thumbnails))
    if len(kept) < 2:
        raise DataError(
            f"{_TRAIN_ROOT}: of {len(table)} documents {len(kept)} are left to train on without those that "
            "are held out and their near-duplicates; at least 2 are needed. Add images, or lower held_out."
        )
    return kept


def _augmentation(name: str, p: float, seed: int) -> Any:
    from otter_ray.docclassifier.augment import AUGMENTATIONS

    if name not in AUGMENTATIONS:
        raise DataError(
            f"dataset.train_options.options.augmentation is {name!r} but must be one of "
            f"{', '.join(AUGMENTATIONS)}.{did_you_mean(name, AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name](p, seed)


def _item(image: NDArray[np.uint8], label: int, return_tensor: bool) -> Item:
    if not return_tensor:
        return image, label
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    planes /= 255.0
    return torch.from_numpy(planes), label
