"""From a `name:` in the YAML to a class: the project's own first, then the libraries that Otter uses."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem, did_you_mean

P = ParamSpec("P")
T = TypeVar("T")

# Kind of component -> where to look after the project, in this order.
LIBRARIES = {
    "optimizer": ("torch.optim", "timm.optim"),
    "lr_scheduler": ("otter_ray.train.schedules", "torch.optim.lr_scheduler", "timm.scheduler"),
    "loader": ("torch.utils.data",),
    "callback": ("otter_ray.train.callbacks", "lightning.pytorch.callbacks"),
    "logger": ("lightning.pytorch.loggers",),
}
# Below this package are the projects that come with otter_ray.
PROJECTS = "otter_ray.projects"
# A project's namespace of the functions that it does in its own way (`by_project`).
OWN = "OWN"


def load_project(name: str) -> ModuleType:
    """Import the module that a config's `project:` names.

    A project of otter_ray's own comes first, then any module that can be imported. Other packages of
    otter_ray are out of the way: `project: report` means a module called `report`.

    Raises:
        ConfigError: There is no such module.
        ModuleNotFoundError: There is one, but it needs another module that is missing.
    """
    for module in (f"{PROJECTS}.{name}", name):
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as exc:
            if not _is_part_of(exc.name, module):
                raise
        else:
            _require_code(found, name)
            return found
    message = (
        f"{name!r} is neither a project of otter_ray nor a module that can be imported. Correct the name, "
        "install the module, or start the command in the folder that holds it."
    )
    raise ConfigError([Problem("project", message)])


def by_project(function: Callable[Concatenate[Config, P], T]) -> Callable[Concatenate[Config, P], T]:
    """Let a config's project do something in its own way: by a function of the same name in its `OWN`.

    The function that is decorated says what is done, and does it for every other project.
    """

    @wraps(function)
    def done(config: Config, *args: P.args, **kwargs: P.kwargs) -> T:
        own = getattr(load_project(config.project), OWN, None)
        chosen: Callable[Concatenate[Config, P], T] = getattr(own, function.__name__, function)
        return chosen(config, *args, **kwargs)

    return cast(Callable[Concatenate[Config, P], T], done)


def _require_code(module: ModuleType, name: str) -> None:
    """Refuse a folder without `__init__.py`, which Python imports as a package without content.

    Raises:
        ConfigError: The module is one, such as the clone of the project in its parent folder.
    """
    if getattr(module, "__file__", None) is None:
        folder = next(iter(module.__path__), name)
        message = (
            f"{name!r} is the folder {folder} here, which holds no __init__.py. Start the command in your "
            "project's folder, the one that holds configs/."
        )
        raise ConfigError([Problem("project", message)])


def _is_part_of(missing: str | None, module: str) -> bool:
    """Return whether the module that is missing is the one asked for, or a package that it is in."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def find_class(name: str, kind: str, project: str) -> type[Any]:
    """Return the class called `name`.

    Args:
        name: The class's name.
        kind: Kind of component, which says where to look after the project.
        project: The config's project.

    Raises:
        LookupError: There is none; the message lists near misses.
    """
    found: type[Any] = _find(name, kind, project, "class", inspect.isclass)
    return found


def find_callable(name: str, kind: str, project: str) -> Callable[..., Any]:
    """Return the class or function called `name`; see `find_class`."""
    found: Callable[..., Any] = _find(name, kind, project, "class or function", callable)
    return found


def _find(name: str, kind: str, project: str, what: str, is_one: Callable[[Any], bool]) -> Any:
    own = load_project(project)
    by_path = getattr(getattr(own, OWN, None), "find_class_path", None)
    if by_path is not None and "." in name:
        found = by_path(name)
        if is_one(found):
            return found
    modules = [own, *map(importlib.import_module, LIBRARIES.get(kind, ()))]
    for module in modules:
        found = getattr(module, name, None)
        if is_one(found):
            return found
    known = [entry for module in modules for entry in dir(module) if is_one(getattr(module, entry))]
    places = ", ".join(module.__name__ for module in modules)
    raise LookupError(f"no {what} {name!r} in {places}.{did_you_mean(name, known)}{_how_to_add(own)}")


def _how_to_add(project: ModuleType) -> str:
    """Say where a class has to be for a config to name it, if the project is the user's."""
    if project.__name__.startswith(f"{PROJECTS}."):
        return ""
    path = project.__name__.replace(".", "/")
    is_package = hasattr(project, "__path__")
    return f" Import your own classes in {path}{'/__init__' if is_package else ''}.py."


def unknown_arguments(cls: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Map each argument that a class or function does not accept by name to what is wrong with it."""
    parameters = inspect.signature(cls).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {}
    known = f"Its arguments: {', '.join(parameters)}." if parameters else "It has no arguments."
    return {
        name: f"{cls.__name__} has no argument {name!r}.{did_you_mean(name, parameters)} {known}"
        for name in arguments
        if name not in parameters
    }


def accepted(cls: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `values` that a class or function accepts by name, so that it gets what it asks for."""
    parameters = inspect.signature(cls).parameters
    return {name: value for name, value in values.items() if name in parameters}
