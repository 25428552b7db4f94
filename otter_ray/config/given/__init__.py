"""Classes and data that a program gives as objects, under the names that a config has for them.

A config is plain data. It names a class of a notebook by `__main__.LitClassifier`, which no other process can
import: the object itself travels to the workers. A study's folder holds the name alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Any

from otter_ray.config.config import Config
from otter_ray.config.lightning_cli import LIGHTNING
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.formatting import short_repr

# Class path -> a class; or an object of one; or training, validation and perhaps test loaders. All are of the
# study that runs: each `Study` keeps its own.
GIVEN: dict[str, Any] = {}
# Class path of the data module that is made of loaders.
LOADERS = "otter_ray.projects.lightning.Loaders"
# Called when other objects are given: what was computed of earlier ones of the same name is void.
ON_CHANGE: list[Callable[[], object]] = []
ARGUMENTS = ".init_args."  # between a section and the name of an argument


def give(objects: Mapping[str, Any]) -> None:
    """Let configs of this process name these objects, and no others that were given before.

    Args:
        objects: By class path.
    """
    if GIVEN.keys() != objects.keys() or any(GIVEN[path] is not value for path, value in objects.items()):
        given = {**objects}  # which may be GIVEN itself
        GIVEN.clear()
        GIVEN.update(given)
        for forget in ON_CHANGE:
            forget()


@contextmanager
def giving(objects: Mapping[str, Any]) -> Iterator[None]:
    """Let configs name these objects, and no others, within the block.

    Args:
        objects: By class path.
    """
    before = {**GIVEN}
    give(objects)
    try:
        yield
    finally:
        give(before)


def given_to(config: Config) -> dict[str, Any]:
    """Return the objects that a config names."""
    data = config.to_dict()
    paths = [
        part.get("class_path") for key in ("model", "data") if isinstance(part := data.get(key), Mapping)
    ]
    return {path: GIVEN[path] for path in paths if path in GIVEN}


def dotted_keys(model: Any, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a space under the config's keys.

    Args:
        model: A LightningModule's class; or a `partial` of one.
        entries: By dotted key, or by the name of an argument of the module.

    Raises:
        ConfigError: The module has no such argument, or is not a class.
    """
    module, _ = _module_and_arguments(model)
    return {_dotted(key, module): entry for key, entry in entries.items()}


def config_of_objects(
    model: Any, data: Any, metric: str, trainer: Mapping[str, Any], starts: Mapping[str, Any]
) -> tuple[Config, dict[str, Any]]:
    """Describe objects in a config of `project: lightning`.

    Args:
        model: A LightningModule's class; or a `partial` of one, with arguments by keyword.
        data: A LightningDataModule, its class or a `partial` of that; or two or three loaders; or None.
        metric: What the module logs.
        trainer: Arguments of Lightning's Trainer.
        starts: Searched keys, dotted, with a value for arguments that have no default.

    Returns:
        The config, and the objects by class path.

    Raises:
        ConfigError: One of them cannot be meant.
    """
    module, arguments = _module_and_arguments(model)
    path = _path(module)
    objects: dict[str, Any] = {path: module}
    sources: dict[str, Any] = {"model": module}
    content: dict[str, Any] = {
        "project": LIGHTNING,
        "model": {"class_path": path, "init_args": arguments},
        "trainer": dict(trainer),
        "metric": metric,
    }
    if data is not None:
        source, own = _class_and_arguments(data, "data")
        is_loaders = isinstance(source, Sequence) and not isinstance(source, str)
        if is_loaders and len(source) not in (2, 3):
            message = (
                f"has {len(source)} loaders. Give those of training and validation, and perhaps of a test."
            )
            raise ConfigError([Problem("data", message)])
        where = LOADERS if is_loaders else _path(source if isinstance(source, type) else type(source))
        objects[where] = sources["data"] = source
        content["data"] = {"class_path": where, "init_args": own}
    for key, start in starts.items():
        section, separator, argument = key.partition(ARGUMENTS)
        if separator and section in sources:
            name = argument.partition(".")[0]
            content[section]["init_args"].setdefault(name, _default(sources[section], name, start))
    if found := [*_objects_in(content, "")]:
        raise ConfigError(found)
    return Config.from_dict(content, module.__name__), objects


def _module_and_arguments(model: Any) -> tuple[type[Any], dict[str, Any]]:
    module, arguments = _class_and_arguments(model, "model")
    if isinstance(module, type):
        return module, arguments
    raise ConfigError([Problem("model", f"{short_repr(model)} is not a class. Give the LightningModule's.")])


def _objects_in(value: Any, key: str) -> Iterator[Problem]:
    """Yield what a config cannot hold: it is a file, in which objects are described."""
    if isinstance(value, Mapping | list | tuple):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _objects_in(item, f"{key}.{name}".lstrip("."))
    elif not isinstance(value, str | int | float | bool | None):
        message = f"{short_repr(value)} is an object, and a config holds its description."
        yield Problem(key, f"{message} Write {_description(value)}.")


def _description(value: Any) -> str:
    """Return how a config names an object."""
    if isinstance(value, PathLike):
        return f'"{value}"'
    if hasattr(value, "__qualname__"):  # a class or a function
        return f'"{value.__module__}.{value.__qualname__}"'
    kind = type(value)
    return f'{{"class_path": "{kind.__module__}.{kind.__qualname__}", "init_args": {{...}}}}'


def _class_and_arguments(given: Any, key: str) -> tuple[Any, dict[str, Any]]:
    if not isinstance(given, partial):
        return given, {}
    if given.args:
        message = (
            f"{short_repr(given)} has arguments by position. Give them by keyword: partial(Lit, width=32)."
        )
        raise ConfigError([Problem(key, message)])
    return given.func, dict(given.keywords)


def _path(cls: type[Any]) -> str:
    """Return a class path. One of a class within a function is that of one beside it."""
    return f"{cls.__module__}.{cls.__name__}"


def _dotted(key: str, module: type[Any]) -> str:
    """Return the config's key for a searched key, which may be the name of an argument."""
    if "." in key:
        return key
    parameters = inspect.signature(module).parameters
    if key in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return f"model{ARGUMENTS}{key}"
    message = f"{module.__name__} has no argument {key!r}.{did_you_mean(key, parameters)}"
    raise ConfigError([Problem(f"space.{key}", f"{message} Its arguments: {', '.join(parameters)}.")])


def _default(cls: Any, name: str, start: Any) -> Any:
    """Return the base config's value of a searched argument: its default, if it has one."""
    parameter = inspect.signature(cls).parameters.get(name) if isinstance(cls, type) else None
    default = getattr(parameter, "default", inspect.Parameter.empty)
    return start if default is inspect.Parameter.empty else default
