"""What is done once before the trials start, so that none of them finds the data broken."""

from __future__ import annotations

import warnings
from typing import Any

from rich.console import Console

from otter_ray.config import Config
from otter_ray.train.builders import build_datasets, fill_classes
from otter_ray.train.components import load_project
from otter_ray.tune.folder import StudyFolder


def prepare_data(config: Config, folder: StudyFolder, console: Console) -> None:
    """Builds both data sets, which fills the cache that all trials share, and draws their sheets.

    Raises:
        DataError: a folder is missing, empty or unreadable.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        train, valid = build_datasets(config)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            console.print(f"[yellow]warning:[/] {warning.message}", highlight=False, soft_wrap=True)
    fill_classes(config, train)
    console.print(f"data: {_size(train)} to train on, {_size(valid)} to validate with", highlight=False)
    draw_sheets = getattr(load_project(config.project), "draw_sheets", None)
    if draw_sheets is not None:
        draw_sheets(train, valid, folder.path)


def _size(dataset: Any) -> str:
    classes = getattr(dataset, "num_classes", None)
    return f"{len(dataset)} images" + (f" of {classes} documents" if classes else "")
