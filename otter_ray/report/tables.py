"""What a study looks like on a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from otter_ray.report.rows import TrialRow, rank

BARS = "▁▂▃▄▅▆▇█"


def trials_table(rows: Sequence[TrialRow], metric: str, mode: str) -> Table:
    """Every trial, best first, the failed ones last; the base config is marked."""
    table = Table(title=f"Trials by {metric}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("trial", metric, "epoch", "curve", "state", "s"):
        table.add_column(name, justify="left" if name in ("state", "curve") else "right", no_wrap=True)
    table.add_column("changed in the base config")
    best, label = rank(rows, mode), short_names(rows)
    for row in [*best, *(row for row in rows if row not in best)]:
        table.add_row(
            f"{row.number} base" if row.is_base else str(row.number),
            _number(row.value),
            f"{row.best_epoch}/{row.epochs}",
            sparkline(row.curve),
            row.state,
            _number(row.seconds, 0),
            Text(row.error or _changes(row, label)),
            style="bold green" if best and row is best[0] else "dim" if row.state != "complete" else "",
        )
    return table


def _changes(row: TrialRow, label: Mapping[str, str]) -> str:
    """`lr=0.01  s=16`; keys that one parameter sets together stand there once."""
    return "  ".join(dict.fromkeys(f"{label[key]}={_value(value)}" for key, value in row.values.items()))


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
        table.add_row(Text(key), Text(_value(base.get(key, "-"))), Text(_value(value), style="bold green"))
    if not values:
        table.add_row("(the base config itself)", "", "")
    return table


def sparkline(curve: Sequence[float]) -> str:
    """A curve of values in [0, 1] (others are clipped) as a row of bars."""
    levels = (int(max(value, 0.0) * len(BARS)) for value in curve if math.isfinite(value))
    return "".join(BARS[min(level, len(BARS) - 1)] for level in levels)


def short_names(rows: Sequence[TrialRow]) -> dict[str, str]:
    """Key -> its last word, or its last two where that word stands for several values of one trial."""
    keys = list(dict.fromkeys(key for row in rows for key in row.values))
    words = {key: [part for part in key.split(".") if part != "options"] for key in keys}
    unclear = {
        words[key][-1]
        for row in rows
        for key, other in combinations(row.values, 2)
        if words[key][-1] == words[other][-1] and row.values[key] != row.values[other]
    }
    return {key: ".".join(words[key][-2 if words[key][-1] in unclear else -1 :]) for key in keys}


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
