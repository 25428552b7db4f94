"""A study as tables and sentences, for the terminal and for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from otter_ray.direction import Direction
from otter_ray.formatting import (
    PRECISION_COLUMNS,
    comparison,
    fixed,
    gain_lines,
    precision_cells,
    selection_lines,
    si_number,
    sparkline,
    sparkline_ends,
    value_text,
    without_middle,
)
from otter_ray.study.naming import key_labels
from otter_ray.study.pareto import front
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import TrialRecord, base_of, rank

SHORT_NAME = 12  # characters that a name keeps, however narrow the screen is
FEW = 5  # trials shown of those that violated a constraint


def trials_table(
    rows: Sequence[TrialRecord],
    winner: Sequence[TrialRecord],
    metric: str,
    direction: Direction,
    objectives: Mapping[str, Direction] | None = None,
) -> Table:
    """Make a table of every trial, best first, the failed ones last; the base config is marked.

    Args:
        rows: The trials.
        winner: The row to mark as the winner, if there is one yet.
        metric: The study's metric.
        direction: which values are better.
        objectives: Objectives besides the metric, name -> `max` or `min`. The trials on the Pareto front then
            come first, marked.
    """
    others = objectives or {}
    title = f"Trials by {metric}" + (f" (*: the Pareto front with {', '.join(others)})" if others else "")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    figures = list(dict.fromkeys([*others, *(name for row in rows for name in row.figures)]))
    for name in ("trial", metric, *figures, "epoch", "curve", "state", "s"):
        table.add_column(name, justify="left" if name in ("state", "curve") else "right", no_wrap=True)
    table.add_column("changed in the base config")
    label = key_labels([row.values for row in rows])
    ends = sparkline_ends((row.curve for row in rows), direction is Direction.MIN)
    edge = front(rows, direction, others) if others else []
    untrained = [row for row in rows if row.state == TrialStatus.INFEASIBLE]
    for row in [*_in_order(rows, direction, edge), *untrained[:FEW]]:
        table.add_row(
            "* " * (row in edge) + (f"{row.number} base" if row.is_base else str(row.number)),
            fixed(row.value),
            *(si_number(row.figures[name]) if name in row.figures else "-" for name in figures),
            f"{row.best_epoch}/{row.epochs}",
            sparkline(row.curve, ends),
            row.state,
            fixed(row.seconds, 0),
            Text(f"{row.error} ({row.log})" if row.error else _changes(row, label)),
            style="bold green" if row in winner else "dim" if row.state != TrialStatus.COMPLETE else "",
        )
    if len(untrained) > FEW:
        table.add_row(f"+ {len(untrained) - FEW}", *[""] * (len(figures) + 3), TrialStatus.INFEASIBLE)
    return table


def _in_order(
    rows: Sequence[TrialRecord], direction: Direction, edge: Sequence[TrialRecord]
) -> list[TrialRecord]:
    """Sort trained trials: the front first, then others that can win, then those that cannot."""
    best = rank(rows, direction)
    ranked = sorted(best, key=lambda row: row not in edge)
    return [*ranked, *(row for row in rows if row not in best and row.state != TrialStatus.INFEASIBLE)]


def _changes(row: TrialRecord, label: Mapping[str, str]) -> str:
    """Write `lr=0.01  s=16`; keys that one parameter sets together appear once."""
    changes = [f"{label[key]}={value_text(value)}" for key, value in row.values.items()]
    return "  ".join(dict.fromkeys([f"({row.config})"] * bool(row.config) + changes))


def outcome_lines(
    rows: Sequence[TrialRecord],
    metric: str,
    direction: Direction,
    exported: Mapping[str, Any] | None = None,
    has_finals: bool = False,
) -> list[str]:
    """Sum the study up in a few sentences: base next to winner, and which trials were stopped when.

    Args:
        rows: The trials.
        metric: The study's metric.
        direction: which values are better.
        exported: The JSON of the newest export, if there is one: it holds intervals.
        has_finals: Whether finalists decide which trial wins.
    """
    counts = Counter(row.state for row in rows)
    stopped = Counter(row.epochs for row in rows if row.state == TrialStatus.PRUNED)
    lines = [", ".join(f"{count} {state}" for state, count in counts.most_common())]
    if stopped:
        lines[0] += f" ({', '.join(f'{stopped[epoch]} after epoch {epoch}' for epoch in sorted(stopped))})"
    best = rank(rows, direction)
    base = base_of(rows)
    leader = exported["trial"] if exported and has_finals else best[0].number if best else None
    compared = comparison(exported, direction, leader) if exported and leader is not None else None
    if compared and exported:
        lines.append(compared + " (of the best of its seeds: quote the mean)" * has_finals)
        lines += gain_lines(exported)
    elif best and base is not None:
        best_is = "best in the search" if has_finals else "winner"
        lines.append(
            f"base config: {metric} {fixed(base.value)} (epoch {base.best_epoch}); "
            f"{best_is}: trial {best[0].number}, {metric} {fixed(best[0].value)} "
            f"(epoch {best[0].best_epoch})"
        )
    return lines + selection_lines(exported or {})


def precisions_table(facts: Mapping[str, Any]) -> Table | None:
    """Make a table of an exported model's files by precision, from its JSON; None if there is one file."""
    rows = facts.get("precisions") or []
    if len(rows) < 2:
        return None
    table = new_table(*PRECISION_COLUMNS)
    table.title, table.title_justify = "Files by precision", "left"
    for row in rows:
        add_row(table, *precision_cells(row))
    return table


def values_table(values: Mapping[str, Any], base: Mapping[str, Any]) -> Table:
    """Make a table of what the winner changed in the base config."""
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


def parameter_labels(names: Sequence[str]) -> dict[str, str]:
    """Map each name to its shortest unambiguous end: `lr`, `loss.name`, `m[CosFace]`."""
    heads = {name: name.partition("[")[0] for name in names}
    words = {name: [part for part in head.split(".") if part != "options"] for name, head in heads.items()}
    found = {}
    for name, own in words.items():
        tails = [own[-length:] for length in range(1 + (own[-1] == "name"), len(own) + 1)]
        others = [words[other] for other in names if heads[other] != heads[name]]
        unlike = (tail for tail in tails if all(other[-len(tail) :] != tail for other in others))
        found[name] = ".".join(next(unlike, own)) + name[len(heads[name]) :]
    return found if len({*found.values()}) == len(names) else {name: name for name in names}


class Name(Text):
    """A name in a cell. Without room for all of it, it loses its middle: names often differ at their ends."""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self), SHORT_NAME), len(self)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        short = Text(without_middle(self.plain, options.max_width), no_wrap=True)
        return short.__rich_console__(console, options)


def new_table(*names: str) -> Table:
    """Make an empty table with these columns."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name)
    return table


def add_row(table: Table, *cells: Any) -> None:
    """Add a row of a config's values, of names, or of text."""
    table.add_row(*(cell if isinstance(cell, Name) else Text(value_text(cell)) for cell in cells))


def records_table(title: str, rows: list[Mapping[str, Any]]) -> Table:
    """Make a table of plain data, whose keys are the columns."""
    found = new_table(*rows[0])
    found.title = title.upper() if len(title) < 4 else title
    for row in rows:
        add_row(found, *row.values())
    return found


def key_value_table(facts: Mapping[str, Any]) -> Table:
    """Make a table of two columns without headings."""
    found = new_table("", "")
    for name, value in facts.items():
        add_row(found, name, value)
    return found
