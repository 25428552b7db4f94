"""Check what depends on the number of items in the training set: the steps of an epoch and of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import timm.optim
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem
from otter_ray.train.builders import build_dataloader
from otter_ray.train.checks.validation import build_without_memory, on_meta
from otter_ray.train.loader_options import sharing_flaw, with_objects
from otter_ray.train.model.example_inputs import model_inputs
from otter_ray.train.registry import by_project, find_class
from otter_ray.train.schedule.schedule_building import RunLength, accumulation_of, build_schedule


@by_project
def check_epochs(config: Config, train: Dataset[Any], workers: int = 1) -> None:
    """Check the epochs of a run before it starts, with the loader of one of its workers.

    Args:
        config: The config.
        train: The training set.
        workers: Processes that share the training set out.

    Raises:
        ConfigError: Everything that is wrong.
    """
    options = with_objects(config, "train_options", train)
    share: Any = train
    if flaw := sharing_flaw(options, workers):
        raise ConfigError([config.problem(f"dataloader.train_options.{flaw[0]}", flaw[1])])
    if workers > 1:
        items = len(train) / workers  # type: ignore[arg-type]
        share = range(math.floor(items) if options.get("drop_last") else math.ceil(items))
    check_loader(config, build_dataloader(share, options, config.common.batch_size, cpus=1))


def check_loader(config: Config, loader: DataLoader[Any]) -> None:
    """Check the epochs of a run against its training loader.

    Raises:
        ConfigError: Everything that is wrong.
    """
    try:
        batches = _batches(config, loader)
    except TypeError as exc:  # from a `len`
        message = (
            f"cannot be counted in batches ({exc}), so the steps of an epoch are not known. Give the data "
            "set and the sampler, or the batch_sampler, a method __len__."
        )
        raise ConfigError([config.problem("dataloader.train_options", message)]) from exc
    if not batches:
        raise ConfigError([_no_batch(config, loader)])
    # The run has been seeded: a check that drew random numbers would give it other weights.
    with torch.random.fork_rng(devices=[]):
        problems = [*_ends_of_epochs(config, batches), *_last_batch(config, loader)]
        if problems:
            raise ConfigError(problems)
        _build_schedule(config, batches)


def _batches(config: Config, loader: DataLoader[Any]) -> int:
    """Return the batches of an epoch, as Lightning counts them."""
    limit = (config.trainer.model_extra or {}).get("limit_train_batches")
    if limit is None:
        return len(loader)
    return min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)


def _no_batch(config: Config, loader: DataLoader[Any]) -> Problem:
    if len(loader):
        limit = (config.trainer.model_extra or {})["limit_train_batches"]
        message = f"is {limit}: of an epoch's {len(loader)} batches it leaves none. Raise it, or remove it."
        return config.problem("trainer.limit_train_batches", message)
    if loader.batch_size is None:
        return config.problem(
            "dataloader.train_options.batch_sampler", "gives no batch. Correct or remove it."
        )
    message = f"{loader.batch_size} is more than the training set has items, and drop_last is true. Lower it."
    return config.problem("common.batch_size", message)


def _ends_of_epochs(config: Config, batches: int) -> Iterator[Problem]:
    interval = config.trainer.val_check_interval
    every = max(1, int(batches * interval)) if isinstance(interval, float) else interval
    if every and batches % every:
        divisors = [str(count) for count in range(1, batches) if batches % count == 0]
        message = (
            f"{interval} validates after every {every} of an epoch's {batches} batches, and not at its end. "
            f"Remove it, or give a number of batches that divides them: {', '.join(divisors[-5:])}."
        )
        yield config.problem("trainer.val_check_interval", message)
    most = (config.trainer.model_extra or {}).get("max_steps", -1)
    steps = math.ceil(batches / accumulation_of(config).get(0, 1))
    if 0 <= most < steps:
        message = (
            f"{most} ends the run within its first epoch of {steps} steps, before a validation. Remove it: "
            "trainer.max_epochs is the run's length."
        )
        yield config.problem("trainer.max_steps", message)


def _last_batch(config: Config, loader: DataLoader[Any]) -> Iterator[Problem]:
    """Yield the problem of a model that cannot train on one item, if an epoch's last batch has only one."""
    size = loader.batch_size
    if size is None or loader.drop_last or _batches(config, loader) < len(loader):
        return
    # torch gives an iterable data set a sampler without end.
    source = loader.dataset if isinstance(loader.dataset, IterableDataset) else loader.sampler
    items = len(source)  # type: ignore[arg-type]
    if size == 1 or items % size != 1:
        return
    try:
        model = build_without_memory(config).train()
        with torch.device("meta"), torch.no_grad():
            model(*on_meta(model_inputs(config, 1)))
    except (ValueError, RuntimeError) as exc:
        reason = str(exc).splitlines()[0]
        message = (
            f"is false, so an epoch of {items} items ends with a batch of one, and the model cannot train on "
            f"that ({reason}). Set it to true, or change common.batch_size ({size})."
        )
        yield config.problem("dataloader.train_options.drop_last", message)


def _build_schedule(config: Config, batches: int) -> None:
    """Build the schedule for weights that are never trained: its class knows best what it refuses."""
    section = config.optimizer
    cls = find_class(section.name, "optimizer", config.project)
    # A bias is one group, and a matrix another, as in the run: a schedule may have a rate for each.
    decay = float(section.options.get("weight_decay", 0.0))
    groups = timm.optim.param_groups_weight_decay(nn.Linear(1, 1), weight_decay=decay)
    optimizer = cls(groups, **section.options)
    build_schedule(config, optimizer, RunLength.of(config, batches))
