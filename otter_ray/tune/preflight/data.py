"""Read the data of every branch once before the trials start, so that no trial finds it broken."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.space import SearchProblem
from otter_ray.study.layout import StudyFolder
from otter_ray.train.builders import (
    build_datasets,
    build_test,
    fill_classes,
    offered_settings,
)
from otter_ray.train.checks.epoch_checks import check_epochs
from otter_ray.train.model.declared_metrics import first_score
from otter_ray.train.registry import load_project
from otter_ray.tune.preflight.measurement import rehearse_measurement
from otter_ray.tune.preflight.static_checks import in_space
from otter_ray.warn import SAID, identity_of

logger = logging.getLogger(__name__)

# Sections of a config that decide how its epochs go.
EPOCH_SECTIONS = ("trainer", "dataloader", "lr_scheduler", "optimizer", "callbacks")


def prepare_data(problem: SearchProblem, folder: StudyFolder) -> dict[str, int]:
    """Build the data sets of the config and of every branch, which fills the cache that all trials share.

    The project may draw sheets of them into the study's folder (`draw_sheets(train, valid, folder)`).

    Args:
        problem: to be searched.
        folder: of the study.

    Returns:
        The number of classes to train on, by the `data_key` of a config.

    Raises:
        ConfigError: the config, or a branch, does not suit the number of items, or the model cannot be
            measured on the validation set.
        DataError: a folder is missing, empty or unreadable, or a data set refuses its options.
    """
    config = problem.config
    with log_warnings_once():
        built, summary = read_data(problem)
    logger.info(f"data: {summary}")
    train, valid = built[data_key(config)]
    draw_sheets = getattr(load_project(config.project), "draw_sheets", None)
    if draw_sheets is not None:
        draw_sheets(train, valid, folder.path)
    return {key: getattr(train, "num_classes", 0) for key, (train, _) in built.items()}


def read_data(problem: SearchProblem) -> tuple[dict[str, tuple[Dataset[Any], Dataset[Any]]], str]:
    """Build the data sets of the config and of every branch.

    Args:
        problem: to be searched.

    Returns:
        (train, valid) by the `data_key` of a config, and how many images the base config's sets have.

    Raises:
        ConfigError: as `prepare_data`.
        DataError: a folder is missing, empty or unreadable, or a data set refuses its options.
    """
    config = problem.config
    built = {data_key(branch): build_datasets(branch) for branch in distinct_configs(problem, data_key)}
    train, valid = built[data_key(config)]
    fill_classes(config, train)
    _check_epochs(problem, {key: train for key, (train, _) in built.items()})
    rehearse_measurement(config, valid, problem.options.metric or first_score(config))
    test = build_test(config, valid)
    tested = "" if test is None else f", {_size(test)} to test with"
    return built, f"{_size(train)} to train on, {_size(valid)} to validate with{tested}"


def _check_epochs(problem: SearchProblem, trained_on: Mapping[str, Dataset[Any]]) -> None:
    """Check each kind of epoch that the space reaches.

    Args:
        problem: to be searched.
        trained_on: the training sets, by the `data_key` of a config.

    Raises:
        ConfigError: everything that is wrong.
    """
    config, workers = problem.config, problem.options.resources.workers_per_trial
    check_epochs(config, trained_on[data_key(config)], workers)
    seen, found = {_epoch_key(config)}, []
    for branch in problem.branches:
        if (key := _epoch_key(branch.config)) in seen:
            continue
        seen.add(key)
        try:
            check_epochs(branch.config, trained_on[data_key(branch.config)], workers)
        except ConfigError as exc:
            found += [in_space(fault, problem.space, branch) for fault in exc.problems]
    if found:
        raise ConfigError(list(dict.fromkeys(found)))


def _epoch_key(config: Config) -> str:
    """Return what decides how a config's epochs go, as text."""
    model = config.model.model_dump(exclude={"teacher"})
    sections = [config.to_dict().get(name) for name in EPOCH_SECTIONS]
    return json.dumps([data_key(config), config.common.batch_size, model, sections], sort_keys=True)


@contextmanager
def log_warnings_once() -> Iterator[None]:
    """Log each warning of the block, once in the whole command."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        # A checkpoint is loaded into a model without memory only to compare the two.
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
        yield
    found: dict[str, Warning | str] = {}
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            found.setdefault(identity_of(warning.message), warning.message)
    for message in sorted(found.values(), key=str):
        logger.warning(str(message))
        # The export measures the same data and would warn again.
        SAID.add(identity_of(message))


def distinct_configs(problem: SearchProblem, key: Callable[[Config], str]) -> Iterator[Config]:
    """Yield the base config and the branches' configs, one of those that have the same key.

    Args:
        problem: to be searched.
        key: tells configs apart.
    """
    seen = {key(problem.config): problem.config}
    for branch in problem.branches:
        seen.setdefault(key(branch.config), branch.config)
    yield from seen.values()


def data_key(config: Config) -> str:
    """Return what decides which data a config reads, as text.

    Args:
        config: the base config or a branch's.
    """
    return json.dumps([offered_settings(config), config.data_section.model_dump()], sort_keys=True)


def _size(dataset: Dataset[Any]) -> str:
    classes, unit = getattr(dataset, "num_classes", None), getattr(dataset, "unit", "images")
    return f"{len(dataset)} {unit}" + (f" of {classes} classes" if classes else "")  # type: ignore[arg-type]
