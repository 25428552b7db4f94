"""From a `name:` in the YAML to a class: the project's own first, then the libraries Otter draws on."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from otter_ray.errors import ConfigError, Problem, did_you_mean

# Kind of component -> where to look after the project. A tuple's order is the order of the search.
LIBRARIES = {
    "optimizer": ("torch.optim",),
    "lr_scheduler": ("otter_ray.train.schedules", "torch.optim.lr_scheduler"),
    "callback": ("otter_ray.train.callbacks", "lightning.pytorch.callbacks"),
    "logger": ("lightning.pytorch.loggers",),
}


def load_project(name: str) -> ModuleType:
    """The module that a config's `project:` names: one of this package's, or any importable one."""
    for module in (f"otter_ray.{name}", name):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as exc:
            # A module that the project itself misses is the project's error, not a wrong name.
            if exc.name is None or not (module == exc.name or module.startswith(f"{exc.name}.")):
                raise
    message = f"{name!r} is neither a project of otter_ray nor an importable module."
    raise ConfigError([Problem("project", f"{message} Install it, or mend the name.")])


def find_class(name: str, kind: str, project: str) -> type[Any]:
    """The class called `name`.

    Raises:
        LookupError: there is none; the message lists near misses.
    """
    modules = [load_project(project), *map(importlib.import_module, LIBRARIES.get(kind, ()))]
    for module in modules:
        found = getattr(module, name, None)
        if inspect.isclass(found):
            return found
    known = [entry for module in modules for entry in dir(module) if inspect.isclass(getattr(module, entry))]
    places = ", ".join(module.__name__ for module in modules)
    raise LookupError(f"no class {name!r} in {places}.{did_you_mean(name, known)}")


def unknown_arguments(cls: type[Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Argument -> what is wrong with it, for those that `cls` does not take by name."""
    parameters = inspect.signature(cls).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {}
    rule = f"It takes {', '.join(parameters)}."
    return {
        name: f"{cls.__name__} takes no {name!r}. {rule}{did_you_mean(name, parameters)}"
        for name in arguments
        if name not in parameters
    }


def accepted(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that the class takes by name: how run-time facts reach whoever wants them."""
    parameters = inspect.signature(cls).parameters
    return {name: value for name, value in values.items() if name in parameters}
