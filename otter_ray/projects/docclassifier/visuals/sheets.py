"""Contact sheets of DocClassifier's data, to see what a model is shown before training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.vision.contact_sheets import Image, write_sheet


def draw_sheets(train: object, valid: object, folder: Path) -> None:
    """Draw a sheet of each data set into a study's folder, for data sets that have one."""
    if isinstance(train, SynthDataset):
        augmentation_sheet(train, folder / "augmented.png")
    if isinstance(valid, CaptureDataset):
        capture_sheet(valid, folder / "captures.png")


def augmentation_sheet(dataset: SynthDataset, path: str | Path, documents: int = 8, samples: int = 9) -> None:
    """Draw one class a row: clean, then augmented as in training."""
    cells = list[Image]()
    for label in np.linspace(0, dataset.num_classes - 1, documents).astype(int).tolist():
        cells += [dataset.clean(label), *(dataset.sample(label, number) for number in range(samples))]
    write_sheet(cells, path, columns=1 + samples)


def capture_sheet(dataset: CaptureDataset, path: str | Path, documents: int = 12, samples: int = 10) -> None:
    """Draw one held-out document a row, photographed several times."""
    each = len(dataset) // dataset.num_classes
    rows = range(min(documents, dataset.num_classes))
    shots = range(min(samples, each))
    cells = [dataset.images[row * each + shot] for row in rows for shot in shots]
    write_sheet(cells, path, columns=len(shots))
