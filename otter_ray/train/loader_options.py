"""Options of torch's DataLoader that are objects: a config names a class or function of the project.

collate_fn: pad_images                                        # a function
collate_fn: {name: Padding, options: {value: 255}}            # an object of a class
sampler: {name: BalancedSampler, options: {per_class: 4}}     # built with the data set
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.train.checks.trainer_checks import Flaw
from otter_ray.train.registry import accepted, find_callable, unknown_arguments

CALLED_BY_THE_LOADER = ("collate_fn", "worker_init_fn")
BUILT_WITH_THE_DATA = ("sampler", "batch_sampler")
NAMED = (*CALLED_BY_THE_LOADER, *BUILT_WITH_THE_DATA)
# Arguments of DataLoader that need an object for which there is no name.
NOT_IN_A_CONFIG = ("generator",)
# DataLoader refuses them next to the sampler that decides them.
DECIDED_BY = {"sampler": ("shuffle",), "batch_sampler": ("batch_size", "shuffle", "drop_last")}


def with_objects(config: Config, part: str, dataset: Dataset[Any]) -> dict[str, Any]:
    """Return a loader's options with each named class or function in place of its name.

    Args:
        config: The config.
        part: `train_options` or `valid_options`.
        dataset: What to load. A sampler is built with it, and with the batch size if it has an argument
            `batch_size`.

    Raises:
        ConfigError: A class refuses its options.
    """
    options = getattr(config.dataloader, part)
    filled = dict(options)
    for key in NAMED:
        section = _section(options.get(key))
        if section is None:
            continue
        found = find_callable(section["name"], "loader", config.project)
        arguments = section.get("options") or {}
        if key in BUILT_WITH_THE_DATA:
            batch_size = options.get("batch_size", -1)
            offered = {"batch_size": config.common.batch_size if batch_size == -1 else batch_size}
            make = partial(found, dataset, **{**accepted(found, offered), **arguments})
            filled = {name: value for name, value in filled.items() if name not in DECIDED_BY[key]}
        else:
            make = partial(found, **arguments)
        is_function = key in CALLED_BY_THE_LOADER and not inspect.isclass(found)
        try:
            filled[key] = make if is_function else make()
        except (TypeError, ValueError) as exc:
            message = f"{section['name']} refuses its options: {exc}"
            raise ConfigError([config.problem(f"dataloader.{part}.{key}", message)]) from exc
    return filled


def sharing_flaw(options: Mapping[str, Any], workers: int) -> Flaw | None:
    """Return what keeps a loader's items from being shared out among workers; None if nothing does."""
    named = next((key for key in BUILT_WITH_THE_DATA if options.get(key) is not None), None)
    if named is None or workers == 1:
        return None
    return named, f"cannot share items out among {workers} workers. Remove it, or use one worker."


def named_flaws(options: Mapping[str, Any], project: str) -> Iterator[Flaw]:
    """Yield the flaws of names that are not found or do not fit, keyed below the loader's options."""
    for key in NAMED:
        value = options.get(key)
        section = _section(value)
        if section is None:
            if value is not None:
                shape = f"{key}: {{name: MyClass, options: {{}}}}"
                yield key, f"is {value!r}. Name a class or function of the project, as text or as {shape}."
            continue
        try:
            found = find_callable(section["name"], "loader", project)
        except LookupError as exc:
            yield key, str(exc.args[0])
            continue
        for name, message in unknown_arguments(found, section.get("options") or {}).items():
            yield f"{key}.options.{name}", message
        for other in DECIDED_BY.get(key, ()):
            if options.get(other) not in (None, False, -1):
                yield other, f"is {options[other]}, but the {key} decides it. Remove one of the two."
    for key in NOT_IN_A_CONFIG:
        if options.get(key) is not None:
            yield key, "is an object that no config can name. Remove it: common.seed seeds the order."


def _section(value: Any) -> Mapping[str, Any] | None:
    """Return a value as a mapping with a name; None if it is none."""
    if isinstance(value, str):
        return {"name": value}
    is_one = isinstance(value, Mapping) and {"name"} <= value.keys() <= {"name", "options"}
    return value if is_one else None
