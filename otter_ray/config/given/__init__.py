"""Classes and data that a program gives as objects, under the names that a config has for them.

A config is plain data. It names a class of a notebook by `__main__.LitClassifier`, which no other process can
import: the object itself travels to the workers. A study's folder holds the name alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from otter_ray.config.config import Config
from otter_ray.config.lightning_cli import LIGHTNING
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.formatting import short_repr

# Class path -> a class; or an object of one; or training, validation and perhaps test loaders.
GIVEN: dict[str, Any] = {}
# Class path of the data module that is made of loaders.
LOADERS = "otter_ray.projects.lightning.Loaders"
# Called when other objects are given: what was computed of earlier ones of the same name is void.
ON_CHANGE: list[Callable[[], object]] = []
ARGUMENTS = ("model.init_args.", "data.init_args.")


def give(objects: Mapping[str, Any]) -> None:
    """Let configs of this process name objects.

    Args:
        objects: By class path.
    """
    if any(GIVEN.get(path) is not value for path, value in objects.items()):
        GIVEN.update(objects)
        for forget in ON_CHANGE:
            forget()


def given_to(config: Config) -> dict[str, Any]:
    """Return the objects that a config names."""
    data = config.to_dict()
    paths = [
        part.get("class_path") for key in ("model", "data") if isinstance(part := data.get(key), Mapping)
    ]
    return {path: GIVEN[path] for path in paths if path in GIVEN}


def config_of_objects(
    model: Any, data: Any, metric: str, trainer: Mapping[str, Any], searched: Mapping[str, Any]
) -> tuple[Config, dict[str, Any], dict[str, Any]]:
    """Describe objects in a config of `project: lightning`.

    Args:
        model: A LightningModule's class; or a `partial` of one, with arguments by keyword.
        data: A LightningDataModule, its class or a `partial` of that; or two or three loaders; or None.
        metric: What the module logs.
        trainer: Arguments of Lightning's Trainer.
        searched: Keys of the space: dotted, or names of the module's arguments.

    Returns:
        The config, the objects by class path, and the space with dotted keys.

    Raises:
        ConfigError: One of them cannot be meant.
    """
    module, arguments = _class_and_arguments(model, "model")
    if not isinstance(module, type):
        raise ConfigError(
            [Problem("model", f"{short_repr(model)} is not a class. Give the LightningModule's.")]
        )
    space = {_dotted(key, module): entry for key, entry in searched.items()}
    path = _path(module)
    objects: dict[str, Any] = {path: module}
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
        objects[where] = source
        content["data"] = {"class_path": where, "init_args": own}
    for key, entry in space.items():
        for section, cls in ((content["model"], module), (content.get("data"), objects.get(_of(content)))):
            if section is not None and key.startswith(ARGUMENTS[section is not content["model"]]):
                name = key.split(".")[2]
                section["init_args"].setdefault(name, _start(cls, name, entry))
    return Config.from_dict(content, module.__name__), objects, space


def _of(content: Mapping[str, Any]) -> str:
    return str(content.get("data", {}).get("class_path"))


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
        return f"{ARGUMENTS[0]}{key}"
    message = f"{module.__name__} has no argument {key!r}.{did_you_mean(key, parameters)}"
    raise ConfigError([Problem(f"space.{key}", f"{message} Its arguments: {', '.join(parameters)}.")])


def _start(cls: Any, name: str, entry: Any) -> Any:
    """Return the base config's value of a searched argument: its default, or the first value of its range."""
    parameter = inspect.signature(cls).parameters.get(name) if isinstance(cls, type) else None
    if parameter is not None and parameter.default is not parameter.empty:
        return parameter.default
    return entry["choices"][0] if "choices" in entry else entry["low"]
