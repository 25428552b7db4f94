"""Contact sheets of DocAligner's data, to see what a model is shown before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from otter_ray.projects.docaligner.corners import corners_of, has_document
from otter_ray.projects.docaligner.visuals.gallery import TRUE, outlined
from otter_ray.vision.contact_sheets import write_sheet


def draw_sheets(train: Dataset[Any], valid: Dataset[Any], folder: Path) -> None:
    """Draw a sheet of each data set into a study's folder."""
    scene_sheet(train, folder / "scenes.png")
    scene_sheet(valid, folder / "validation.png")


def scene_sheet(dataset: Dataset[Any], path: str | Path, count: int = 48, columns: int = 8) -> None:
    """Draw photographs of a data set with their true corners."""
    length = len(dataset)  # type: ignore[arg-type]
    cells = []
    for index in np.unique(np.linspace(0, length - 1, min(count, length)).astype(int)).tolist():
        image, label = dataset[index]
        shown = bool(has_document(label[None])[0])
        cells.append(outlined(image, *([(corners_of(label[None])[0], TRUE)] if shown else [])))
    write_sheet(cells, path, columns)
