"""What a study looks like on a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from otter_ray.figures import comparison
from otter_ray.files import exports_in
from otter_ray.report.front import front
from otter_ray.report.rows import TrialRow, base_of, rank

BARS = "▁▂▃▄▅▆▇█"
FEW = 5  # trials that a table shows of those that violated a constraint


def trials_table(
    rows: Sequence[TrialRow],
    winner: Sequence[TrialRow],
    metric: str,
    mode: str,
    objectives: Mapping[str, str] | None = None,
) -> Table:
    """Every trial, best first, the failed ones last; the base config is marked.

    Args:
        winner: the row to mark as such, if there is one yet.
        objectives: others than the metric, name -> `max` or `min`: their Pareto front comes first, marked.
    """
    others = objectives or {}
    title = f"Trials by {metric}" + (f" (*: the Pareto front with {', '.join(others)})" if others else "")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    figures = list(dict.fromkeys([*others, *(name for row in rows for name in row.figures)]))
    for name in ("trial", metric, *figures, "epoch", "curve", "state", "s"):
        table.add_column(name, justify="left" if name in ("state", "curve") else "right", no_wrap=True)
    table.add_column("changed in the base config")
    label = short_names(rows)
    edge = front(rows, mode, others) if others else []
    untrained = [row for row in rows if row.state == "infeasible"]
    for row in [*_in_order(rows, mode, edge), *untrained[:FEW]]:
        table.add_row(
            "* " * (row in edge) + (f"{row.number} base" if row.is_base else str(row.number)),
            _number(row.value),
            *(shown(row.figures[name]) if name in row.figures else "-" for name in figures),
            f"{row.best_epoch}/{row.epochs}",
            sparkline(row.curve),
            row.state,
            _number(row.seconds, 0),
            Text(f"{row.error} ({row.log})" if row.error else _changes(row, label)),
            style="bold green" if row in winner else "dim" if row.state != "complete" else "",
        )
    if len(untrained) > FEW:
        table.add_row(f"+ {len(untrained) - FEW}", *[""] * (len(figures) + 3), "infeasible")
    return table


def _in_order(rows: Sequence[TrialRow], mode: str, edge: Sequence[TrialRow]) -> list[TrialRow]:
    """The front, the others that can win, and those that cannot; not those that were never trained."""
    best = rank(rows, mode)
    ranked = sorted(best, key=lambda row: row not in edge)
    return [*ranked, *(row for row in rows if row not in best and row.state != "infeasible")]


def _changes(row: TrialRow, label: Mapping[str, str]) -> str:
    """`lr=0.01  s=16`; keys that one parameter sets together stand there once."""
    changes = [f"{label[key]}={value_text(value)}" for key, value in row.values.items()]
    return "  ".join(dict.fromkeys([f"({row.config})"] * bool(row.config) + changes))


def newest_model(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest ONNX file of a study's winner, and what the JSON beside it says; None without one."""
    told = (model for model in exports_in(folder) if "base" in model[1])
    return max(told, key=lambda model: str(model[1]["date"]), default=None)


def outcome_lines(
    rows: Sequence[TrialRow],
    metric: str,
    mode: str,
    exported: Mapping[str, Any] | None = None,
    has_finals: bool = False,
) -> list[str]:
    """Base beside winner, and what was stopped when: the study in a few sentences.

    Args:
        exported: the JSON of the newest export, where there is one: it knows intervals.
        has_finals: whether finalists decide who wins.
    """
    counts = Counter(row.state for row in rows)
    stopped = Counter(row.epochs for row in rows if row.state == "pruned")
    lines = [", ".join(f"{count} {state}" for state, count in counts.most_common())]
    if stopped:
        lines[0] += f" ({', '.join(f'{stopped[epoch]} after epoch {epoch}' for epoch in sorted(stopped))})"
    best = rank(rows, mode)
    base = base_of(rows)
    leader = exported["trial"] if exported and has_finals else best[0].number if best else None
    compared = comparison(exported, mode, leader) if exported and leader is not None else None
    if compared:
        lines.append(compared + " (of the best of its seeds: quote the mean)" * has_finals)
    elif best and base is not None:
        best_is = "best in the search" if has_finals else "winner"
        lines.append(
            f"base config: {metric} {_number(base.value)} (epoch {base.best_epoch}); "
            f"{best_is}: trial {best[0].number}, {metric} {_number(best[0].value)} "
            f"(epoch {best[0].best_epoch})"
        )
    return lines


def values_table(values: Mapping[str, Any], base: Mapping[str, Any]) -> Table:
    """What the winner changed in the base config."""
    table = Table(title="The winner's configuration", title_justify="left", box=SIMPLE_HEAD)
    for name in ("key", "base", "winner"):
        table.add_column(name, no_wrap=True)
    for key, value in values.items():
        table.add_row(
            Text(key), Text(value_text(base.get(key, "-"))), Text(value_text(value), style="bold green")
        )
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


def shortened(names: Sequence[str]) -> dict[str, str]:
    """Name -> its last word, or as many as tell it from the others: `lr`, `loss.name`, `m[CosFace]`."""
    heads = {name: name.partition("[")[0] for name in names}
    words = {name: [part for part in head.split(".") if part != "options"] for name, head in heads.items()}
    found = {}
    for name, own in words.items():
        tails = [own[-length:] for length in range(1 + (own[-1] == "name"), len(own) + 1)]
        others = [words[other] for other in names if heads[other] != heads[name]]
        unlike = (tail for tail in tails if all(other[-len(tail) :] != tail for other in others))
        found[name] = ".".join(next(unlike, own)) + name[len(heads[name]) :]
    return found if len({*found.values()}) == len(names) else {name: name for name in names}


def shown(figure: float) -> str:
    """A figure with four digits: `3.673M`, `0.1413`."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if abs(figure) >= 10**power:
            return f"{figure / 10**power:.4g}{letter}"
    return f"{figure:.4g}"


def table_of(*names: str) -> Table:
    """An empty table with these columns."""
    table = Table(box=SIMPLE_HEAD)
    for name in names:
        table.add_column(name)
    return table


def add_row(table: Table, *cells: Any) -> None:
    """A row of a config's values, or of text."""
    table.add_row(*(Text(value_text(cell)) for cell in cells))


def records(title: str, rows: list[Mapping[str, Any]]) -> Table:
    """Plain data as a table: its keys are the columns."""
    found = table_of(*rows[0])
    found.title = title.upper() if len(title) < 4 else title
    for row in rows:
        add_row(found, *row.values())
    return found


def facts_table(facts: Mapping[str, Any]) -> Table:
    """Two columns without headings."""
    found = table_of("", "")
    for name, value in facts.items():
        add_row(found, name, value)
    return found


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def value_text(value: Any) -> str:
    """A config's value: `0.01389`, `lr 0.01 to 4` of what changed within a run."""
    if isinstance(value, list) and all(isinstance(phase, dict) for phase in value):
        return ", ".join(
            f"{key.rpartition('.')[2]} {value_text(earlier)} to {phase['epochs']}"
            for phase in value
            for key, earlier in phase["values"].items()
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)
