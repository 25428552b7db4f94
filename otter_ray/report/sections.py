"""The sections of a study's report. One that has nothing to show says why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otter_ray.formatting import announcement, sentence, si_number
from otter_ray.report import charts, optuna_charts
from otter_ray.report.finalists_table import finals_lines, finals_table
from otter_ray.report.html_page import PageSection
from otter_ray.report.study_data import StudyData
from otter_ray.report.tables import (
    add_row,
    key_value_table,
    new_table,
    precisions_table,
    records_table,
    trials_table,
)
from otter_ray.study.pareto import front
from otter_ray.study.schema import REJECTED
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import base_of, objectives_of, rank

SLICE_WIDTH = 280  # px


def sections_of(data: StudyData) -> Iterator[PageSection]:
    """Yield every section, results first."""
    yield search_section(data)
    yield from curves_section(data)
    if data.finalists:
        table = finals_table(data.finalists, data.metric, data.direction)
        lines = finals_lines(data.finalists, data.metric, data.direction)
        yield PageSection("Finalists", " ".join(f"{sentence(line)}." for line in lines), tables=[table])
    yield from gallery_sections(data)
    yield history_section(data)
    yield learning_curves_section(data)
    yield importances_section(data)
    yield parallel_coordinates_section(data)
    yield slices_section(data)
    yield pareto_front_section(data)
    yield trials_section(data)
    yield timeline_section(data)
    yield failures_section(data)
    yield gate_section(data)


def search_section(data: StudyData) -> PageSection:
    """Show what was searched, and what won."""
    config, space, winner = data.config, data.space, data.winner
    if config is None or space is None:
        text = "Left out: the study's folder holds no config.yaml and space.yaml that can be read."
        return PageSection("The search", text)
    won = {} if winner is None else winner.values
    parameters = new_table("parameter", "searched", "base", "winner")
    for parameter in space.parameters:
        key = parameter.keys[0]
        base = config.get(key) if config.has(key) else "-"
        is_there = winner is not None and (key in won or winner.is_base)
        range_ = str(parameter).removeprefix(f"{parameter.name}: ")
        add_row(parameters, parameter.name, range_, base, won.get(key, base) if is_there else "-")
    options = space.study
    about = {
        "metric": f"{options.metric} ({options.mode})",
        "other objectives": ", ".join(f"{name} ({mode})" for name, mode in options.objectives.items()),
        "constraints": ", ".join(options.constraints),
        "sampler": options.sampler.name,
        "scheduler": options.scheduler.name,
        "epochs of a whole trial": config.trainer.max_epochs,
        "project": config.project,
    }
    settings = key_value_table({key: value for key, value in about.items() if value})
    return PageSection("The search", tables=[parameters, settings])


def curves_section(data: StudyData) -> Iterator[PageSection]:
    """Show curves of base and winner over the validation set, if the project's model draws some."""
    own = data.pictures.get("winner", {}).get("curves", [])
    if not data.pictures:
        why = (
            "no gallery.json was kept with the exported model" if data.model else "no model has been exported"
        )
        yield PageSection("Curves and pictures", f"Left out: {why}.")
    if not own:
        return
    bases = {curve["title"]: curve for curve in data.pictures["base"]}
    drawn = [charts.curves(curve, bases.get(curve["title"])) for curve in own]
    text = "Base and winner over the validation set, by which the search selected."
    yield PageSection(" and ".join(curve["title"] for curve in own), text, charts=drawn)


def gallery_sections(data: StudyData) -> Iterator[PageSection]:
    """Yield pictures of the winner, if its project draws some."""
    for gallery in data.pictures.get("winner", {}).get("galleries", []):
        yield PageSection(gallery["title"], gallery["text"], gallery=gallery["rows"])


def history_section(data: StudyData) -> PageSection:
    """Show the best value so far."""
    title = "Optimization history"
    if not rank(data.rows, data.direction):
        return PageSection(title, "Left out: no trial has a value yet.")
    base = base_of(data.rows)
    chart = optuna_charts.history(data.drawable, data.metric, base.value if base else None)
    return PageSection(title, f"The best {data.metric} of each trial, at any of its epochs.", charts=[chart])


def learning_curves_section(data: StudyData) -> PageSection:
    """Show the metric by epoch."""
    title = "Learning curves"
    if not any(row.curve and row.state != TrialStatus.FAILED for row in data.rows):
        return PageSection(title, "Left out: no epoch has been trained yet.")
    winner = data.winner.number if data.winner else None
    chart = charts.learning_curves(data.trials, data.rows, data.metric, winner)
    text = "Colours show the rung at which a trial was stopped. Click a group in the legend to hide it."
    return PageSection(title, text, charts=[chart])


def importances_section(data: StudyData) -> PageSection:
    """Show which parameters made a difference."""
    title, count = "Parameter importances", len(rank(data.rows, data.direction))
    if count < optuna_charts.MIN_TRIALS:
        return PageSection(title, _too_few(count, optuna_charts.MIN_TRIALS))
    if not _parameters(data):
        return PageSection(title, "Left out: nothing was searched.")
    text = (
        f"How differently the best {optuna_charts.best_count(count)} of {count} trials and all of them chose "
        "each parameter (PED-ANOVA)." + " With so few it is a hint, not a finding." * (count < 50)
    )
    return PageSection(title, text, charts=[optuna_charts.importances(data.drawable, data.metric)])


def parallel_coordinates_section(data: StudyData) -> PageSection:
    """Show all parameters at once."""
    title, count = "Parallel coordinates", len(rank(data.rows, data.direction))
    if count < 2 or not _parameters(data):
        return PageSection(title, _too_few(count))
    which = (
        f"The best {optuna_charts.MAX_LINES} of {count} trials"
        if count > optuna_charts.MAX_LINES
        else f"{count} trials"
    )
    chart = optuna_charts.parallel_coordinates(data.drawable, data.metric, data.direction)
    return PageSection(title, f"{which}; the best are orange.", charts=[chart])


def slices_section(data: StudyData) -> PageSection:
    """Show each parameter alone."""
    title, count = "Slices", len(rank(data.rows, data.direction))
    if count < 2 or not _parameters(data):
        return PageSection(title, _too_few(count))
    text = f"{data.metric} over each parameter, from the first trial (grey) to the last (orange)."
    return PageSection(title, text, optuna_charts.slices(data.drawable, data.metric), chart_width=SLICE_WIDTH)


def _parameters(data: StudyData) -> bool:
    return any(trial.params for trial in data.trials)


def _too_few(count: int, needed: int = 2) -> str:
    if count >= needed:
        return "Left out: nothing was searched."
    have = "1 trial has" if count == 1 else f"{count} trials have"
    return f"Left out: {have} a value, and at least {needed} are needed."


def pareto_front_section(data: StudyData) -> PageSection:
    """Show what the metric costs in other objectives."""
    title, others = "Pareto front", objectives_of(data.study)
    if not others:
        return PageSection(title, f"Left out: the study has one objective, {data.metric}.")
    edge = front(data.rows, data.direction, others)
    if not edge:
        return PageSection(title, "Left out: no trial has a value for all objectives yet.")
    study = optuna_charts.drawable_study(data.study, data.trials, data.rows, data.direction, [*others])
    these = "this one" if len(edge) == 1 else f"one of these {len(edge)}"
    text = f"No other trial is at least as good as {these} in every objective and better in one."
    return PageSection(title, text, charts=optuna_charts.fronts(study, data.metric, [*others]))


def trials_section(data: StudyData) -> PageSection:
    """Show the table that the terminal shows."""
    winner = [data.winner] if data.winner else []
    shown_table = trials_table(data.rows, winner, data.metric, data.direction, objectives_of(data.study))
    text, shown_table.title = str(shown_table.title), None
    return PageSection("Trials", f"{text}.", tables=[shown_table])


def timeline_section(data: StudyData) -> PageSection:
    """Show which trial was trained when."""
    chart = charts.timeline(data.trials, data.rows)
    if not chart.figure.data:
        return PageSection("Timeline", "Left out: no trial has begun yet.")
    text = "Which trial each slot of a host trained, and when. Gaps are start-up and waiting."
    return PageSection("Timeline", text, charts=[chart])


def failures_section(data: StudyData) -> PageSection:
    """Show what went wrong."""
    failed = [row for row in data.rows if row.state == TrialStatus.FAILED]
    barred = sum(row.state == TrialStatus.INFEASIBLE for row in data.rows)
    text = (
        f"{barred} violated a constraint and {'was' if barred == 1 else 'were'} not trained."
        if barred
        else ""
    )
    if not failed:
        return PageSection("Failures", f"No trial failed. {text}")
    errors = new_table("trial", "after epoch", "error", "log")
    for row in failed:
        add_row(errors, row.number, row.epochs, row.error or "-", row.log)
    return PageSection(
        "Failures", f"{len(failed)} of {len(data.rows)} trials failed. {text}", tables=[errors]
    )


def gate_section(data: StudyData) -> PageSection:
    """Show what was verified of the exported file."""
    lost = new_table("candidates without a model, best first")
    for reason in data.study.user_attrs.get(REJECTED, []):
        add_row(lost, reason)
    rejected = [lost] * bool(lost.rows)
    if data.model is None:
        return PageSection("The gate", "No trial's model has passed it yet.", tables=rejected)
    onnx, facts = data.model
    found = facts["gate"]
    about = {
        "file": onnx.name,
        "trial, epoch": f"{facts['trial']}, {facts['epoch']}",
        "exported": facts["date"],
        "opset": found["opset"],
        "batches that were run": ", ".join(map(str, found["batches"])),
        "largest difference from PyTorch": f"{found['output_difference']:.1e}",
        f"validation {found.get('unit', 'images')}": found["images"],
        **{name: si_number(facts[name]) for name in ("parameters", "macs") if name in facts},
        **{
            key.replace("_", " "): value
            for key, value in found["details"].items()
            if not isinstance(value, list)
        },
    }
    metrics = new_table("metric", "ONNX file", "PyTorch", "logged in training")
    for name, value in found["metrics"].items():
        logged = f"{found['recorded']:.6f}" if name == found["metric"] else ""
        add_row(metrics, name, f"{value:.6f}", f"{found['pytorch_metrics'][name]:.6f}", logged)
    test = found.get("test")
    text = f"{sentence(announcement(test, found['metric']))}." if test else ""
    details = [
        records_table(key, value)
        for key, value in found["details"].items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    ]
    precisions = precisions_table(facts)
    tables = [key_value_table(about), metrics, *([precisions] if precisions else []), *details, *rejected]
    return PageSection("The gate", text, tables=tables)
