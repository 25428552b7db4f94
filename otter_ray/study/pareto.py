"""The Pareto front of a study with several objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otter_ray.direction import Direction
from otter_ray.study.trials import TrialRecord, rank


def front(
    rows: Sequence[TrialRecord], direction: Direction, others: Mapping[str, Direction]
) -> list[TrialRecord]:
    """Return the Pareto front, best metric first.

    A trial is on it if no other is better in one objective and at least as good in all. Only trials that can
    win (`rank`) and have all objectives are compared. Of trials that are equal in all objectives the earliest
    is taken, as each would be the same point.

    Args:
        rows: the trials.
        direction: which values of the metric are better.
        others: the other objectives, by name.
    """
    found: dict[tuple[float, ...], TrialRecord] = {}
    for row in rank(rows, direction):
        if all(name in row.figures for name in others):
            found.setdefault(_losses(row, direction, others), row)
    return [row for point, row in found.items() if not any(_dominates(other, point) for other in found)]


def _losses(row: TrialRecord, direction: Direction, others: Mapping[str, Direction]) -> tuple[float, ...]:
    """Return the objectives, the metric first, each so that smaller is better."""
    metric = -direction.sign * (row.value or 0.0)
    return (metric, *(-others[name].sign * row.figures[name] for name in others))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
