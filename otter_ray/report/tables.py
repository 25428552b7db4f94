"""What a study looks like on a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from otter_ray.report.rows import TrialRow, rank

BARS = "▁▂▃▄▅▆▇█"


def trials_table(rows: Sequence[TrialRow], metric: str, mode: str) -> Table:
    """Every trial, best first, the failed ones last; the base config is marked."""
    keys = sorted({key for row in rows for key in row.values})
    table = Table(title=f"Trials by {metric}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    short = _short(keys)
    for name in ("trial", metric, "epoch", "curve", "state", "s", *(short[key] for key in keys)):
        table.add_column(name, justify="left" if name in ("state", "curve") else "right", no_wrap=True)
    best = rank(rows, mode)
    for row in [*best, *(row for row in rows if row not in best)]:
        label = f"{row.number} base" if row.is_base else str(row.number)
        table.add_row(
            label,
            _number(row.value),
            f"{row.best_epoch}/{row.epochs}",
            sparkline(row.curve),
            row.state,
            _number(row.seconds, 0),
            *(_value(row.values.get(key, "·")) for key in keys),
            style="bold green" if best and row is best[0] else "dim" if row.state != "complete" else "",
        )
    return table


def outcome_lines(rows: Sequence[TrialRow], metric: str, mode: str) -> list[str]:
    """Base beside winner, and what was stopped when: the study in a few sentences."""
    counts = Counter(row.state for row in rows)
    stopped = Counter(row.epochs for row in rows if row.state == "pruned")
    lines = [", ".join(f"{count} {state}" for state, count in counts.most_common())]
    if stopped:
        lines[0] += f" ({', '.join(f'{stopped[epoch]} after epoch {epoch}' for epoch in sorted(stopped))})"
    best = rank(rows, mode)
    base = next((row for row in best if row.is_base), None)
    if best and base is not None:
        lines.append(
            f"base config: {metric} {_number(base.value)} (epoch {base.best_epoch}); "
            f"winner: trial {best[0].number}, {metric} {_number(best[0].value)} (epoch {best[0].best_epoch})"
        )
    return lines


def values_table(values: Mapping[str, Any], base: Mapping[str, Any]) -> Table:
    """What the winner changed in the base config."""
    table = Table(title="The winner's configuration", title_justify="left", box=SIMPLE_HEAD)
    for name in ("key", "base", "winner"):
        table.add_column(name, no_wrap=True)
    for key, value in values.items():
        table.add_row(key, _value(base.get(key, "-")), Text(_value(value), style="bold green"))
    if not values:
        table.add_row("(the base config itself)", "", "")
    return table


def sparkline(curve: Sequence[float]) -> str:
    """A curve of values in [0, 1] (others are clipped) as a row of bars."""
    levels = (int(max(value, 0.0) * len(BARS)) for value in curve if math.isfinite(value))
    return "".join(BARS[min(level, len(BARS) - 1)] for level in levels)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Key -> its last word, or as much of its end as tells it from the others."""
    short = {}
    for key in keys:
        parts = [part for part in key.split(".") if part != "options"]
        length = 1
        while any(_tail(other, length) == ".".join(parts[-length:]) for other in keys if other != key):
            length += 1
        short[key] = ".".join(parts[-length:])
    return short


def _tail(key: str, length: int) -> str:
    return ".".join([part for part in key.split(".") if part != "options"][-length:])


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
