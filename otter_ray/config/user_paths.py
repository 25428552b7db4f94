"""Paths as users write them: `~` is their home, and a variable that no shell has replaced is a mistake."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otter_ray.config.paths import KeyPath
from otter_ray.errors import ConfigError, Problem
from otter_ray.formatting import short_repr

# The last words of keys whose values are paths. A `class_path` names a class.
PATH_KEY = re.compile(r"(?!class_path)(.*_)?(root|dir|folder|path|file|checkpoint)s?|restore_(ind|ckpt)")
VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def user_path(path: Path, option: str) -> Path:
    """Return a path that was given on the command line, with `~` replaced.

    Args:
        path: As it was given.
        option: The option or argument, for the message.

    Raises:
        ConfigError: The path cannot be meant as it is written.
    """
    found = with_home(str(path))
    if message := path_flaw(found):
        raise ConfigError([Problem(option, message)])
    return Path(found)


def user_place(place: str, option: str) -> str:
    """Return what `user_path` returns, or a URI as it is."""
    return place if "://" in place else str(user_path(Path(place), option))


def with_home(value: Any) -> Any:
    """Return a value with `~` replaced if it is the text of a path, or a list of such texts."""
    if isinstance(value, list):
        return [with_home(item) for item in value]
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


def path_flaw(value: Any) -> str | None:
    """Say why a path cannot be meant as it is written; None if it can be, or if the value is no path."""
    if isinstance(value, list):
        return next(filter(None, map(path_flaw, value)), None)
    if not isinstance(value, str) or os.path.lexists(value):
        return None
    if variable := VARIABLE.search(value):
        return (
            f"{short_repr(value)} contains {variable[0]}, which nothing replaces. Write the path itself, or "
            "let the shell replace it: within double quotes, not single ones."
        )
    if value.startswith("~"):
        user = value.partition("/")[0]
        return f"{short_repr(value)}: {user} is nobody's home folder. Write the path itself."
    return None


def with_homes(data: Any, key: str = "") -> Any:
    """Return plain data with `~` replaced in every value whose key names a path."""
    if isinstance(data, Mapping):
        return {name: with_homes(value, name) for name, value in data.items()}
    if PATH_KEY.fullmatch(key):
        return with_home(data)
    return [with_homes(item) for item in data] if isinstance(data, list) else data


def path_flaws(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is wrong with the values in plain data whose keys name paths."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from path_flaws(value, (*path, name))
    elif path and PATH_KEY.fullmatch(path[-1]):
        if message := path_flaw(data):
            yield path, message
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from path_flaws(item, (*path, str(index)))
