"""Charts of a study that Optuna does not have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import plotly.graph_objects as go
from optuna.trial import FrozenTrial
from plotly.colors import sample_colorscale

from otter_ray.report.html_page import Chart
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import TrialRecord

# They must be visible on white and on black.
BASE_COLOUR, WINNER_COLOUR, GREY_COLOUR, FAILED_COLOUR = "#3b82f6", "#ea580c", "#94a3b8", "#dc2626"
DONE_COLOUR, RUNNING_COLOUR = "#0d9488", "#ca8a04"
STATE_COLOURS = {
    TrialStatus.COMPLETE: DONE_COLOUR,
    TrialStatus.PRUNED: GREY_COLOUR,
    TrialStatus.FAILED: FAILED_COLOUR,
    TrialStatus.UNFINISHED: RUNNING_COLOUR,
}
# Bars of a timeline: with more of them, their outlines would hide them.
MAX_OUTLINED_BARS = 200


def curves(winner: Mapping[str, Any], base: Mapping[str, Any] | None) -> Chart:
    """Draw a curve of the winner, and the base's (`BaseMixin.illustrate`)."""
    figure = go.Figure()
    for name, curve, colour in (("base", base, BASE_COLOUR), ("winner", winner, WINNER_COLOUR)):
        if curve is None:
            continue
        mark, line, text = curve.get("mark"), {"color": colour, "width": 2.5}, name
        if mark:
            text = f"{name}: {mark['y']:.4f} at {mark['x']:g} ({mark['text']})"
        figure.add_scatter(x=curve["x"], y=curve["y"], name=text, mode="lines", line=line, legendgroup=name)
        if not mark:
            continue
        figure.add_scatter(
            x=[mark["x"]],
            y=[mark["y"]],
            mode="markers",
            marker={"color": colour, "size": 11},
            name=text,
            legendgroup=name,
            showlegend=False,
        )
    if winner.get("log_x"):
        figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_xaxes(title=winner["x_title"])
    figure.update_yaxes(title=winner["y_title"], rangemode="tozero")
    figure.update_layout(hovermode="x")
    return Chart(figure, height=420)


def learning_curves(
    trials: Sequence[FrozenTrial], rows: Sequence[TrialRecord], metric: str, winner: int | None
) -> Chart:
    """Draw the metric by epoch; trials that were stopped at the same rung have one colour."""
    groups: dict[tuple[TrialStatus, int], list[int]] = defaultdict(list)
    for row in rows:
        if row.curve and row.state != TrialStatus.FAILED:
            groups[row.state, row.epochs if row.state == TrialStatus.PRUNED else 0].append(row.number)
    stopped = sorted(epochs for state, epochs in groups if state == TrialStatus.PRUNED)
    places = {epochs: place / max(1, len(stopped)) for place, epochs in enumerate(stopped)}
    figure = go.Figure()
    for state, epochs in sorted(groups, key=lambda group: (group[0] != TrialStatus.PRUNED, group)):
        colour = DONE_COLOUR if state == TrialStatus.COMPLETE else RUNNING_COLOUR
        name = "ran to the end" if state == TrialStatus.COMPLETE else str(state)
        if state == TrialStatus.PRUNED:
            [colour] = sample_colorscale([[0, GREY_COLOUR], [1, DONE_COLOUR]], [places[epochs]])
            name = f"stopped after epoch {epochs}"
        numbers = groups[state, epochs]
        _add_curves(figure, [trials[number] for number in numbers], f"{name} ({len(numbers)})", colour, 1.5)
    special = [(row.number, "base", BASE_COLOUR) for row in rows if row.is_base and row.curve][:1]
    special += [(winner, f"winner: trial {winner}", WINNER_COLOUR)] if winner is not None else []
    for number, name, colour in special:
        _add_curves(figure, [trials[number]], name, colour, 3.5)
    figure.update_xaxes(title="epoch", dtick=1 if max(row.epochs for row in rows) <= 12 else None)
    figure.update_yaxes(title=metric)
    figure.update_layout(hovermode="closest")
    return Chart(figure, height=440)


def _add_curves(
    figure: go.Figure, trials: Iterable[FrozenTrial], name: str, colour: str, width: float
) -> None:
    """Add curves as one trace with gaps: hundreds of traces would make a slow page."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for trial in trials:
        epochs = sorted(trial.intermediate_values)
        x += [*epochs, None]
        y += [*(_finite(trial.intermediate_values[epoch]) for epoch in epochs), None]
        text += [f"trial {trial.number}"] * (len(epochs) + 1)
    figure.add_scatter(
        x=x,
        y=y,
        name=name,
        text=text,
        mode="lines+markers",
        line={"color": colour, "width": width},
        marker={"size": width + 3},
        opacity=1 if width > 2 else 0.7,
        hovertemplate="%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def timeline(trials: Sequence[FrozenTrial], rows: Sequence[TrialRecord]) -> Chart:
    """Draw which trial each slot trained when.

    The journal does not record slots: each host's trials are assigned to its slots, the first free one first.
    """
    spans = sorted(_spans(trials, rows), key=lambda span: span[1])
    busy: dict[str, list[datetime]] = defaultdict(list)
    bars: dict[TrialStatus, list[tuple[str, datetime, datetime, str]]] = defaultdict(list)
    for row, start, end in spans:
        host = row.host or "?"
        free = [slot for slot, until in enumerate(busy[host]) if until <= start]
        slot = free[0] if free else len(busy[host])
        busy[host][slot : slot + 1] = [end]
        text = f"trial {row.number}, {row.epochs} epochs, {(end - start).total_seconds():.0f} s, {row.state}"
        bars[row.state].append((f"{host} · {slot + 1}", start, end, text))
    figure, edge = go.Figure(), 1 if len(spans) <= MAX_OUTLINED_BARS else 0
    for state, some in bars.items():
        figure.add_bar(
            base=[start.isoformat() for _, start, _, _ in some],
            x=[(end - start).total_seconds() * 1000 for _, start, end, _ in some],
            y=[slot for slot, *_ in some],
            text=[text for *_, text in some],
            orientation="h",
            textposition="none",
            marker={"color": STATE_COLOURS[state], "line": {"width": edge, "color": "rgba(255,255,255,.6)"}},
            name=str(state),
            hovertemplate="%{text}<extra></extra>",
        )
    lanes = sorted(f"{host} · {slot + 1:d}" for host, slots in busy.items() for slot in range(len(slots)))
    figure.update_xaxes(type="date")
    figure.update_yaxes(categoryorder="array", categoryarray=lanes[::-1], type="category")
    figure.update_layout(barmode="overlay", bargap=0.25)
    return Chart(figure, height=min(900, 110 + 30 * len(lanes)))


def _spans(
    trials: Sequence[FrozenTrial], rows: Sequence[TrialRecord]
) -> Iterable[tuple[TrialRecord, datetime, datetime]]:
    """Yield when each trial trained last: from its end back by the seconds that it took."""
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    for trial, row in zip(trials, rows, strict=True):
        start, end = trial.datetime_start, trial.datetime_complete or max(ends, default=None)
        if start is None or end is None or row.state not in STATE_COLOURS:
            continue
        if trial.datetime_complete and row.seconds is not None:
            start = max(start, end - timedelta(seconds=row.seconds))
        yield row, start, max(start, end)
