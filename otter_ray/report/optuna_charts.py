"""Charts that Optuna draws, from a study that is made of our trial rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial

import optuna
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.colors import sample_colorscale
from plotly.graph_objects import Figure

from otter_ray.direction import Direction
from otter_ray.report.charts import BASE_COLOUR, DONE_COLOUR, GREY_COLOUR, WINNER_COLOUR
from otter_ray.report.html_page import Chart
from otter_ray.report.tables import parameter_labels
from otter_ray.study.trials import TrialRecord, rank

SCALE = [[0.0, GREY_COLOUR], [0.5, DONE_COLOUR], [1.0, WINNER_COLOUR]]
# Widths in px: of a letter of an axis's values and of its name, and of margins and colour bar.
VALUE_WIDTH, NAME_WIDTH, BESIDE_AXES = 6, 7, 200
# Lines through parallel axes: with more of them, none can be told apart.
MAX_LINES = 200
# Trials that parameter importances need, and how many of them at least count as the best ones.
MIN_TRIALS, MIN_BEST_TRIALS = 10, 5


def drawable_study(
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    rows: Sequence[TrialRecord],
    direction: Direction,
    figures: Sequence[str] = (),
) -> optuna.Study:
    """Copy the trials for Optuna's charts: each that can win is COMPLETE, with its best epoch's value.

    Optuna would leave out trials that were stopped early. Trials keep their numbers, parameters get short
    names.

    Args:
        study: The study.
        trials: Its trials as Optuna holds them.
        rows: The same trials as rows, read at the same moment.
        direction: which values are better.
        figures: Names of other objectives. Only trials that have all of them are drawn.
    """
    label = parameter_labels(list(dict.fromkeys(name for trial in trials for name in trial.params)))
    able = {
        row.number
        for row in rank(rows, direction)
        if all(math.isfinite(row.figures.get(name, math.nan)) for name in figures)
    }
    drawable = optuna.create_study(directions=study.directions[: 1 + len(figures)])
    for trial, row in zip(trials, rows, strict=True):
        is_shown = row.number in able
        drawable.add_trial(
            create_trial(
                state=TrialState.COMPLETE if is_shown else TrialState.FAIL,
                values=[row.value or 0.0, *(row.figures[name] for name in figures)] if is_shown else None,
                params={label[name]: value for name, value in trial.params.items()},
                distributions={label[name]: range_ for name, range_ in trial.distributions.items()},
            )
        )
    return drawable


def history(study: optuna.Study, metric: str, base: float | None) -> Chart:
    """Draw the value of each trial and the best so far."""
    figure = visualization.plot_optimization_history(study, target_name=metric)
    values, best = figure.data[:2]
    values.update(marker={"color": GREY_COLOUR, "size": 7}, name="a trial's best epoch")
    best.update(line={"color": WINNER_COLOUR, "shape": "hv"}, name="best so far")
    if base is not None:
        figure.add_hline(base, line={"color": BASE_COLOUR, "dash": "dot"}, name="base", showlegend=True)
    return Chart(figure)


def importances(study: optuna.Study, metric: str) -> Chart:
    """Draw how differently the best trials and all trials chose each parameter (PED-ANOVA)."""
    from optuna.importance import PedAnovaImportanceEvaluator  # imports scikit-learn, too

    count = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_count(count) / count)
    with warnings.catch_warnings():
        # It warns of conditions that a single trial fulfils.
        warnings.simplefilter("ignore")
        figure = visualization.plot_param_importances(study, evaluator, target_name=metric)
    figure.update_traces(marker_color=DONE_COLOUR)
    figure.update_xaxes(title=None)
    figure.update_yaxes(title=None)
    return Chart(figure, height=90 + 34 * len(figure.data[0].y))


def best_count(count: int) -> int:
    """Return how many trials count as the best: a tenth, but no fewer than PED-ANOVA needs."""
    return max(MIN_BEST_TRIALS, count // 10)


def parallel_coordinates(study: optuna.Study, metric: str, direction: Direction) -> Chart:
    """Draw each trial as a line through all its parameters, the best ones on top."""
    figure = visualization.plot_parallel_coordinate(_best(study, direction), target_name=metric)
    *lines, scale = figure.data
    worst_first = sorted(lines, key=lambda line: line.y[0], reverse=direction is Direction.MIN)
    for line in worst_first:
        place = 1 - line.y[0] if direction is Direction.MIN else line.y[0]
        line.update(line_color=sample_colorscale(SCALE, [place])[0], opacity=0.4 + 0.6 * place)
    figure.data = [*worst_first, scale]
    scale.marker.update(colorscale=SCALE, reversescale=direction is Direction.MIN)
    figure.update_annotations(font_color=None)
    return Chart(figure, height=440, width=_spread_axes(figure))


def _spread_axes(figure: Figure) -> int:
    """Place parallel axes so far apart that no text reaches another axis; return the width in px.

    Optuna places them evenly, however long the names of their values are.
    """
    axis = figure.layout.xaxis
    names = [len(text) for text in axis.ticktext]
    notes = [[note for note in figure.layout.annotations if note.x == place] for place in axis.tickvals]
    values = [max((len(note.text) for note in own), default=0) for own in notes]
    places = [0.0]
    for left, right, value in zip(names, names[1:], values[1:], strict=False):
        # Values are to the left of their axis, its name is centred below it.
        places.append(places[-1] + 16 + max(VALUE_WIDTH * value, NAME_WIDTH * (left + right) / 2))
    for own, shape, place in zip(notes, figure.layout.shapes, places, strict=True):
        shape.update(x0=place, x1=place)
        for note in own:
            note.x = place
    for line in figure.data[:-1]:
        line.x = places
    before, behind = VALUE_WIDTH * values[0], NAME_WIDTH * names[-1] / 2
    axis.update(tickvals=places, range=[-before, places[-1] + behind])
    return round(before + places[-1] + behind) + BESIDE_AXES


def _best(study: optuna.Study, direction: Direction) -> optuna.Study:
    """Return the study; if it has many trials, one with only the best of them."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(trials) <= MAX_LINES:
        return study
    best = optuna.create_study(direction=study.direction)
    best.add_trials(
        sorted(trials, key=lambda trial: trial.value or 0.0, reverse=direction is Direction.MAX)[:MAX_LINES]
    )
    return best


def slices(study: optuna.Study, metric: str) -> list[Chart]:
    """Draw the metric over each parameter: one chart each, so that they fill the lines of any window."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    values = [trial.value for trial in trials if trial.value is not None]
    edge = 0.05 * (max(values) - min(values)) or 0.05
    charts = []
    for name in sorted({name for trial in trials for name in trial.params}):
        figure = visualization.plot_slice(study, params=[name], target_name=metric)
        # The same colours and heights mean the same in all of them.
        colours = {"colorscale": SCALE, "cmin": 0, "cmax": trials[-1].number, "showscale": False}
        figure.update_traces(marker={**colours, "line": {"width": 0}, "size": 8})
        figure.update_yaxes(title=None, range=[min(values) - edge, max(values) + edge])
        axis, (trace, *_) = figure.layout.xaxis, figure.data
        if axis.type == "log":
            axis.update(tickvals=_ticks(trace.x), ticktext=[f"{tick:g}" for tick in _ticks(trace.x)])
        elif axis.type == "category":
            # Optuna writes text as Python does, in quotes.
            texts = [text.strip("'") for text in axis.categoryarray]
            axis.update(tickvals=axis.categoryarray, ticktext=texts)
        charts.append(Chart(figure, height=280))
    return charts


def _ticks(values: Sequence[float]) -> list[float]:
    """Return 1, 2 and 5 times each power of ten that the values reach; only 1 if there are many powers."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    return [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]


def fronts(study: optuna.Study, metric: str, others: Sequence[str]) -> list[Chart]:
    """Draw the metric against each other objective, with the Pareto front of all of them."""
    charts = []
    for place, name in enumerate(others, start=1):
        figure = visualization.plot_pareto_front(
            study,
            target_names=[name, metric],
            targets=partial(_values, place),
        )
        dominated, front = figure.data
        dominated.update(marker={"color": GREY_COLOUR, "showscale": False}, name="others", showlegend=True)
        marker = {"color": WINNER_COLOUR, "showscale": False, "size": 10}
        front.update(marker=marker, name="Pareto front", showlegend=True)
        charts.append(Chart(figure))
    return charts


def _values(place: int, trial: FrozenTrial) -> tuple[float, float]:
    return trial.values[place], trial.values[0]
