"""What is done once before the trials start, so that none of them finds the data broken."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import Dataset

from otter_ray.cli import tell
from otter_ray.config import Config, Space
from otter_ray.train.builders import (
    build_datasets,
    build_model,
    build_test,
    dataset_facts,
    fill_classes,
    with_classes,
)
from otter_ray.train.components import load_project
from otter_ray.train.restore import STATES, described, find_restore, pin_restore, restore
from otter_ray.tune.folder import StudyFolder


def keep_restore(config: Config, space: Space, folder: StudyFolder, console: Console) -> Config:
    """The config with the checkpoint that it starts from copied into the study, where nothing changes it.

    A space that searches among checkpoints is left to find them itself.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    place = folder.path / "restored"
    searched = {key for parameter in space.parameters for key in parameter.keys}
    if searched & {"common.restore_ind", "common.restore_ckpt"}:
        return config
    if not place.is_dir():
        source = find_restore(config)
        if source is None:
            return config
        partial = place.with_name("restored.partial")
        partial.mkdir(exist_ok=True)
        shutil.copyfile(source, partial / source.name)
        (partial / "from.txt").write_text(f"{described(source.absolute())}\n")
        partial.replace(place)
    console.print(f"starts from {(place / 'from.txt').read_text().strip()}")
    return pin_restore(config, next(place.glob("*.ckpt")))


def prepare_data(config: Config, space: Space, folder: StudyFolder, console: Console) -> dict[str, int]:
    """Builds the data sets of the config and of every branch, which fills the cache that all trials share.

    The project may draw sheets of them into the study's folder (`draw_sheets(train, valid, folder)`).

    Returns:
        The number of classes to train on, by what `_data_of` gives for a branch.

    Raises:
        DataError: a folder is missing, empty or unreadable, or a data set refuses its options.
    """
    with _told(console):
        built = {_data_of(branch): build_datasets(branch) for branch in _distinct(config, space, _data_of)}
    train, valid = built[_data_of(config)]
    fill_classes(config, train)
    test = build_test(config, valid)
    tested = "" if test is None else f", {_size(test)} to test with"
    console.print(f"data: {_size(train)} to train on, {_size(valid)} to validate with{tested}")
    draw_sheets = getattr(load_project(config.project), "draw_sheets", None)
    if draw_sheets is not None:
        draw_sheets(train, valid, folder.path)
    return {key: getattr(train, "num_classes", 0) for key, (train, _) in built.items()}


def prepare_weights(config: Config, space: Space, classes: dict[str, int], console: Console) -> None:
    """Finds every weight that a trial can start from.

    Each backbone and teacher is built once, so that pretrained ones are in the hub's cache before several
    slots ask for them; each checkpoint of `common.is_restore` is held against the model that it is for.

    Args:
        classes: as `prepare_data` gives it.

    Raises:
        ConfigError: a checkpoint's states are not those that a branch describes.
        TrainingError: weights cannot be had, or do not fit.
    """
    for branch in _distinct(config, space, _pretrained_of):
        build_model(with_classes(branch, 2)).setup("fit")
    with _told(console):
        for branch in _distinct(config, space, _restored_of):
            if branch.common.is_restore:
                with torch.device("meta"):
                    model = build_model(with_classes(branch, classes[_data_of(branch)]))
                restore(branch, model)


@contextmanager
def _told(console: Console) -> Iterator[None]:
    """Prints each warning to the user, once in the whole command."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        # A model without memory is loaded into to be compared only.
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
        yield
    messages = {str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)}
    for message in sorted(messages):
        tell(console, f"warning: {message}", style="yellow")
        # The export measures the same data.
        warnings.filterwarnings("ignore", re.escape(message))


def _distinct(config: Config, space: Space, part: Callable[[Config], str]) -> Iterator[Config]:
    """The config and branches of the space, one for each `part` of them."""
    seen: dict[str, Config] = {}
    for branch in (config, *map(config.with_values, space.branches(config))):
        seen.setdefault(part(branch), branch)
    yield from seen.values()


def _pretrained_of(config: Config) -> str:
    model = config.model
    teacher = model.teacher and model.teacher.model_dump()
    return json.dumps([model.backbone.model_dump(), teacher, config.common.use_clip], sort_keys=True)


def _restored_of(config: Config) -> str:
    sections = ["common", "model", "dataset", "trainer"]
    sections += STATES if config.common.restore_all_states else []
    return json.dumps([config.to_dict().get(section) for section in sections], sort_keys=True)


def _data_of(config: Config) -> str:
    return json.dumps([dataset_facts(config), config.dataset.model_dump()], sort_keys=True)


def _size(dataset: Dataset[Any]) -> str:
    classes = getattr(dataset, "num_classes", None)
    return f"{len(dataset)} images" + (f" of {classes} classes" if classes else "")  # type: ignore[arg-type]
