"""The data set of photographs, or crops of photographs, whose text somebody has written down."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.data.drawn_dataset import Item
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.icao import Zone
from otter_ray.projects.mrzscanner.text.keys import KEY_TABLES
from otter_ray.vision.camera import BILINEAR, PADDED
from otter_ray.vision.dataset_options import option_key, pair, require, require_choice
from otter_ray.vision.folder_digest import SUFFIXES, is_image
from otter_ray.vision.images import load_images, to_planes

_LINES = ("mrz_1", "mrz_2", "mrz_3")


@dataclass(frozen=True)
class _Annotation:
    image: str  # path below the folder
    zone: Zone


class PhotoDataset(Dataset[Item]):
    """Photographs with the text of their zone: RGB float32 [3, h, w] in [0, 1], labels as drawn ones have.

    The annotations are a JSON file `{"id": {"img_path": "a.jpg", "mrz_1": "P<UTO...", "mrz_2": "..."}}`, with
    `mrz_3` for three lines. Paths are those below `root`. Where a zone lies is not known (NaN). Images are
    decoded once on each machine, and cached.

    Args:
        image_size: (h, w) of an item in pixels.
        root: Folder of the images.
        annotations: The JSON file's name below `root`.
        keys: Which model reads them; a model refuses the other's. Images are resized for a `reader`, and
            first padded with black to a square for a `spotter`.
        valid_dataset: The validation set, if this is the test set: an image in both is refused.
        test_dataset: The test set, if this is the training set.
        dataset_part: Which data set of a config it is, for messages: `train`, `valid` or `test`.

    Raises:
        DataError: The folder or the file cannot be used, an image or a line is missing, or a line is not a
            zone's.
    """

    keys = "reader"
    has_places = False

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        root: str | None = None,
        annotations: str = "annotations.json",
        keys: str = "reader",
        valid_dataset: object = None,
        test_dataset: object = None,
        dataset_part: str = "valid",
    ) -> None:
        require(bool(root), "root", root, "a folder with annotated images", dataset_part)
        require_choice(keys, KEY_TABLES, "keys", dataset_part)
        self.keys, self.folder = keys, Path(str(root)).expanduser().resolve()
        key = option_key("annotations", dataset_part)
        self.annotated = _read(self.folder, annotations, key)
        for other in (valid_dataset, test_dataset):
            _keep_apart(self, other, key)
        resizing = PADDED if keys == "spotter" else BILINEAR
        self._table = load_images(self.folder, pair(image_size), option_key("root", dataset_part), resizing)
        self._rows = _rows(self._table.names, self.annotated, self.folder, key)
        wrong = [each.image for each in self.annotated if not icao.holds(each.zone)]
        if wrong:
            # Issuers differ from the standard: a warning, as the text is what is printed.
            warnings.warn(
                f"{key}: check digits do not hold in {len(wrong)} of "
                f"{len(self.annotated)} zones, which are used as they are: {', '.join(wrong[:5])}.",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self.annotated)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        text = torch.from_numpy(KEY_TABLES[self.keys].encode(self.annotated[index].zone))
        return to_planes(self._table.images[self._rows[index]]), {
            "text": text,
            "zone": torch.full((4, 2), torch.nan),
        }


def _read(root: Path, name: str, key: str) -> list[_Annotation]:
    file = root / name
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DataError(f"{key}: {file} cannot be read ({exc.strerror}). Give a file below root.") from exc
    except ValueError as exc:
        raise DataError(f"{key}: {file} is not JSON: {exc}.") from exc
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{key}: {file} has no entries. It must be an object, with an entry for each image.")
    return [_annotation(root, entry, f"{file}: {each}") for each, entry in sorted(entries.items())]


def _annotation(root: Path, entry: Any, where: str) -> _Annotation:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("img_path"), str):
        raise DataError(f"{where} has no img_path. Add the image's path below root.")
    image = os.path.relpath(root / entry["img_path"], root)
    if not (root / image).is_file():
        raise DataError(f"{where}: there is no image {root / image}. Correct img_path, or remove the entry.")
    lines = [entry.get(line) for line in _LINES]
    for name, line in zip(_LINES, lines, strict=True):
        if line is None and name in _LINES[:2]:
            raise DataError(f"{where} has no line {name}. Add it, or remove the entry.")
        if not isinstance(line, str | None):
            raise DataError(f"{where}: {name} is {line!r} but must be a text. Put it in quotation marks.")
    return _Annotation(image, icao.check_zone([line for line in lines if line is not None], where))


def _rows(names: list[str], annotated: list[_Annotation], root: Path, key: str) -> list[int]:
    """Return the row of each annotated image among those of the folder."""
    rows = {name: row for row, name in enumerate(names)}
    if others := [each.image for each in annotated if each.image not in rows]:
        # A folder is listed under one of its names only, whichever links lead to it.
        real = {os.path.realpath(root / name): row for name, row in rows.items()}
        rows |= {name: real[path] for name in others if (path := os.path.realpath(root / name)) in real}
    if lost := [image for image in others if image not in rows]:
        raise DataError(
            f"{key}: {len(lost)} images cannot be used, such as {lost[0]}: {_flaw(lost[0], root)}. Replace "
            "or move them, or remove their entries."
        )
    return [rows[each.image] for each in annotated]


def _flaw(image: str, root: Path) -> str:
    """Return why a file that is there is none of the folder's images."""
    if image.startswith(os.pardir + os.sep):
        return f"it is not below {root}"
    if not is_image(os.path.basename(image)):
        return f"images end in {', '.join(sorted(SUFFIXES))}, and do not begin with a dot"
    return "it cannot be read, or is too large"


def _keep_apart(dataset: PhotoDataset, other: object, key: str) -> None:
    if isinstance(other, PhotoDataset) and (both := _paths(dataset) & _paths(other)):
        raise DataError(
            f"{key}: {len(both)} images are in two data sets, such as {min(both)}. Remove them from one "
            "of the two."
        )


def _paths(dataset: PhotoDataset) -> set[Path]:
    return {(dataset.folder / each.image).resolve() for each in dataset.annotated}
