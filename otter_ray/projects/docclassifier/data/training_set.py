"""The data set that DocClassifier trains on: every image is a class."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.errors import DataError, did_you_mean
from otter_ray.projects.docclassifier.data.common import (
    HoldsOut,
    Item,
    Picture,
    documents,
    picture,
)
from otter_ray.projects.docclassifier.data.feistel_shuffle import shuffled
from otter_ray.projects.docclassifier.data.variants import VARIANTS, variant, variant_name
from otter_ray.train.distributed import global_rank
from otter_ray.train.shared_epoch import shared_epoch
from otter_ray.vision.camera import AREA, BILINEAR
from otter_ray.vision.dataset_options import option_key, pair, require, require_choice
from otter_ray.vision.image_cache import ImageTable, read_table
from otter_ray.vision.images import load_images
from otter_ray.vision.near_duplicates import near_duplicates

BOTH = "both"  # resizings
# Bytes of images of all classes up to which a device holds a copy, so that batches are gathered there.
_RESIDENT = 1 << 28


class SynthDataset(Dataset[Item | tuple[Picture, int, Picture] | tuple[int]]):
    """Every image is a class; items are augmented copies of it.

    The images are, in the order of their labels: the documents, those of ImageNet, those of `indoor_root`.
    Documents of `valid_dataset` and `test_dataset`, and near-duplicates of them, are left out. Item i of
    epoch e depends on (seed, e, i) alone, whichever process asks for it; `common.seed` does not change it.
    Labels go through all classes, across epochs, in a new order for each round.

    Args:
        image_size: (h, w) of an item.
        root: Folder of documents. Give either this or `drawn`.
        drawn: Number of procedural documents.
        drawn_seed: Series of the procedural documents.
        use_imagenet: Whether the images below `imagenet_root` are classes as well.
        imagenet_root: Where ImageNet is. It may be given without `use_imagenet`, which a search or `--set`
            can then switch on.
        indoor_root: Folder of more images that are classes.
        resizing: `area`, `bilinear`, or `both`: each item then is an image that was resized in one of the two
            ways, and the model learns to take either. The cache has twice the size.
        variants: Whether each image makes 24 classes (see `variants`): label = 24 * image + variant.
        aug_func: A set of `augment.cpu`. If it is absent, `ImageNetAug` with `use_imagenet`, else
            `DefaultImageAug`.
        aug_ratio: Probability in [0, 1] that an item is augmented.
        aug_on: `cpu`, or `device` for a GPU that augmentation on the CPU cannot feed: `augment_batch` then
            turns a batch into what is trained on. Items are (label,) for images that a GPU holds, or (uint8
            tensor [3, h, w], label) if those of all classes need more than 256 MiB. What an item becomes then
            also depends on the batch size and the number of ranks.
        length_of_dataset: Items in an epoch.
        use_clip: Whether items are (image, label, clean image), for a teacher that sees what was not
            augmented.
        valid_dataset: The validation set.
        test_dataset: The test set.
        seed: Seed of labels and augmentation.
        return_tensor: Whether images are tensors.

    Raises:
        DataError: Neither or both of `root` and `drawn` are given, a folder cannot be used, `use_imagenet`
            has no `imagenet_root`, fewer than two documents are left, a number is out of range, `aug_on` or
            `resizing` is something else, or a device should augment arrays (`return_tensor: false`) or images
            of both resizings.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        drawn: int = 0,
        drawn_seed: int = 0,
        use_imagenet: bool = False,
        imagenet_root: str | None = None,
        indoor_root: str | None = None,
        resizing: str = AREA,
        variants: bool = False,
        aug_func: str | None = None,
        aug_ratio: float = 1.0,
        aug_on: str = "cpu",
        length_of_dataset: int = 200_000,
        use_clip: bool = False,
        valid_dataset: HoldsOut | None = None,
        test_dataset: HoldsOut | None = None,
        seed: int = 0,
        return_tensor: bool = True,
    ) -> None:
        require(0 <= aug_ratio <= 1, "aug_ratio", aug_ratio, "a probability in [0, 1]", "train")
        require(length_of_dataset >= 1, "length_of_dataset", length_of_dataset, "at least 1", "train")
        size = pair(image_size)
        aug_func = aug_func or ("ImageNetAug" if use_imagenet else "DefaultImageAug")
        self._augmentation = _augmentation(aug_func, size, aug_ratio, seed)
        _check_place(aug_on, return_tensor, resizing)
        self._on_device = aug_on == "device"
        roots = _extra_roots(use_imagenet, imagenet_root, indoor_root)
        self._ways = (AREA, BILINEAR) if resizing == BOTH else (resizing,)
        tables = [tuple(documents(root, drawn, drawn_seed, size, "train", way) for way in self._ways)]
        for key, folder in roots.items():
            tables.append(tuple(load_images(folder, size, key, way) for way in self._ways))
        self._images = _Images(tables, [data for data in (valid_dataset, test_dataset) if data])
        self._variants = VARIANTS if variants else 1
        self._holds_all = self.num_classes * 3 * size[0] * size[1] <= _RESIDENT
        self._held: Tensor | None = None
        self._length, self._seed = length_of_dataset, seed
        self._use_clip, self._return_tensor = use_clip, return_tensor
        self._epoch = shared_epoch()

    @property
    def num_classes(self) -> int:
        """The number of images, or of their variants."""
        return len(self._images) * self._variants

    @property
    def class_names(self) -> list[str]:
        """A new list of all labels' names: the image's path below its root, or its number.

        A variant's name is `NAME#rot90_flip_upper`.
        """
        names = self._images.names()
        if self._variants == 1:
            return names
        return [f"{name}#{variant_name(number)}" for name in names for number in range(VARIANTS)]

    @property
    def epoch(self) -> int:
        """The epoch that `set_epoch` has set, at first 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make items those of epoch `epoch` from now on, also in worker processes that already run."""
        self._epoch.fill_(epoch)

    def label(self, index: int) -> int:
        """Return the label of item `index`: each round, which may span two epochs, shuffles all classes."""
        turn, place = divmod(self.epoch * self._length + index, self.num_classes)
        return shuffled(place, self.num_classes, (self._seed, 0, turn))

    def clean(self, label: int, way: int = 0) -> NDArray[np.uint8]:
        """Return the image of class `label` as it is, uint8 [h, w, 3], read-only.

        Args:
            label: Of the class.
            way: 1 for the bilinear image, if the data set has both.
        """
        number, which = divmod(label, self._variants)
        return variant(self._images.image(number, way), which)

    def _way(self, index: int) -> int:
        """Draw how the image of item `index` of this epoch was resized."""
        if len(self._ways) == 1:
            return 0
        return int(np.random.default_rng([self._seed, 3, self.epoch, index]).integers(len(self._ways)))

    def sample(self, label: int, index: int) -> NDArray[np.uint8]:
        """Return the image of class `label`, uint8 [h, w, 3], augmented as item `index` of this epoch.

        With `aug_on: device` it is augmented as if it were alone in its batch.
        """
        image, seed = self.clean(label, self._way(index)), [self._seed, 1, self.epoch, index]
        if self._on_device:
            from otter_ray.projects.docclassifier.data.augment.device import augment_batch

            clean = torch.as_tensor(picture(image, return_tensor=True))
            [planes] = augment_batch(self._augmentation, clean[None], seed)
            return np.asarray((planes * 255).round().byte().permute(1, 2, 0))
        from otter_ray.projects.docclassifier.data.augment.cpu import augmented

        return augmented(self._augmentation, image, seed)

    def augment_batch(self, batch: Sequence[Tensor], number: int) -> Sequence[Tensor]:
        """Turn batch `number` of this rank's epoch, on any device, into what is trained on.

        With `aug_on: device` that is images, float32 `[N, 3, h, w]` in [0, 1], and labels `[N]`; with
        `use_clip` the clean images follow. Otherwise the batch is returned as it is.
        """
        if not self._on_device:
            return batch
        from otter_ray.projects.docclassifier.data.augment.device import augment_batch

        *images, labels = batch
        clean = (images[0] if images else self._gathered(labels)).float() / 255
        seed = [self._seed, 2, self.epoch, number, global_rank()]
        seen = augment_batch(self._augmentation, clean, seed)
        return [seen, labels, clean] if self._use_clip else [seen, labels]

    def _gathered(self, labels: Tensor) -> Tensor:
        """Return the images of labels `[N]`, uint8 `[N, 3, h, w]`, on the labels' device."""
        if labels.device.type == "cpu":
            images = self._stacked(labels.tolist())
        else:
            if self._held is None or self._held.device != labels.device:
                self._held = self._stacked(range(self.num_classes)).to(labels.device)
            images = self._held[labels]
        return images.permute(0, 3, 1, 2)

    def _stacked(self, labels: Sequence[int]) -> Tensor:
        """Stack the images of some labels, uint8 `[N, h, w, 3]`."""
        images = np.empty((len(labels), *self.clean(0).shape), np.uint8)
        for row, label in enumerate(labels):
            images[row] = self.clean(label)
        return torch.from_numpy(images)

    def without_augmentation(self) -> Dataset[Item]:
        """Return a data set of the images as they are, one item `(image, label)` for each image."""
        return _Clean(self)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the device holds: worker processes do not need it."""
        return {**self.__dict__, "_held": None}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item | tuple[Picture, int, Picture] | tuple[int]:
        if not 0 <= index < self._length:
            raise IndexError(index)
        label = self.label(index)
        if self._on_device and self._holds_all:
            return (label,)
        if self._on_device:
            return torch.from_numpy(np.ascontiguousarray(self.clean(label).transpose(2, 0, 1))), label
        image = picture(self.sample(label, index), self._return_tensor)
        if not self._use_clip:
            return image, label
        return image, label, picture(self.clean(label), self._return_tensor)


class _Clean(Dataset[Item]):
    """The images of a training set without augmentation, in the order of their labels."""

    def __init__(self, source: SynthDataset) -> None:
        self._source = source

    def __len__(self) -> int:
        return self._source.num_classes

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return picture(self._source.clean(index), return_tensor=True), index


class _Images:
    """The images of several tables one after the other, without those that resemble a held-out document.

    Each table comes with its twins: the same images, resized in another way.

    This includes ImageNet, whatever the folder really contains: to compare a million images with the
    documents of a `CaptureDataset` takes two seconds.
    """

    def __init__(self, tables: Sequence[tuple[ImageTable, ...]], held_out: Sequence[HoldsOut]) -> None:
        self._parts = [(ways, _kept(ways[0], held_out)) for ways in tables]
        self._starts = np.cumsum([0, *(len(kept) for _, kept in self._parts)]).tolist()
        found, left = len(tables[0][0]), len(self._parts[0][1])
        if left < 2:
            raise DataError(
                f"{option_key('root', 'train')}: only {left} of {found} documents are left for training "
                "after held-out documents and their near-duplicates are removed. At least 2 are needed. Add "
                "images, or lower held_out."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def image(self, number: int, way: int) -> NDArray[np.uint8]:
        part = bisect_right(self._starts, number) - 1
        ways, kept = self._parts[part]
        image: NDArray[np.uint8] = ways[way].images[kept[number - self._starts[part]]]
        return image

    def names(self) -> list[str]:
        return [ways[0].names[row] for ways, kept in self._parts for row in kept]


def _kept(table: ImageTable, held_out: Sequence[HoldsOut]) -> NDArray[np.intp]:
    """Return the rows of the table that may be trained on."""
    alike = [_alike(table.path, data.thumbnails.tobytes()) for data in held_out]
    return np.flatnonzero(~np.any(alike, axis=0)) if alike else np.arange(len(table))


@lru_cache(maxsize=8)
def _alike(table: Path, held_out: bytes) -> NDArray[np.bool_]:
    """Compare a table, whose file never changes, with the bytes of thumbnails, by `near_duplicates`.

    The result is kept for the process's next trial: with a million images it takes seconds.
    """
    thumbnails = read_table(table).thumbnails
    others = np.frombuffer(held_out, np.uint8).reshape(-1, thumbnails.shape[1])
    return near_duplicates(thumbnails, others)


def _extra_roots(use_imagenet: bool, imagenet_root: str | None, indoor_root: str | None) -> dict[str, str]:
    """Map keys of the config to the folders of images that are no documents."""
    key = option_key("imagenet_root", "train")
    if use_imagenet and imagenet_root is None:
        raise DataError(
            f"use_imagenet is true, but {key} is not set. Set it to a folder of images, each of which "
            "becomes a class, or set use_imagenet to false."
        )
    roots = {key: imagenet_root if use_imagenet else None, option_key("indoor_root", "train"): indoor_root}
    return {key: root for key, root in roots.items() if root is not None}


def _check_place(aug_on: str, return_tensor: bool, resizing: str) -> None:
    key = option_key("aug_on", "train")
    if aug_on not in ("cpu", "device"):
        raise DataError(f"{key} is {aug_on!r} but must be cpu or device (where the model runs).")
    require_choice(resizing, (AREA, BILINEAR, BOTH), "resizing", "train")
    if aug_on == "device" and resizing == BOTH:
        raise DataError(
            f"{option_key('resizing', 'train')} is {BOTH}, but {key} is device, which holds one image of "
            f"each class. Set resizing to {AREA} or {BILINEAR}, or aug_on to cpu."
        )
    if aug_on == "device" and not return_tensor:
        raise DataError(
            f"{key} is device, but {option_key('return_tensor', 'train')} is false, and augmenting on the "
            "device needs tensors. Set return_tensor to true, or aug_on to cpu."
        )


def _augmentation(name: str, image_size: tuple[int, int], p: float, seed: int) -> Any:
    from otter_ray.projects.docclassifier.data.augment.cpu import AUGMENTATIONS

    if name not in AUGMENTATIONS:
        raise DataError(
            f"{option_key('aug_func', 'train')} is {name!r} but must be one of "
            f"{', '.join(AUGMENTATIONS)}.{did_you_mean(name, AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name](image_size, p, seed)
