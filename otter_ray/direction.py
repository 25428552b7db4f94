"""Which values of a metric are better: the larger or the smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Direction(StrEnum):
    """The direction in which a metric improves; its values stand in configs and journals."""

    MAX = "max"
    MIN = "min"

    @property
    def sign(self) -> float:
        """A factor that turns the metric into one whose larger values are better."""
        return 1.0 if self is Direction.MAX else -1.0

    def is_better(self, value: float, than: float) -> bool:
        """Say whether a value is better than another one."""
        return self.sign * value > self.sign * than

    def best(self, items: Iterable[T], value: Callable[[T], float]) -> T:
        """Return the item with the best value; the first of several.

        Args:
            items: at least one.
            value: the value of an item.
        """
        return max(items, key=lambda item: self.sign * value(item))
