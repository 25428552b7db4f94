"""The data set of photographs whose corners somebody has marked."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch.utils.data import Dataset

from otter_ray.errors import DataError
from otter_ray.projects.docaligner.corners import in_order, label
from otter_ray.projects.docaligner.data.paper_dataset import Item, as_item
from otter_ray.projects.docaligner.data.photo_augment import taken_again
from otter_ray.train.shared_epoch import shared_epoch
from otter_ray.vision.camera import BILINEAR
from otter_ray.vision.dataset_options import option_key, pair, require
from otter_ray.vision.images import listed, load_images
from otter_ray.vision.jaccard import crosses
from otter_ray.vision.near_duplicates import near_duplicates

GROUND_TRUTH = "gt.json"
# Correlation of thumbnails above which two photographs are one. One that is saved again has 0.9998 (JPEG of
# quality 75, 256 px); one that is taken again, so that it moves by 4 px, has 0.999 at most.
_SAME = 0.9995
Mark = tuple[NDArray[np.float64] | None, int, int]  # corners in fractions, width, height


class PhotoDataset(Dataset[Item]):
    """Photographs with known corners: to train, to validate and to test with.

    `gt.json` in the folder is a list of `{"file_path": PATH, "polygon": [[[x, y], [x, y], [x, y], [x, y]]]}`:
    a path below the folder, and the corners in pixels, in any order around the document. An empty polygon is
    a photograph without a document. Images that the file does not name are left out.

    In training, item i of epoch e is a photograph as it could also have been taken: from another place,
    mirrored, in other light, with a corner covered. It depends on (seed, e, i).

    Args:
        image_size: (h, w) of an item, to which photographs are resized bilinearly, as clients do it.
        root: The folder.
        strength: Scale of what training does to photographs, in [0, 1]; 0 leaves them as they are. None: 1
            for the training set, and 0 for the others.
        length_of_dataset: Items in an epoch, which continues with the photographs after those of the epoch
            before; None: each once.
        seed: Seed of what training does to them.
        valid_dataset: The validation set: the two must not share a photograph, nor a copy of one.
        test_dataset: The test set, likewise.
        dataset_part: Which data set of a config it is, for messages: `train`, `valid` or `test`.

    Raises:
        DataError: The folder or its `gt.json` cannot be used; every faulty entry is named. Or a number is out
            of range.
    """

    thumbnails = None

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str,
        strength: float | None = None,
        length_of_dataset: int | None = None,
        seed: int = 0,
        valid_dataset: Any = None,
        test_dataset: Any = None,
        dataset_part: str = "valid",
    ) -> None:
        self._strength = float(dataset_part == "train") if strength is None else strength
        require(0 <= self._strength <= 1, "strength", strength, "in [0, 1]", dataset_part)
        length = length_of_dataset
        require(length is None or length >= 1, "length_of_dataset", length, "at least 1", dataset_part)
        require(seed >= 0, "seed", seed, "at least 0", dataset_part)
        key = option_key("root", dataset_part)
        table = load_images(root, pair(image_size), key, BILINEAR)
        folder = Path(root).expanduser().absolute()
        rows = {name: row for row, name in enumerate(table.names)}
        marks = _marks(folder, key, rows)
        self._table, self._items = table, [(rows[name], label(*mark)) for name, mark in marks.items()]
        if not any(corners is not None for corners, _, _ in marks.values()):
            raise DataError(
                f"{key} is {root!r}, but none of its photographs shows a document: nothing to score."
            )
        for whose, other in (("validation", valid_dataset), ("test", test_dataset)):
            theirs = getattr(other, "photographs", self.photographs[:0])
            same = near_duplicates(self.photographs, theirs, _SAME)
            if shared := [str(folder / name) for name, both in zip(marks, same, strict=True) if both]:
                raise DataError(
                    f"{key}: the {whose} set has the same photographs, or copies of them: {listed(shared)}. "
                    "Remove them from one of the two."
                )
        self._length, self._seed, self._epoch = length or len(self._items), seed, shared_epoch()

    @property
    def photographs(self) -> NDArray[np.uint8]:
        """Thumbnails of the photographs, uint8 [N, 256]."""
        return self._table.thumbnails[[row for row, _ in self._items]]

    def set_epoch(self, epoch: int) -> None:
        """Make items those of epoch `epoch` from now on, also in worker processes that already run."""
        self._epoch.fill_(epoch)

    def without_augmentation(self) -> PhotoDataset:
        """Return the photographs as they are, each once."""
        plain = copy.copy(self)
        plain._strength, plain._length = 0.0, len(self._items)
        return plain

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, about = self._items[(index + int(self._epoch) * len(self)) % len(self._items)]
        image = self._table.images[row]
        if not self._strength:
            return as_item(image, about.copy())
        rng = np.random.default_rng([self._seed, int(self._epoch), index])
        corners = about[:8].reshape(4, 2).astype(np.float64) if about[8] else None
        image, corners = taken_again(rng, image, corners, self._strength)
        ordered = None if corners is None else in_order(corners)
        return as_item(image, label(ordered, float(about[9]), float(about[10])))


def _marks(folder: Path, key: str, known: dict[str, int]) -> dict[str, Mark]:
    """Read the corners: relative path -> what is marked there."""
    path = folder / GROUND_TRUTH
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DataError(f"{key}: {path} cannot be read: {exc.strerror}. Write the corners into it.") from exc
    except ValueError as exc:
        raise DataError(f"{key}: {path} is not JSON: {exc}. Correct it.") from exc
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{key}: {path} must be a list of {{file_path, polygon}}, with at least one entry.")
    found, faults = dict[str, Mark](), []
    for number, entry in enumerate(entries):
        try:
            name, mark = _mark(folder, entry, known)
            if name in found:
                raise ValueError(f"{name} is marked twice. Remove one of the two")
            found[name] = mark
        except ValueError as exc:
            faults.append(f"entry {number}: {exc}")
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DataError(f"{key}: {path}: {'; '.join(faults[:5])}{more}. Correct them.")
    return found


def _mark(folder: Path, entry: Any, known: dict[str, int]) -> tuple[str, Mark]:
    """Return one entry. Raises ValueError with what is wrong with it."""
    if not (isinstance(entry, dict) and isinstance(entry.get("file_path"), str) and "polygon" in entry):
        raise ValueError("it has no file_path, or no polygon")
    name, polygon = entry["file_path"], entry["polygon"]
    if name not in known:
        raise ValueError(f"{name} is no image below the folder, or cannot be read")
    with PillowImage.open(folder / name) as file:
        width, height = file.size
        if file.getexif().get(274) in (5, 6, 7, 8):  # EXIF's orientation: turned by a quarter
            width, height = height, width
    if not isinstance(polygon, list):
        raise ValueError(f"{name}: polygon is no list")
    if not polygon:
        return name, (None, width, height)
    if len(polygon) > 1:
        raise ValueError(f"{name} has {len(polygon)} polygons, but a photograph shows one document")
    return name, (_corners(name, polygon[0], width, height), width, height)


def _corners(name: str, polygon: Any, width: int, height: int) -> NDArray[np.float64]:
    try:
        corners = np.array(polygon, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: its corners are not numbers [x, y]") from None
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise ValueError(f"{name}: its corners are not numbers [x, y]")
    if len(corners) != 4:
        raise ValueError(f"{name} has {len(corners)} corners, but a document has 4")
    if not np.isfinite(corners).all():
        raise ValueError(f"{name} has a corner that is not a finite number")
    if crosses(corners.tolist()):
        raise ValueError(
            f"{name}: the sides of its polygon cross. Give the corners in order around the document"
        )
    fractions = (corners + 0.5) / [width, height]
    # A corner at the last pixel may be given as the image's size.
    slack = 1.0 / np.array([width, height])
    if ((fractions < -slack) | (fractions > 1 + slack)).any():
        raise ValueError(f"{name} has a corner outside the photograph, which is {width}x{height}")
    return in_order(fractions.clip(0, 1))
