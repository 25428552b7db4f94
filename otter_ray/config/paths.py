"""Dotted keys (`callbacks.0.options.monitor`) and plain data (what YAML can hold)."""

from __future__ import annotations

from typing import Any

KeyPath = tuple[str, ...]
MAX_DEPTH = 40  # of a value in a file; recursion, too, must end in a message
HALF_CHARACTER = "an invalid character (half of a surrogate pair). Remove it."


def split(key: str) -> KeyPath:
    """Split a dotted key into its parts. Raises LookupError if one is empty or not valid text."""
    parts = tuple(key.split("."))
    if not all(parts):
        raise LookupError(f"{key!r} has an empty part. Write a key such as optimizer.options.lr.")
    if not is_whole(key):
        raise LookupError(f"{key!r} contains {HALF_CHARACTER}")
    return parts


def dotted(path: KeyPath) -> str:
    """Return the key of a path, for messages: an empty part is visible."""
    return ".".join(part or "''" for part in path)


def is_whole(text: str) -> bool:
    """Return whether `text` can be written as UTF-8: it contains no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def overlap(one: str, other: str) -> bool:
    """Return whether one dotted key is the other one, or is below it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def read(data: Any, path: KeyPath) -> Any:
    """Return the value at `path`. Raises LookupError, which names the part that is missing."""
    for part in path:
        data = _child(data, part)
    return data


def assign(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Put `value` at `path`, and make the mappings on the way. Raises LookupError.

    The schema decides whether the key means anything. Here only lists and single values on the way are
    refused.
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
    """Make a deep copy of dict, list, str, int, float, bool and None. Tuples become lists, keys text.

    Args:
        value: What to copy.
        depth: How many levels are above `value`.

    Raises:
        TypeError: YAML cannot hold the value, or it is nested deeper than MAX_DEPTH levels.
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
