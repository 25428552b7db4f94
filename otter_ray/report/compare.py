"""`compare.html`: several studies of one metric beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich.table import Table

from otter_ray.errors import StudyError
from otter_ray.figures import with_interval
from otter_ray.report.html import Chart, Page, Section, write_page
from otter_ray.report.rows import TrialRow, base_of, rank
from otter_ray.report.story import Story
from otter_ray.report.tables import add_row, duration, table_of, value_text

COMPARISON = "compare.html"


def write_comparison(stories: Sequence[Story], path: Path) -> Table:
    """Draws the studies into a file; gives the table that it begins with.

    Raises:
        OSError: it cannot be written.
        StudyError: they are about different metrics.
    """
    metrics = list(dict.fromkeys(f"{story.metric} ({story.mode})" for story in stories))
    if len(metrics) > 1:
        raise StudyError(
            f"the studies are about {', '.join(metrics)}: their values cannot be compared. Give studies of "
            "one metric."
        )
    names = names_of(stories)
    compared, metric = studies_table(stories, names), stories[0].metric
    sections = [
        Section("Studies", tables=[compared]),
        Section(
            "Best so far",
            "By epochs trained, trials in the order in which they ended, and by time since the first began.",
            charts=best_so_far(stories, names),
        ),
        differences(stories, names),
    ]
    page = Page(f"{len(stories)} studies of {metric}", " · ".join(names), sections=sections)
    write_page(page, path)
    return compared


def names_of(stories: Sequence[Story]) -> list[str]:
    """CONFIG/STUDY of each; its folder where two are called alike."""
    names = [story.name for story in stories]
    return [
        name if names.count(name) == 1 else str(story.folder)
        for name, story in zip(names, stories, strict=True)
    ]


def studies_table(stories: Sequence[Story], names: Sequence[str]) -> Table:
    """A row a study: base, winner and what they cost."""
    table = table_of("study", "base", "winner", "trial", "test", "trials", "epochs", "training", "elapsed")
    for story, name in zip(stories, names, strict=True):
        points = [*progress(story)]
        add_row(
            table,
            name,
            *_values(story),
            len(story.rows),
            sum(row.epochs for row in story.rows),
            duration(sum(row.seconds or 0 for row in story.rows)),
            duration(points[-1][2]) if points else "-",
        )
    return table


def _values(story: Story) -> Iterator[Any]:
    """Base, winner, whose trial it is, test: with intervals where an export has measured them."""
    base, facts = base_of(story.rows), story.exported
    gate, measured = (facts or {}).get("gate"), (facts or {}).get("base")
    if measured:
        yield with_interval(measured["value"], measured["interval"], name="")
    else:
        yield with_interval(base.value, None) if base and base.value is not None else "-"
    if facts and gate:
        test = gate.get("test")
        yield with_interval(gate["metrics"][story.metric], gate["interval"], name="")
        yield facts["trial"]
        yield with_interval(test["metrics"][story.metric], test["interval"], name="") if test else "-"
    else:
        winner = story.winner
        yield f"{winner.value:.4f}, not exported" if winner and winner.value is not None else "-"
        yield winner.number if winner else "-"
        yield "-"


def progress(story: Story) -> Iterator[tuple[TrialRow, int, float]]:
    """The trials as they ended, each with the epochs until then and the seconds since the first began."""
    starts = [trial.datetime_start for trial in story.trials if trial.datetime_start]
    if not starts:
        return
    ends = [trial.datetime_complete for trial in story.trials]
    last = max((end for end in ends if end), default=min(starts))
    order = sorted(zip(story.rows, ends, strict=True), key=lambda pair: (pair[1] or last, pair[0].number))
    epochs = 0
    for row, end in order:
        if row.epochs:
            epochs += row.epochs
            yield row, epochs, _since(min(starts), end or last)


def _since(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def best_so_far(stories: Sequence[Story], names: Sequence[str]) -> list[Chart]:
    """The best value by epochs, and by minutes."""
    by_epochs, by_time = go.Figure(), go.Figure()
    for story, name in zip(stories, names, strict=True):
        seen: list[TrialRow] = []
        epochs, minutes, best = [], [], []
        for row, done, seconds in progress(story):
            seen = rank([*seen, row], story.mode)[:1]
            if seen:
                epochs.append(done)
                minutes.append(seconds / 60)
                best.append(seen[0].value)
        for figure, x in ((by_epochs, epochs), (by_time, minutes)):
            figure.add_scatter(x=x, y=best, name=name, mode="lines+markers", line={"shape": "hv"})
    by_epochs.update_xaxes(title="epochs trained", rangemode="tozero")
    by_time.update_xaxes(title="minutes", rangemode="tozero")
    for figure in (by_epochs, by_time):
        figure.update_yaxes(title=stories[0].metric)
        figure.update_traces(marker_size=5)
        figure.update_layout(showlegend=True)
    return [Chart(by_epochs), Chart(by_time)]


def differences(stories: Sequence[Story], names: Sequence[str]) -> Section:
    """What they were asked otherwise: keys of config and search space whose values are not the same."""
    asked = [_flat(_asked(story)) for story in stories]
    keys = list(dict.fromkeys(key for one in asked for key in one))
    unlike = [key for key in keys if any(one.get(key) != asked[0].get(key) for one in asked)]
    if not unlike:
        return Section("Differences", "None: config and search space are the same.")
    table = table_of("key", *names)
    for key in unlike:
        add_row(table, key, *(value_text(one[key]) if key in one else "-" for one in asked))
    return Section("Differences", "Between their configs and search spaces as they are now.", tables=[table])


def _asked(story: Story) -> dict[str, Any]:
    asked: dict[str, Any] = story.config.to_dict() if story.config else {}
    if story.space is None:
        return asked
    ranges = {
        f"search: {parameter.name}": str(parameter).removeprefix(f"{parameter.name}: ")
        for parameter in story.space.parameters
    }
    return asked | ranges | {"study": story.space.study.model_dump()}


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> what is no mapping."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
