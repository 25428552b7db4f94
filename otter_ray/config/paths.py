"""Dotted keys (`callbacks.0.options.monitor`) and plain data (what YAML can hold)."""

from __future__ import annotations

from typing import Any

KeyPath = tuple[str, ...]
MAX_DEPTH = 40  # of a value in a file; recursion must end in a message, too


def split(key: str) -> KeyPath:
    """The parts of a dotted key. Raises LookupError when one is empty or not whole text."""
    parts = tuple(key.split("."))
    if not all(parts):
        raise LookupError(f"{key!r} has an empty part. Write a key such as optimizer.options.lr.")
    if not is_whole(key):
        raise LookupError(f"{key!r} holds half a character (a surrogate). Write it whole.")
    return parts


def dotted(path: KeyPath) -> str:
    """The key of a path, for messages: an empty part is seen."""
    return ".".join(part or "''" for part in path)


def is_whole(text: str) -> bool:
    """Whether no half of a character (a surrogate) is in `text`: it can be written as UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def overlap(one: str, other: str) -> bool:
    """Whether one dotted key is the other or stands below it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def read(data: Any, path: KeyPath) -> Any:
    """The value at `path`. Raises LookupError, which says which part is absent."""
    for part in path:
        data = _child(data, part)
    return data


def assign(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Put `value` at `path`, making the mappings on the way. Raises LookupError.

    Whether the key means anything is for the schema to say; here only lists and single values on the
    way can refuse.
    """
    node: Any = data
    for part in path[:-1]:
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = _child(node, part)
    if isinstance(node, dict):
        node[path[-1]] = value
    else:
        _child(node, path[-1])
        node[int(path[-1])] = value


def plain(value: Any, depth: int = 0) -> Any:
    """A deep copy of dict, list, str, int, float, bool and None. Tuples become lists, keys text.

    Raises TypeError for anything that YAML cannot hold, and below MAX_DEPTH levels, `depth` of which
    are already above `value`.
    """
    if depth > MAX_DEPTH:
        raise TypeError(f"nested deeper than {MAX_DEPTH} levels. Make it flatter.")
    if value is None:
        return None
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"{value!r} cannot be written as YAML. Give text, numbers, lists or mappings.")


def _child(node: Any, part: str) -> Any:
    if isinstance(node, dict):
        if part not in node:
            raise LookupError(f"{part!r} is not among {', '.join(node) or 'its keys: it has none'}.")
        return node[part]
    if not isinstance(node, list):
        raise LookupError(f"{node!r} is a single value and has no {part!r} below it.")
    if not (part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(node)):
        raise LookupError(f"{part!r} is not one of its {len(node)} items. Count from 0.")
    return node[int(part)]
