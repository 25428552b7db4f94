"""Changes of a document that a command line gives: `--set` of a config, `--set-space` of a search space."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from otter_ray.config.paths import KeyPath, assign, dotted, plain, split
from otter_ray.config.yaml_reader import Origin, Place, read_value
from otter_ray.errors import ConfigError, Problem

SET, SET_SPACE = "--set", "--set-space"
# What changes a document: `key=value` texts, or dotted keys and their values.
Overrides = Sequence[str] | Mapping[str, Any]
# Key -> what is wrong with setting it at all; None for nothing.
Refuse = Callable[[str], str | None]


def parse_overrides(sets: Overrides, option: str, refuse: Refuse) -> tuple[dict[str, Any], list[Problem]]:
    """Read changes of a document.

    Args:
        sets: The changes.
        option: That problems name.
        refuse: Says what is wrong with a key.

    Returns:
        Dotted keys and their values, and what is wrong.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    pairs: Iterable[tuple[str, Any]] = sets.items() if isinstance(sets, Mapping) else map(_pair, sets)
    for given, value in pairs:
        key = str(given).strip()
        if value is None and not isinstance(sets, Mapping):
            problems.append(Problem(dotted((key,)), "has no value. Write key=value.", option))
        elif message := refuse(key):
            problems.append(Problem(dotted((key,)), message, option))
        else:
            try:
                values[key] = value if isinstance(sets, Mapping) else read_value(value, option)
            except ConfigError as exc:
                problems += [Problem(dotted((key,)), problem.message, option) for problem in exc.problems]
    return values, problems


def assign_overrides(
    data: dict[str, Any],
    origin: Origin,
    values: Mapping[str, Any],
    place: Place,
    path_of: Callable[[str], KeyPath] = split,
) -> tuple[dict[str, Any], Origin, list[Problem]]:
    """Put values into a copy of a document.

    Args:
        data: The document.
        origin: Where its keys come from.
        values: By dotted key.
        place: Where the values come from.
        path_of: Returns the path of a key.

    Returns:
        The copy, where its keys come from now, and what could not be set.
    """
    data = copy.deepcopy(data)
    problems: list[Problem] = []
    for key, value in values.items():
        try:
            path = path_of(key)
            assign(data, path, plain(value, len(path)))
        except (LookupError, TypeError) as exc:
            problems.append(Problem(dotted((key,)), f"cannot be set: {exc.args[0]}", place.file))
        else:
            origin = origin.with_place(path, place)
    return data, origin, problems


def _pair(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None
