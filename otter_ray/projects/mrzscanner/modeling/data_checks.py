"""Check that the labels of the data sets are those that a model learns.

The class of a data set declares its labels. `keys` is the model in whose keys texts are written, unless an
option `keys` says it. `has_places = False` means that the places of zones are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.projects.mrzscanner.text.keys import KEY_TABLES, KeyTable
from otter_ray.train.registry import accepted, find_class


def require_keys(config: Config, keys: KeyTable) -> None:
    """Raise ConfigError if a data set writes its texts in other keys than the model reads in."""
    own = next(name for name, table in KEY_TABLES.items() if table is keys)
    problems = []
    for key, cls, options in _data_sets(config):
        theirs = options.get("keys", getattr(cls, "keys", own))
        if theirs == own:
            continue
        if accepted(cls, {"keys": own}):
            message = f"{theirs!r}, but {config.model.name} reads in the keys of a {own}. Set it to {own}."
            problems.append(config.problem(f"{key}.options.keys", message))
        else:
            message = (
                f"{cls.__name__} writes texts in the keys of a {theirs}, but {config.model.name} reads in "
                f"those of a {own}. Use a data set for a {own}."
            )
            problems.append(config.problem(f"{key}.name", message))
    if problems:
        raise ConfigError(problems)


def require_places(config: Config) -> None:
    """Raise ConfigError if a data set does not know where zones are: a detector would learn that none is."""
    reason = f"does not know where zones are, which {config.model.name} learns. Use SceneDataset."
    problems = [
        config.problem(f"{key}.name", f"{cls.__name__} {reason}")
        for key, cls, _ in _data_sets(config)
        if not getattr(cls, "has_places", True)
    ]
    if problems:
        raise ConfigError(problems)


def _data_sets(config: Config) -> Iterator[tuple[str, type[Any], dict[str, Any]]]:
    """Yield (key, class, options) of each data set whose class there is."""
    for part in ("train_options", "valid_options", "test_options"):
        if (section := getattr(config.dataset, part)) is not None:
            with suppress(LookupError):  # reported where names are looked up
                yield f"dataset.{part}", find_class(section.name, "dataset", config.project), section.options
