"""What is done once before the trials start, so that none of them finds the data broken."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from torch.utils.data import Dataset

from otter_ray.config import Config, Space
from otter_ray.train.builders import (
    build_datasets,
    build_model,
    dataset_facts,
    fill_classes,
    with_classes,
)
from otter_ray.train.components import load_project
from otter_ray.tune.folder import StudyFolder


def prepare_data(config: Config, space: Space, folder: StudyFolder, console: Console) -> None:
    """Builds the data sets of the config and of every branch, which fills the cache that all trials share.

    The project may draw sheets of them into the study's folder (`draw_sheets(train, valid, folder)`).

    Raises:
        DataError: a folder is missing, empty or unreadable, or a data set refuses its options.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        train, valid = build_datasets(config)
        for branch in _other_data(config, space):
            build_datasets(branch)
    messages = {str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)}
    for message in sorted(messages):
        console.print(f"warning: {message}", style="yellow")
    fill_classes(config, train)
    console.print(f"data: {_size(train)} to train on, {_size(valid)} to validate with")
    draw_sheets = getattr(load_project(config.project), "draw_sheets", None)
    if draw_sheets is not None:
        draw_sheets(train, valid, folder.path)


def prepare_weights(config: Config, space: Space) -> None:
    """Builds each backbone that the study can reach once, as for training.

    So pretrained weights (and a teacher's) are in the hub's cache before several slots ask for them.

    Raises:
        TrainingError: weights cannot be had.
    """
    seen = set()
    for branch in (config, *map(config.with_values, space.branches(config))):
        identity = json.dumps([branch.model.backbone.model_dump(), branch.common.use_clip], sort_keys=True)
        if identity not in seen:
            seen.add(identity)
            build_model(with_classes(branch, 2)).setup("fit")


def _other_data(config: Config, space: Space) -> Iterator[Config]:
    """A config for each other data section that the space can reach."""
    seen = {_data_of(config)}
    for branch in map(config.with_values, space.branches(config)):
        if _data_of(branch) not in seen:
            seen.add(_data_of(branch))
            yield branch


def _data_of(config: Config) -> str:
    return json.dumps([dataset_facts(config), config.dataset.model_dump()], sort_keys=True)


def _size(dataset: Dataset[Any]) -> str:
    classes = getattr(dataset, "num_classes", None)
    return f"{len(dataset)} images" + (f" of {classes} classes" if classes else "")  # type: ignore[arg-type]
