"""Contact sheets of MRZScanner's data, to see what a model is shown before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from otter_ray.vision.contact_sheets import Image, write_sheet

_CROPS, _SCENES = (20, 2), (12, 4)  # number of pictures, and columns


def draw_sheets(train: Dataset[Any], valid: Dataset[Any], folder: Path) -> None:
    """Draw a sheet of each data set into a study's folder."""
    for name, dataset in (("train", train), ("valid", valid)):
        write_sheet(pictures(dataset), folder / f"{name}.png", columns=_layout(dataset)[1])


def pictures(dataset: Dataset[Any]) -> list[Image]:
    """Return the first images of a data set, uint8 [h, w, 3]."""
    count = min(_layout(dataset)[0], len(dataset))  # type: ignore[arg-type]
    planes = (dataset[index][0].numpy() for index in range(count))
    return [np.asarray((each.transpose(1, 2, 0) * 255).round(), np.uint8) for each in planes]


def _layout(dataset: Dataset[Any]) -> tuple[int, int]:
    height, width = dataset[0][0].shape[1:]
    return _CROPS if width > 3 * height else _SCENES
