"""Annotated photographs, or crops of them: what people's own documents look like."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.data.drawn_dataset import Item
from otter_ray.projects.mrzscanner.data.options import option_key, require, require_choice
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.icao import Zone
from otter_ray.projects.mrzscanner.text.keys import KEY_TABLES
from otter_ray.vision.dataset_options import pair
from otter_ray.vision.images import to_planes

_LINES = ("mrz_1", "mrz_2", "mrz_3")


@dataclass(frozen=True)
class _Annotation:
    image: Path
    zone: Zone


class PhotoDataset(Dataset[Item]):
    """Photographs with the text of their zone: RGB float32 [3, h, w] in [0, 1], labels as drawn ones have.

    The annotations are a JSON file `{"id": {"img_path": "a.jpg", "mrz_1": "P<UTO...", "mrz_2": "..."}}`, with
    `mrz_3` for three lines. Paths are those below `root`. Where a zone lies is not known (NaN).

    Args:
        image_size: (h, w) of an item in pixels.
        root: Folder of the images.
        annotations: The JSON file's name below `root`.
        keys: Which model reads them; a model refuses the other's. Images are resized for a `reader`, and
            first padded with black to a square for a `spotter`.
        valid_dataset: The validation set, if this is the test set: an image in both is refused.
        test_dataset: The test set, if this is the training set.

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
    ) -> None:
        require(bool(root), "root", root, "a folder with annotated images")
        require_choice(keys, KEY_TABLES, "keys")
        self.image_size = pair(image_size)
        self.keys = keys
        self.annotated = _read(Path(str(root)).expanduser(), annotations)
        for other in (valid_dataset, test_dataset):
            _keep_apart(self.annotated, other)
        wrong = [each.image.name for each in self.annotated if not icao.holds(each.zone)]
        if wrong:
            # Issuers differ from the standard: a warning, as the text is what is printed.
            warnings.warn(
                f"{option_key('annotations')}: check digits do not hold in {len(wrong)} of "
                f"{len(self.annotated)} zones, which are used as they are: {', '.join(wrong[:5])}.",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self.annotated)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        each = self.annotated[index]
        image = _load(each.image)
        if self.keys == "spotter":
            image = _padded(image)
        height, width = self.image_size
        image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
        text = torch.from_numpy(KEY_TABLES[self.keys].encode(each.zone))
        return to_planes(image), {"text": text, "zone": torch.full((4, 2), torch.nan)}


def _read(root: Path, name: str) -> list[_Annotation]:
    key, file = option_key("annotations"), root / name
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
    image = root / entry["img_path"]
    if not image.is_file():
        raise DataError(f"{where}: there is no image {image}. Correct img_path, or remove the entry.")
    lines = [entry.get(line) for line in _LINES]
    for name, line in zip(_LINES, lines, strict=True):
        if line is None and name in _LINES[:2]:
            raise DataError(f"{where} has no line {name}. Add it, or remove the entry.")
        if not isinstance(line, str | None):
            raise DataError(f"{where}: {name} is {line!r} but must be a text. Put it in quotation marks.")
    return _Annotation(image, icao.check_zone([line for line in lines if line is not None], where))


def _keep_apart(annotated: list[_Annotation], other: object) -> None:
    if isinstance(other, PhotoDataset):
        both = {each.image.resolve() for each in annotated} & {
            each.image.resolve() for each in other.annotated
        }
        if both:
            raise DataError(
                f"{option_key('annotations')}: {len(both)} images are in two data sets, such as {min(both)}. "
                "Remove them from one of the two."
            )


def _load(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{option_key('root')}: {path} cannot be read as an image. Replace or remove it.")
    return np.asarray(image[..., ::-1], np.uint8)


def _padded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad an image with black to a square."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = image
    return square
