"""The grid of a search space: every combination of the parameters' values."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import prod

from otter_ray.config.types import ScalarValue
from otter_ray.space.parameter import Parameter, same_value

MAX_POINTS = 100_000  # they are kept in memory and searched for each trial


def grid_size(parameters: Iterable[Parameter]) -> int | None:
    """Return how many points the grid of these parameters has; None if a range has no steps."""
    sizes = [_size(parameter) for parameter in parameters]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def grid_values(parameter: Parameter) -> list[ScalarValue]:
    """Return every value that the parameter could have, in order."""
    if parameter.type == "categorical":
        return list(parameter.choices)
    kind = int if parameter.type == "int" else float
    low, step = _low_and_step(parameter)
    return [kind(low + index * step) for index in range(_size(parameter) or 0)]


def grid_index(parameter: Parameter, value: object) -> int:
    """Return which of `grid_values` a value is that the parameter could have."""
    if parameter.type == "categorical":
        return next(i for i, choice in enumerate(parameter.choices) if same_value(value, choice))
    low, step = _low_and_step(parameter)
    return round((Decimal(str(value)) - low) / step)


def _size(parameter: Parameter) -> int | None:
    if parameter.type == "categorical":
        return len(parameter.choices)
    low, high = parameter.bounds()
    if low == high:
        return 1
    if parameter.log or (parameter.type == "float" and parameter.step is None):
        return None
    first, step = _low_and_step(parameter)
    return round((Decimal(str(high)) - first) / step) + 1


def _low_and_step(parameter: Parameter) -> tuple[Decimal, Decimal]:
    """Return both exactly as they are written: 0.1 + 2 * 0.1 is 0.3."""
    return Decimal(str(parameter.low)), Decimal(str(parameter.step or 1))
