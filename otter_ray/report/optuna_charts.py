"""Figures that Optuna draws, over a study of what our rows say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial

import optuna
from optuna import visualization
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.colors import sample_colorscale

from otter_ray.report.charts import BASE, DONE, GREY, WINNER
from otter_ray.report.html import Chart
from otter_ray.report.rows import TrialRow, rank
from otter_ray.report.tables import shortened

SCALE = [[0.0, GREY], [0.5, DONE], [1.0, WINNER]]
# Lines through parallel axes: of more, nothing is seen.
LINES = 200
# Trials that parameter importances want, and of them the best that are told from the rest.
FEWEST, BEST = 10, 5


def as_study(
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    rows: Sequence[TrialRow],
    mode: str,
    figures: Sequence[str] = (),
) -> optuna.Study:
    """The trials under their numbers as Optuna is to draw them: each that can win COMPLETE, with our value.

    That is its best epoch's, also of one that was stopped, whom Optuna would leave out. Parameters have short
    names.

    Args:
        trials, rows: of the study, of one moment.
        figures: other objectives, by name, which each trial shown has then.
    """
    label = shortened(list(dict.fromkeys(name for trial in trials for name in trial.params)))
    able = {
        row.number
        for row in rank(rows, mode)
        if all(math.isfinite(row.figures.get(name, math.nan)) for name in figures)
    }
    shown = optuna.create_study(directions=study.directions[: 1 + len(figures)])
    for trial, row in zip(trials, rows, strict=True):
        is_shown = row.number in able
        shown.add_trial(
            create_trial(
                state=TrialState.COMPLETE if is_shown else TrialState.FAIL,
                values=[row.value or 0.0, *(row.figures[name] for name in figures)] if is_shown else None,
                params={label[name]: value for name, value in trial.params.items()},
                distributions={label[name]: range_ for name, range_ in trial.distributions.items()},
            )
        )
    return shown


def history(shown: optuna.Study, metric: str, base: float | None) -> Chart:
    """The value of each trial and the best so far."""
    figure = visualization.plot_optimization_history(shown, target_name=metric)
    values, best = figure.data[:2]
    values.update(marker={"color": GREY, "size": 7}, name="a trial's best epoch")
    best.update(line={"color": WINNER, "shape": "hv"}, name="best so far")
    if base is not None:
        figure.add_hline(base, line={"color": BASE, "dash": "dot"}, name="base", showlegend=True)
    return Chart(figure)


def importances(shown: optuna.Study, metric: str) -> Chart:
    """How differently the best trials and all others chose each parameter (PED-ANOVA)."""
    count = len(shown.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_of(count) / count)
    with warnings.catch_warnings():
        # Of conditions that a single trial fulfils.
        warnings.simplefilter("ignore")
        figure = visualization.plot_param_importances(shown, evaluator, target_name=metric)
    figure.update_traces(marker_color=DONE)
    figure.update_xaxes(title=None)
    figure.update_yaxes(title=None)
    return Chart(figure, height=90 + 34 * len(figure.data[0].y))


def best_of(count: int) -> int:
    """How many of the trials are told from the rest: a tenth, and no fewer than PED-ANOVA wants."""
    return max(BEST, count // 10)


def parallel_coordinates(shown: optuna.Study, metric: str, mode: str) -> Chart:
    """Each trial as a line through all its parameters, the best ones on top."""
    figure = visualization.plot_parallel_coordinate(_best(shown, mode), target_name=metric)
    *lines, scale = figure.data
    worst_first = sorted(lines, key=lambda line: line.y[0], reverse=mode == "min")
    for line in worst_first:
        place = 1 - line.y[0] if mode == "min" else line.y[0]
        line.update(line_color=sample_colorscale(SCALE, [place])[0], opacity=0.4 + 0.6 * place)
    figure.data = [*worst_first, scale]
    scale.marker.update(colorscale=SCALE, reversescale=mode == "min")
    figure.update_annotations(font_color=None)
    axes = len(figure.layout.xaxis.tickvals)
    return Chart(figure, height=440, width=90 * axes + 120)


def _best(shown: optuna.Study, mode: str) -> optuna.Study:
    """The study with the best of its trials alone, where there are many."""
    trials = shown.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(trials) <= LINES:
        return shown
    best = optuna.create_study(direction=shown.direction)
    best.add_trials(sorted(trials, key=lambda trial: trial.value or 0.0, reverse=mode == "max")[:LINES])
    return best


def slices(shown: optuna.Study, metric: str) -> Chart:
    """The metric over each parameter."""
    figure = visualization.plot_slice(shown, target_name=metric)
    figure.update_traces(marker={"colorscale": SCALE, "line": {"width": 0}, "size": 8})
    for trace in figure.data:
        axis = figure.layout[trace.xaxis.replace("x", "xaxis")] if trace.xaxis else figure.layout.xaxis
        if axis.type == "log":
            axis.update(tickvals=_ticks(trace.x), ticktext=[f"{tick:g}" for tick in _ticks(trace.x)])
        elif axis.type == "category":
            # Optuna writes text as Python does, in quotes.
            axis.update(
                tickvals=axis.categoryarray, ticktext=[text.strip("'") for text in axis.categoryarray]
            )
    return Chart(figure, width=200 * len(figure.data) + 100)


def _ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each power of ten that the positive values reach; of many powers, 1 alone."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    return [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]


def fronts(shown: optuna.Study, metric: str, others: Sequence[str]) -> list[Chart]:
    """The metric against each other objective, with the Pareto front of all of them."""
    charts = []
    for place, name in enumerate(others, start=1):
        figure = visualization.plot_pareto_front(
            shown,
            target_names=[name, metric],
            targets=partial(_values, place),
        )
        dominated, front = figure.data
        dominated.update(marker={"color": GREY, "showscale": False}, name="others", showlegend=True)
        marker = {"color": WINNER, "showscale": False, "size": 10}
        front.update(marker=marker, name="Pareto front", showlegend=True)
        charts.append(Chart(figure))
    return charts


def _values(place: int, trial: FrozenTrial) -> tuple[float, float]:
    return trial.values[place], trial.values[0]
