"""The Pareto front of a study with several objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otter_ray.report.rows import TrialRow, rank


def front(rows: Sequence[TrialRow], mode: str, others: Mapping[str, str]) -> list[TrialRow]:
    """The rows than which no other is better in one objective and as good in all, best metric first.

    Among those that can win (`rank`) and have all objectives. Of rows that are equal in all of them the
    earliest is taken: each would be the same point.

    Args:
        mode: `max` or `min`, of the metric.
        others: the other objectives, name -> `max` or `min`.
    """
    found: dict[tuple[float, ...], TrialRow] = {}
    for row in rank(rows, mode):
        if all(name in row.figures for name in others):
            found.setdefault(_losses(row, mode, others), row)
    return [row for point, row in found.items() if not any(_dominates(other, point) for other in found)]


def _losses(row: TrialRow, mode: str, others: Mapping[str, str]) -> tuple[float, ...]:
    """The objectives, the metric first, each the better the smaller."""
    values = [(row.value or 0.0, mode), *((row.figures[name], others[name]) for name in others)]
    return tuple(-value if direction == "max" else value for value, direction in values)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
