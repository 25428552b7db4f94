"""The sections of a study's report, each of which says why where it has nothing to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otter_ray.figures import announcement, sentence
from otter_ray.report import charts, optuna_charts
from otter_ray.report.finals import finals_lines, finals_table
from otter_ray.report.front import front
from otter_ray.report.html import Section
from otter_ray.report.rows import REJECTED, base_of, objectives_of, rank
from otter_ray.report.story import Story
from otter_ray.report.tables import add_row, facts_table, records, shown, table_of, trials_table


def sections_of(story: Story) -> Iterator[Section]:
    """All of them, what came out first."""
    yield search(story)
    yield roc(story)
    if story.finalists:
        table = finals_table(story.finalists, story.metric, story.mode)
        lines = finals_lines(story.finalists, story.metric, story.mode)
        yield Section("Finalists", " ".join(f"{sentence(line)}." for line in lines), tables=[table])
    yield from galleries(story)
    yield history(story)
    yield learning_curves(story)
    yield importances(story)
    yield parallel_coordinates(story)
    yield slices(story)
    yield pareto_front(story)
    yield trials(story)
    yield timeline(story)
    yield failures(story)
    yield gate(story)


def search(story: Story) -> Section:
    """What was searched, and what won."""
    config, space, winner = story.config, story.space, story.winner
    if config is None or space is None:
        return Section(
            "The search", "The study's folder holds no config.yaml and space.yaml to tell it from."
        )
    won = {} if winner is None else winner.values
    parameters = table_of("parameter", "searched", "base", "winner")
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
    settings = facts_table({key: value for key, value in about.items() if value})
    return Section("The search", tables=[parameters, settings])


def roc(story: Story) -> Section:
    """Curves of base and winner over the validation set."""
    own = story.pictures.get("winner", {}).get("curves", [])
    if not own:
        return Section("ROC", f"Left out: {_no_pictures(story)}.")
    bases = {curve["title"]: curve for curve in story.pictures["base"]}
    drawn = [charts.curves(curve, bases.get(curve["title"])) for curve in own]
    text = "Base and winner over the validation set, which the search selected on."
    return Section(" and ".join(curve["title"] for curve in own), text, charts=drawn)


def galleries(story: Story) -> Iterator[Section]:
    """Pictures of the winner, where its project draws some."""
    for gallery in story.pictures.get("winner", {}).get("galleries", []):
        yield Section(gallery["title"], gallery["text"], gallery=gallery["rows"])


def _no_pictures(story: Story) -> str:
    if story.model is None:
        return "no model has been exported"
    if not story.pictures:
        return "no gallery.json was kept with the exported model"
    return "the project's model draws no curves"


def history(story: Story) -> Section:
    """The best so far."""
    title = "Optimization history"
    if not rank(story.rows, story.mode):
        return Section(title, "Left out: no trial has a value yet.")
    base = base_of(story.rows)
    chart = optuna_charts.history(story.shown, story.metric, base.value if base else None)
    return Section(title, f"The best {story.metric} of each trial, at any of its epochs.", charts=[chart])


def learning_curves(story: Story) -> Section:
    """The metric by epoch."""
    title = "Learning curves"
    if not any(row.curve and row.state != "failed" for row in story.rows):
        return Section(title, "Left out: no epoch has been trained yet.")
    winner = story.winner.number if story.winner else None
    chart = charts.learning_curves(story.trials, story.rows, story.metric, winner)
    text = "Coloured by the rung at which a trial was stopped. A click in the legend hides a group."
    return Section(title, text, charts=[chart])


def importances(story: Story) -> Section:
    """Which parameter made the difference."""
    title, count = "Parameter importances", len(rank(story.rows, story.mode))
    if count < optuna_charts.FEWEST:
        few = f"of fewer than {optuna_charts.FEWEST} nothing can be said"
        return Section(title, f"Left out: {count} trials have a value, and {few}.")
    if not _parameters(story):
        return Section(title, "Left out: nothing was searched.")
    text = (
        f"How differently the best {optuna_charts.best_of(count)} of {count} trials and all of them chose "
        "each parameter (PED-ANOVA)." + " With so few it is a hint, not a finding." * (count < 50)
    )
    return Section(title, text, charts=[optuna_charts.importances(story.shown, story.metric)])


def parallel_coordinates(story: Story) -> Section:
    """All parameters at once."""
    title, count = "Parallel coordinates", len(rank(story.rows, story.mode))
    if count < 2 or not _parameters(story):
        return Section(title, _too_few(count))
    which = (
        f"The best {optuna_charts.LINES} of {count} trials"
        if count > optuna_charts.LINES
        else f"{count} trials"
    )
    chart = optuna_charts.parallel_coordinates(story.shown, story.metric, story.mode)
    return Section(title, f"{which}; the best are orange.", charts=[chart])


def slices(story: Story) -> Section:
    """Each parameter alone."""
    title, count = "Slices", len(rank(story.rows, story.mode))
    if count < 2 or not _parameters(story):
        return Section(title, _too_few(count))
    text = f"{story.metric} over each parameter; from the first trial, grey, to the last, orange."
    return Section(title, text, charts=[optuna_charts.slices(story.shown, story.metric)])


def _parameters(story: Story) -> bool:
    return any(trial.params for trial in story.trials)


def _too_few(count: int) -> str:
    return (
        f"Left out: {count} trials have a value, it wants two."
        if count < 2
        else "Left out: nothing was searched."
    )


def pareto_front(story: Story) -> Section:
    """What the metric costs."""
    title, others = "Pareto front", objectives_of(story.study)
    if not others:
        return Section(title, f"Left out: the study has one objective, {story.metric}.")
    edge = front(story.rows, story.mode, others)
    if not edge:
        return Section(title, "Left out: no trial has a value for all objectives yet.")
    study = optuna_charts.as_study(story.study, story.trials, story.rows, story.mode, [*others])
    text = f"Than these {len(edge)} trials no other is better in one objective and as good in all."
    return Section(title, text, charts=optuna_charts.fronts(study, story.metric, [*others]))


def trials(story: Story) -> Section:
    """The table that the terminal shows."""
    winner = [story.winner] if story.winner else []
    shown_table = trials_table(story.rows, winner, story.metric, story.mode, objectives_of(story.study))
    text, shown_table.title = str(shown_table.title), None
    return Section("Trials", f"{text}.", tables=[shown_table])


def timeline(story: Story) -> Section:
    """Who trained when."""
    chart = charts.timeline(story.trials, story.rows)
    if not chart.figure.data:
        return Section("Timeline", "Left out: no trial has begun yet.")
    text = "What each slot of a host trained when; gaps are start-up and waiting."
    return Section("Timeline", text, charts=[chart])


def failures(story: Story) -> Section:
    """What went wrong."""
    failed = [row for row in story.rows if row.state == "failed"]
    barred = sum(row.state == "infeasible" for row in story.rows)
    text = f"{barred} more violated a constraint, and were not trained." if barred else ""
    if not failed:
        return Section("Failures", f"No trial failed. {text}")
    errors = table_of("trial", "after epoch", "error", "log")
    for row in failed:
        add_row(errors, row.number, row.epochs, row.error or "-", row.log)
    return Section("Failures", f"{len(failed)} of {len(story.rows)} trials failed. {text}", tables=[errors])


def gate(story: Story) -> Section:
    """What the exported file was proven to do."""
    lost = table_of("candidates without a model, best first")
    for reason in story.study.user_attrs.get(REJECTED, []):
        add_row(lost, reason)
    rejected = [lost] * bool(lost.rows)
    if story.model is None:
        return Section("The gate", "No trial's model has passed it yet.", tables=rejected)
    onnx, facts = story.model
    found = facts["gate"]
    about = {
        "file": onnx.name,
        "trial, epoch": f"{facts['trial']}, {facts['epoch']}",
        "exported": facts["date"],
        "opset": found["opset"],
        "batches that were run": ", ".join(map(str, found["batches"])),
        "largest difference from PyTorch": f"{found['output_difference']:.1e}",
        "validation images": found["images"],
        **{name: shown(facts[name]) for name in ("parameters", "macs") if name in facts},
        **{
            key.replace("_", " "): value
            for key, value in found["details"].items()
            if not isinstance(value, list)
        },
    }
    metrics = table_of("metric", "ONNX file", "PyTorch", "logged in training")
    for name, value in found["metrics"].items():
        logged = f"{found['recorded']:.6f}" if name == found["metric"] else ""
        add_row(metrics, name, f"{value:.6f}", f"{found['pytorch_metrics'][name]:.6f}", logged)
    test = found.get("test")
    text = f"{sentence(announcement(test, found['metric']))}." if test else ""
    details = [
        records(key, value)
        for key, value in found["details"].items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    ]
    tables = [facts_table(about), metrics, *details, *rejected]
    return Section("The gate", text, tables=tables)
