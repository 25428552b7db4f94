"""The dataset that DocClassifier trains on: every image a class."""

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

from otter_ray.docclassifier.cache import ImageTable, read_table
from otter_ray.docclassifier.duplicates import near_duplicates
from otter_ray.docclassifier.images import load_images
from otter_ray.docclassifier.items import (
    HoldsOut,
    Item,
    Picture,
    documents,
    option_key,
    pair,
    picture,
    require,
)
from otter_ray.docclassifier.shuffle import shuffled
from otter_ray.docclassifier.variants import VARIANTS, variant, variant_name
from otter_ray.errors import DataError, did_you_mean
from otter_ray.train.distributed import rank

# Bytes of images of all classes that a device holds a copy of, for batches to be gathered there.
_RESIDENT = 1 << 28


class SynthDataset(Dataset[Item | tuple[Picture, int, Picture] | tuple[int]]):
    """Every image a class; items are augmented copies of it.

    The images are, in the order of their labels: the documents below `root`, or `drawn` procedural ones of
    series `drawn_seed`; with `use_imagenet` those below `imagenet_root`; those below `indoor_root` where it
    is given. Left out is what `valid_dataset` and `test_dataset` hold, and near-duplicates of it. With
    `variants` each image stands for 24 classes (see `variants`): label = 24 * image + variant.

    Item i of epoch e depends on (seed, e, i) alone, whichever process asks for it; `common.seed` does not
    move it. Labels go round all classes, across epochs, in an order new for each round.

    imagenet_root: may stand there without `use_imagenet` and is then not looked at: it says where ImageNet
    lies, and a search or `--set` can switch it on.
    aug_func: a set of `augment`; where absent `ImageNetAug` with `use_imagenet`, else `DefaultImageAug`.
    aug_ratio: probability in [0, 1] that an item is augmented. length_of_dataset: items in an epoch.
    aug_on: `cpu`, or `device` for a GPU that augmentation on the CPU cannot feed: `augment_batch` then makes
    of a batch what is trained on. Items are (label,), for images that a GPU holds, or, where those of all
    classes are more than 256 MiB, (uint8 tensor [3, h, w], label). What an item becomes depends on its
    batch, too: on the batch size and the number of ranks.
    use_clip: items are (image, label, clean image), for a teacher that looks at what was not augmented.
    DataError: neither or both of `root` and `drawn`, an unusable folder, `use_imagenet` without
    `imagenet_root`, fewer than two documents left, a number out of range, another `aug_on`, or arrays
    (`return_tensor: false`) that a device should augment.
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
        _check_place(aug_on, return_tensor)
        self._on_device = aug_on == "device"
        roots = _extra_roots(use_imagenet, imagenet_root, indoor_root)
        tables = [documents(root, drawn, drawn_seed, size, "train")]
        tables += [load_images(folder, size, key) for key, folder in roots.items()]
        self._images = _Images(tables, [data for data in (valid_dataset, test_dataset) if data])
        self._variants = VARIANTS if variants else 1
        self._holds_all = self.num_classes * 3 * size[0] * size[1] <= _RESIDENT
        self._held: Tensor | None = None
        self._length, self._seed = length_of_dataset, seed
        self._use_clip, self._return_tensor = use_clip, return_tensor
        # In shared memory: persistent DataLoader workers hold a copy of this object.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def num_classes(self) -> int:
        """How many images there are, or variants of them."""
        return len(self._images) * self._variants

    @property
    def class_names(self) -> list[str]:
        """The name of each label's image, its path below its root or its number; for a variant
        `NAME#rot90_flip_upper`. A new list of all of them."""
        names = self._images.names()
        if self._variants == 1:
            return names
        return [f"{name}#{variant_name(number)}" for name in names for number in range(VARIANTS)]

    @property
    def epoch(self) -> int:
        """Set by `set_epoch`, at first 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Items from here on are those of epoch `epoch`, in worker processes that already run, too."""
        self._epoch.fill_(epoch)

    def label(self, index: int) -> int:
        """The label of item `index`: each round, which may go on in the next epoch, shuffles all classes."""
        turn, place = divmod(self.epoch * self._length + index, self.num_classes)
        return shuffled(place, self.num_classes, (self._seed, 0, turn))

    def clean(self, label: int) -> NDArray[np.uint8]:
        """The image of class `label` as it is, uint8 [h, w, 3], read-only."""
        number, which = divmod(label, self._variants)
        return variant(self._images[number], which)

    def sample(self, label: int, index: int) -> NDArray[np.uint8]:
        """The image of class `label`, uint8 [h, w, 3], augmented as item `index` of this epoch is.

        With `aug_on: device` as one in a batch of its own would be.
        """
        image, seed = self.clean(label), [self._seed, 1, self.epoch, index]
        if self._on_device:
            from otter_ray.docclassifier.batch_augment import augment_batch

            clean = torch.as_tensor(picture(image, return_tensor=True))
            [planes] = augment_batch(self._augmentation, clean[None], seed)
            return np.asarray((planes * 255).round().byte().permute(1, 2, 0))
        from otter_ray.docclassifier.augment import augmented

        return augmented(self._augmentation, image, seed)

    def augment_batch(self, batch: Sequence[Tensor], number: int) -> Sequence[Tensor]:
        """Batch `number` of this rank's epoch, on any device, as it is trained on.

        With `aug_on: device` that are images, float32 `[N, 3, h, w]` in [0, 1], and labels `[N]`; with
        `use_clip` the clean images follow. Else it is returned as it is.
        """
        if not self._on_device:
            return batch
        from otter_ray.docclassifier.batch_augment import augment_batch

        *images, labels = batch
        clean = (images[0] if images else self._gathered(labels)).float() / 255
        seed = [self._seed, 2, self.epoch, number, rank()]
        seen = augment_batch(self._augmentation, clean, seed)
        return [seen, labels, clean] if self._use_clip else [seen, labels]

    def _gathered(self, labels: Tensor) -> Tensor:
        """The images of labels `[N]`, uint8 `[N, 3, h, w]`, where the labels are."""
        if labels.device.type == "cpu":
            images = self._stacked(labels.tolist())
        else:
            if self._held is None or self._held.device != labels.device:
                self._held = self._stacked(range(self.num_classes)).to(labels.device)
            images = self._held[labels]
        return images.permute(0, 3, 1, 2)

    def _stacked(self, labels: Sequence[int]) -> Tensor:
        """uint8 `[N, h, w, 3]`."""
        images = np.empty((len(labels), *self.clean(0).shape), np.uint8)
        for row, label in enumerate(labels):
            images[row] = self.clean(label)
        return torch.from_numpy(images)

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes have no use for what the device holds."""
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


class _Images:
    """The images of several tables one after the other, without what resembles a document that is held out.

    That holds for ImageNet, too, whatever the folder really contains: against the documents of a
    `CaptureDataset` a million images take two seconds.
    """

    def __init__(self, tables: Sequence[ImageTable], held_out: Sequence[HoldsOut]) -> None:
        self._parts = [(table, _kept(table, held_out)) for table in tables]
        self._starts = np.cumsum([0, *(len(kept) for _, kept in self._parts)]).tolist()
        found, left = len(tables[0]), len(self._parts[0][1])
        if left < 2:
            raise DataError(
                f"{option_key('root', 'train')}: of {found} documents {left} are left to train on without "
                "those that are held out and their near-duplicates; at least 2 are needed. Add images, or "
                "lower held_out."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        part = bisect_right(self._starts, number) - 1
        table, kept = self._parts[part]
        image: NDArray[np.uint8] = table.images[kept[number - self._starts[part]]]
        return image

    def names(self) -> list[str]:
        return [table.names[row] for table, kept in self._parts for row in kept]


def _kept(table: ImageTable, held_out: Sequence[HoldsOut]) -> NDArray[np.intp]:
    """Rows of the table that may be trained on."""
    alike = [_alike(table.path, data.thumbnails.tobytes()) for data in held_out]
    return np.flatnonzero(~np.any(alike, axis=0)) if alike else np.arange(len(table))


@lru_cache(maxsize=8)
def _alike(table: Path, held_out: bytes) -> NDArray[np.bool_]:
    """`near_duplicates` of a table, whose file never changes, and the bytes of thumbnails.

    Kept for the process's next trial: with a million images it takes seconds.
    """
    thumbnails = read_table(table).thumbnails
    others = np.frombuffer(held_out, np.uint8).reshape(-1, thumbnails.shape[1])
    return near_duplicates(thumbnails, others)


def _extra_roots(use_imagenet: bool, imagenet_root: str | None, indoor_root: str | None) -> dict[str, str]:
    """Key in the config -> folder, of the images beside the documents."""
    key = option_key("imagenet_root", "train")
    if use_imagenet and imagenet_root is None:
        raise DataError(
            f"use_imagenet is true but {key} is not set. Set it to a folder of images, each of which becomes "
            "a class, or set use_imagenet to false."
        )
    roots = {key: imagenet_root if use_imagenet else None, option_key("indoor_root", "train"): indoor_root}
    return {key: root for key, root in roots.items() if root is not None}


def _check_place(aug_on: str, return_tensor: bool) -> None:
    key = option_key("aug_on", "train")
    if aug_on not in ("cpu", "device"):
        raise DataError(f"{key} is {aug_on!r} but must be cpu, or device: wherever the model is.")
    if aug_on == "device" and not return_tensor:
        raise DataError(
            f"{key} is device but {option_key('return_tensor', 'train')} is false, and what a batch is "
            "augmented in is tensors. Set return_tensor to true, or aug_on to cpu."
        )


def _augmentation(name: str, image_size: tuple[int, int], p: float, seed: int) -> Any:
    from otter_ray.docclassifier.augment import AUGMENTATIONS

    if name not in AUGMENTATIONS:
        raise DataError(
            f"{option_key('aug_func', 'train')} is {name!r} but must be one of "
            f"{', '.join(AUGMENTATIONS)}.{did_you_mean(name, AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name](image_size, p, seed)
