"""Take apart what a `forward` takes or returns: tensors in order, and how to put others in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from typing import Any

from torch import Tensor

Build = Callable[[Iterator[Tensor]], Any]
# Parts that are no tensors, and stay what they were.
CONSTANTS = (bool, int, float, str, type(None))


@dataclasses.dataclass(frozen=True)
class Structure:
    """Nested tuples, lists, mappings and data classes, without their tensors.

    Attributes:
        names: Of the tensors, in order: keys and fields, or positions.
        build: Puts tensors in.
        constants: Parts that are no tensors, with their names, in order.
    """

    names: tuple[str, ...]
    build: Build
    constants: tuple[tuple[str, Any], ...] = ()

    def filled(self, tensors: Iterator[Tensor] | list[Tensor] | tuple[Tensor, ...]) -> Any:
        """Return the structure with these tensors."""
        return self.build(iter(tensors))


def take_apart(value: Any, name: str = "") -> tuple[list[Tensor], Structure]:
    """Return the tensors of a value in order, and its structure.

    Args:
        value: Of tensors and constants.
        name: Of the value, for messages and names.

    Raises:
        TypeError: Something else is in it; the message says what and where.
    """
    if isinstance(value, Tensor):
        return [value], Structure((name,), next)
    if isinstance(value, CONSTANTS):
        return [], Structure((), lambda tensors: value, ((name, value),))
    parts, make = _parts(value, name)
    found = [take_apart(part, _joined(name, key)) for key, part in parts.items()]
    tensors = [tensor for own, _ in found for tensor in own]
    structures = [structure for _, structure in found]
    names = tuple(each for structure in structures for each in structure.names)
    constants = tuple(each for structure in structures for each in structure.constants)

    def build(given: Iterator[Tensor]) -> Any:
        return make([each.build(given) for each in structures])

    return tensors, Structure(names, build, constants)


def _joined(name: str, key: str) -> str:
    """Return the name of a part: positions follow what they are in, and keys stand alone."""
    return f"{name}_{key}".lstrip("_") if key.isdecimal() else key


def _mapping_like(value: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return a mapping of a value's kind with these items; a dict if it can be neither built nor changed."""
    if type(value) is dict:
        return items
    with suppress(TypeError, ValueError):  # it may take something else than its keys
        built = type(value)(**items)
        if built.keys() == items.keys():
            return built
    with suppress(TypeError):
        changed = copy(value)
        for key, item in items.items():
            changed[key] = item  # type: ignore[index]
        return changed
    return items


def _parts(value: Any, name: str) -> tuple[dict[str, Any], Callable[[list[Any]], Any]]:
    """Return the parts of a value by name, and what makes one of its kind of others."""
    kind = type(value)
    if isinstance(value, Mapping):
        keys = [*value]

        def mapping(parts: list[Any]) -> Any:
            return _mapping_like(value, dict(zip(keys, parts, strict=True)))

        return {str(key): value[key] for key in keys}, mapping
    if isinstance(value, tuple | list):
        if hasattr(kind, "_make"):
            return dict(zip(kind._fields, value, strict=True)), kind._make
        return {str(i): part for i, part in enumerate(value)}, list if isinstance(value, list) else tuple
    if dataclasses.is_dataclass(value):
        fields = [each.name for each in dataclasses.fields(value) if each.init]
        return (
            {field: getattr(value, field) for field in fields},
            lambda parts: dataclasses.replace(value, **dict(zip(fields, parts, strict=True))),  # type: ignore[type-var]
        )
    raise TypeError(f"{name or 'it'} is a {kind.__module__}.{kind.__qualname__}")
