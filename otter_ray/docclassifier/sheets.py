"""Contact sheets: look at what a model is shown before training on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from otter_ray.docclassifier.datasets import CaptureDataset
    from otter_ray.docclassifier.synth import SynthDataset

Image = NDArray[np.uint8]

_GAP = 4


def draw_sheets(train: object, valid: object, folder: Path) -> None:
    """A sheet of what each data set shows the model, into a study's folder, where there is one for it."""
    from otter_ray.docclassifier.datasets import CaptureDataset
    from otter_ray.docclassifier.synth import SynthDataset

    if isinstance(train, SynthDataset):
        augmentation_sheet(train, folder / "augmented.png")
    if isinstance(valid, CaptureDataset):
        capture_sheet(valid, folder / "captures.png")


def grid(images: Sequence[Image], columns: int = 8) -> Image:
    """Images uint8 [h, w, 3] (RGB, all of one size), row by row, as one."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    step = np.array([height + _GAP, width + _GAP])
    sheet = np.full((rows * step[0] + _GAP, columns * step[1] + _GAP, 3), 32, np.uint8)
    for index, image in enumerate(images):
        top, left = _GAP + np.array(divmod(index, columns)) * step
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_sheet(images: Sequence[Image], path: str | Path, columns: int = 8) -> None:
    """The `grid` of the images as a PNG at `path`."""
    sheet = grid(images, columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def augmentation_sheet(dataset: SynthDataset, path: str | Path, documents: int = 8, samples: int = 9) -> None:
    """Each row one class: clean, then augmented as in training."""
    cells = list[Image]()
    for label in np.linspace(0, dataset.num_classes - 1, documents).astype(int).tolist():
        cells += [dataset.clean(label), *(dataset.sample(label, number) for number in range(samples))]
    write_sheet(cells, path, columns=1 + samples)


def capture_sheet(dataset: CaptureDataset, path: str | Path, documents: int = 12, samples: int = 10) -> None:
    """Each row one held-out document, photographed again and again."""
    each = len(dataset) // dataset.num_classes
    rows = range(min(documents, dataset.num_classes))
    shots = range(min(samples, each))
    cells = [dataset.images[row * each + shot] for row in rows for shot in shots]
    write_sheet(cells, path, columns=len(shots))
