"""`compare.html`: several studies of one metric side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich.table import Table

from otter_ray.errors import StudyError
from otter_ray.formatting import duration, value_text, with_interval
from otter_ray.report.html_page import Chart, Page, PageSection, write_page
from otter_ray.report.study_data import StudyData
from otter_ray.report.tables import SHORT_NAME, Name, add_row, new_table
from otter_ray.study.trials import TrialRecord, base_of, rank

COMPARISON = "compare.html"
LEGEND_WIDTH = 36  # letters that a legend has room for on a telephone


def write_comparison(studies: Sequence[StudyData], path: Path) -> Table:
    """Draw the studies into a file and return the table that it begins with.

    Raises:
        OSError: The file cannot be written.
        StudyError: The studies optimize different metrics.
    """
    metrics = list(dict.fromkeys(f"{data.metric} ({data.direction})" for data in studies))
    if len(metrics) > 1:
        raise StudyError(
            f"the studies are about {', '.join(metrics)}: their values cannot be compared. Give studies of "
            "one metric."
        )
    names = names_of(studies)
    compared, metric = studies_table(studies, names), studies[0].metric
    sections = [
        PageSection("Studies", tables=[compared]),
        PageSection(
            "Best so far",
            "By epochs trained, trials in the order in which they ended; and by time since the first began.",
            charts=best_so_far(studies, names),
        ),
        differences(studies, names),
    ]
    page = Page(f"{len(studies)} studies of {metric}", " · ".join(names), sections=sections)
    write_page(page, path)
    return compared


def names_of(studies: Sequence[StudyData]) -> list[str]:
    """Return CONFIG/STUDY of each study; the folder if two have the same name."""
    names = [data.name for data in studies]
    return [
        name if names.count(name) == 1 else str(data.folder)
        for name, data in zip(names, studies, strict=True)
    ]


def studies_table(studies: Sequence[StudyData], names: Sequence[str]) -> Table:
    """Make a table with one row per study: base, winner and what they cost."""
    table = new_table("study", "base", "winner", "trial", "test", "trials", "epochs", "training", "elapsed")
    table.columns[0].min_width = min(SHORT_NAME, max(map(len, names)))
    for data, name in zip(studies, names, strict=True):
        points = [*progress(data)]
        add_row(
            table,
            Name(name),
            *_values(data),
            len(data.rows),
            sum(row.epochs for row in data.rows),
            duration(sum(row.seconds or 0 for row in data.rows)),
            duration(points[-1][2]) if points else "-",
        )
    return table


def _values(data: StudyData) -> Iterator[Any]:
    """Yield base, winner, its trial and test value, with intervals if an export has measured them."""
    base, facts = base_of(data.rows), data.exported
    gate, measured = (facts or {}).get("gate"), (facts or {}).get("base")
    if measured:
        yield with_interval(measured["value"], measured["interval"], name="")
    else:
        yield with_interval(base.value, None) if base and base.value is not None else "-"
    if facts and gate:
        test = gate.get("test")
        yield with_interval(gate["metrics"][data.metric], gate["interval"], name="")
        yield facts["trial"]
        yield with_interval(test["metrics"][data.metric], test["interval"], name="") if test else "-"
    else:
        winner = data.winner
        yield f"{winner.value:.4f}, not exported" if winner and winner.value is not None else "-"
        yield winner.number if winner else "-"
        yield "-"


def progress(data: StudyData) -> Iterator[tuple[TrialRecord, int, float]]:
    """Yield trials as they ended, with the epochs trained and the seconds passed until then."""
    starts = [trial.datetime_start for trial in data.trials if trial.datetime_start]
    if not starts:
        return
    ends = [trial.datetime_complete for trial in data.trials]
    last = max((end for end in ends if end), default=min(starts))
    order = sorted(zip(data.rows, ends, strict=True), key=lambda pair: (pair[1] or last, pair[0].number))
    epochs = 0
    for row, end in order:
        if row.epochs:
            epochs += row.epochs
            yield row, epochs, _since(min(starts), end or last)


def _since(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def best_so_far(studies: Sequence[StudyData], names: Sequence[str]) -> list[Chart]:
    """Draw the best value by epochs, and by minutes."""
    by_epochs, by_time = go.Figure(), go.Figure()
    for data, name in zip(studies, names, strict=True):
        seen: list[TrialRecord] = []
        epochs, minutes, best = [], [], []
        for row, done, seconds in progress(data):
            seen = rank([*seen, row], data.direction)[:1]
            if seen:
                epochs.append(done)
                minutes.append(seconds / 60)
                best.append(seen[0].value)
        for figure, x in ((by_epochs, epochs), (by_time, minutes)):
            figure.add_scatter(x=x, y=best, name=_in_lines(name), mode="lines+markers", line={"shape": "hv"})
    by_epochs.update_xaxes(title="epochs trained", rangemode="tozero")
    by_time.update_xaxes(title="minutes", rangemode="tozero")
    for figure in (by_epochs, by_time):
        figure.update_yaxes(title=studies[0].metric)
        figure.update_traces(marker_size=5)
        figure.update_layout(showlegend=True)
    return [Chart(by_epochs), Chart(by_time)]


def _in_lines(name: str) -> str:
    """Break a name into lines for a legend: plotly would cut long ones off where they begin to differ."""
    lines = (textwrap.wrap(part, LEGEND_WIDTH, break_on_hyphens=False) for part in name.split("/"))
    return "<br>".join(chain.from_iterable(lines))


def differences(studies: Sequence[StudyData], names: Sequence[str]) -> PageSection:
    """List the keys of config and search space whose values differ between the studies."""
    asked = [_flat(_asked(data)) for data in studies]
    keys = list(dict.fromkeys(key for one in asked for key in one))
    unlike = [key for key in keys if any(one.get(key) != asked[0].get(key) for one in asked)]
    if not unlike:
        return PageSection("Differences", "None: config and search space are the same.")
    table = new_table("key", *names)
    for key in unlike:
        add_row(table, key, *(value_text(one[key]) if key in one else "-" for one in asked))
    return PageSection(
        "Differences", "Between their configs and search spaces as they are now.", tables=[table]
    )


def _asked(data: StudyData) -> dict[str, Any]:
    asked: dict[str, Any] = data.config.to_dict() if data.config else {}
    if data.space is None:
        return asked
    ranges = {
        f"search: {parameter.name}": str(parameter).removeprefix(f"{parameter.name}: ")
        for parameter in data.space.parameters
    }
    return asked | ranges | {"study": data.space.study.model_dump()}


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Map dotted keys to whatever is not a mapping."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
