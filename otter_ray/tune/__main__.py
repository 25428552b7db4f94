"""`python -m otter_ray.tune CFG`: search, then a proven ONNX file."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otter_ray.cli import INTERRUPTED, ConfigName, Sets, honest_exit, tell
from otter_ray.errors import ConfigError, Problem, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from otter_ray.config import Config, Space
    from otter_ray.tune.exports import Exports
    from otter_ray.tune.folder import StudyFolder
    from otter_ray.tune.halt import Halt
    from otter_ray.tune.limits import Limits
    from otter_ray.tune.run import Search
    from otter_ray.tune.show import Show
    from otter_ray.tune.storage import Storage
    from otter_ray.tune.winner import Outcome

FAILED = 1
# What of the gate's figures is an event's.
GATE = ("metrics", "interval", "test")


def tune(
    config: ConfigName,
    space: Annotated[
        str | None,
        typer.Option(help="A search space's name (in search_spaces/) or path. Default: the config's."),
    ] = None,
    sets: Sets = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials; the space's by default.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The study's name. Default: date and time.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study of that --name (default: the newest).")
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="--resume with a changed config, or a narrower space than it began with."
        ),
    ] = False,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY", help="Begin with the best trials of another study: its name or folder."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where studies are kept: RUNS/CONFIG/STUDY.")] = Path("runs"),
    storage: Annotated[
        str | None,
        typer.Option(
            help="Keep the study here, too: s3://BUCKET/PATH, gs://..., or a path that all nodes see."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Use the Ray at this address ('auto': this machine's). A submitted job's default: its own."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the plan and sampled configs; start nothing. With --address: on that Ray."
        ),
    ] = False,
    samples: Annotated[int, typer.Option(min=0, help="Configs that --dry-run samples.")] = 3,
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="End the search after this time: 90s, 45m, 2h, 1h30m.")
    ] = None,
    max_epochs_total: Annotated[
        int | None, typer.Option(min=1, help="End the search after so many epochs of all trials together.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End the search when so many trials in a row brought no better value."),
    ] = None,
    export: Annotated[
        str,
        typer.Option(help="What is exported: best, pareto (the whole front), or top with a number: top3."),
    ] = "best",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print warnings, errors and the result, nothing else.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: one object for each event. Words go to stderr.")
    ] = False,
) -> None:
    """Search a config's space, then export the best epoch of the best trial as a proven ONNX file.

    Examples:

      python -m otter_ray.tune demo

      python -m otter_ray.tune my_config --set dataset.train_options.options.root=/data/docs --trials 64

    Trial 0 is the config as it stands, so the search never ends below its start. Ctrl-C: running trials
    finish their epoch, and the best so far is exported; again: at once. --resume goes on after either.
    Exit codes: 0 done, 1 no model passed the gate, 2 a mistake in what was given, 130 interrupted.
    """
    from otter_ray.tune.exports import Exports
    from otter_ray.tune.job import job_address, lasting
    from otter_ray.tune.limits import Limits, parse_duration
    from otter_ray.tune.show import choose_show

    show = choose_show(as_json, quiet)
    with honest_exit(), show.whole():
        # A mistake that can be seen without torch, ray and optuna is told before they are imported.
        loaded, searched = load_both(config, space, sets or [])
        if trials is not None:
            searched = searched.with_trials(trials)
        seconds = parse_duration(time_budget) if time_budget is not None else None
        limits = Limits(seconds, max_epochs_total, patience)
        exports = Exports.of(export, searched.study)
        address = address or job_address()
        if dry_run:
            _dry_run(loaded, searched, samples, address, show.console)
            return
        choice = Choice(lasting(runs), name, resume, storage, accept_changes, warm_start)
        code = _study(loaded, searched, choice, address, limits, exports, show)
    raise typer.Exit(code)


def load_both(config: str, space: str | None, sets: list[str]) -> tuple[Config, Space]:
    """The config and its search space; raises ConfigError with the problems of both, and between them."""
    from otter_ray.config import check_space, load_config, load_space

    problems: list[Problem] = []
    loaded, searched = None, None
    try:
        loaded = load_config(config, sets)
    except ConfigError as exc:
        problems += exc.problems
    try:
        searched = load_space(space or Path(config).stem)
    except ConfigError as exc:
        problems += exc.problems
    if loaded is None or searched is None:
        raise ConfigError(problems)
    if problems := check_space(searched, loaded):
        raise ConfigError(problems)
    return loaded, searched


@dataclass(frozen=True)
class Choice:
    """Which study is meant."""

    runs: Path
    name: str | None
    resume: bool
    storage: str | None
    accept_changes: bool
    warm_start: str | None

    def folder(self, config: str) -> tuple[StudyFolder, Storage | None]:
        """Its folder, new or to go on with, and where it is kept beside that. Raises StudyError."""
        from otter_ray.tune.folder import create_folder, kept_folder, open_folder

        if self.storage is not None:
            return kept_folder(self.runs, config, self.name, self.storage, self.resume)
        if not self.resume:
            return create_folder(self.runs, config, self.name), None
        folder = open_folder(self.runs, config, self.name)
        if folder.storage is not None:
            folder.storage.get_study(folder.path)
        return folder, folder.storage

    def first(self, config: Config, space: Space, console: Console) -> list[dict[str, Any]]:
        """Parameters of the trials that it begins with, after the base config's. Raises StudyError."""
        from otter_ray.tune.first import best_of

        return best_of(self.warm_start, self.runs, config, space, console) if self.warm_start else []


def _dry_run(config: Config, space: Space, samples: int, address: str | None, console: Console) -> None:
    from otter_ray.tune.check import local_node
    from otter_ray.tune.cluster import autoscaler_config, cluster
    from otter_ray.tune.dry_run import show_plan
    from otter_ray.tune.session import ray_session

    with ray_session(address) if address else nullcontext():
        nodes, growth = cluster(autoscaler_config()) if address else ([local_node()], [])
    show_plan(config, space, nodes, growth, samples, console)


def _study(
    config: Config,
    space: Space,
    choice: Choice,
    address: str | None,
    limits: Limits,
    exports: Exports,
    show: Show,
) -> int:
    from otter_ray.tune.session import imports_at_once, ray_session
    from otter_ray.tune.show import summary

    console = show.console
    with ExitStack() as stack:

        @cache
        def dashboard() -> str | None:
            ahead = imports_at_once(space.study, config.trainer.accelerator)
            return stack.enter_context(ray_session(address, config.project, ahead))

        if address or not choice.resume:
            # What follows imports as much as the slots do: both at the same time.
            dashboard()
        from otter_ray.tune import run
        from otter_ray.tune.check import check_study, local_node, with_steady_scheduler
        from otter_ray.tune.cluster import autoscaler_config, cluster
        from otter_ray.tune.dry_run import plan_for, within_grid
        from otter_ray.tune.folder import sole_driver
        from otter_ray.tune.phases import Phases
        from otter_ray.tune.plan import gpus_of
        from otter_ray.tune.probe import check_nodes

        autoscaler = autoscaler_config() if address else None
        nodes, growth = cluster(autoscaler) if address else ([local_node()], [])
        space = with_steady_scheduler(space, config)
        check_study(config, space, gpus_of(nodes, growth), starts=not choice.resume)
        space = within_grid(space, config, console)
        plan_for(config, space, nodes, growth)
        first = cache(partial(choice.first, config, space, console))
        if not choice.resume:
            first()
        folder, storage = choice.folder(config.name)
        stack.enter_context(sole_driver(folder))
        if growth and storage is None:
            tell(
                console,
                f"warning: nodes that the autoscaler adds must see {folder.path}, too. If they share no such "
                "folder (NFS), give --storage s3://BUCKET/PATH.",
                style="yellow",
            )
        with run.removed_if_unused(folder):
            if address:
                check_nodes(folder.path, storage)
            search = run.prepare(
                config, space, folder, console, storage, choice.accept_changes, first, exports
            )
        console.print(f"study: {folder.path}")
        options = space.study
        show.event("study", folder=str(folder.path), metric=options.metric, mode=options.mode)

        @cache
        def connect() -> None:
            if shown := dashboard():
                console.print(f"dashboard: {shown}")

        halt, finals = Phases(show, connect, autoscaler, limits).run(search)
    code = _finish(search, finals, show, halt)
    show.event("end", code=code, **summary(search.study))
    return code


def _finish(search: Search, finals: Search | None, show: Show, halt: Halt | None) -> int:
    """Exports the winner, where there is any; gives the exit code."""
    from otter_ray.tune.room import no_room
    from otter_ray.tune.winner import export_others, export_winner

    console, further = show.console, f"--name {search.folder.name} --resume"
    if halt and halt.is_fault:
        folder = search.folder.path
        reason = no_room(folder, folder) if halt.is_full else halt.reason
        raise StudyError(f"{reason}. What is done is kept: mend that, and go on with {further}")
    reason = halt.reason if halt else "stopped"
    if left := search.trials_left():
        tell(console, f"{reason}; trials left: {left}; go on with {further}")
    if runs_left := finals.trials_left() if finals else 0:
        tell(console, f"{reason}; runs of finalists left: {runs_left}; go on with {further}")
    interrupted = bool((left or runs_left) and halt and halt.is_interrupt)
    if interrupted and not search.has_winner():
        _report(search, console)
        return INTERRUPTED
    decisive = finals if not runs_left else None
    outcome = export_winner(search, decisive)
    _tell_outcome(show, outcome, search)
    if search.exports.are_several:
        for line in export_others(search, decisive, outcome):
            tell(console, line)
    search.keep()
    if interrupted:
        return INTERRUPTED
    return 0 if outcome.exported else FAILED


def _report(search: Search, console: Console) -> None:
    """Draws `report.html`; where that fails, the study is no worse for it."""
    from otter_ray.report.render import REPORT, write_report
    from otter_ray.report.story import Story

    path = search.folder.path / REPORT
    try:
        write_report(Story(search.study, search.folder.path), path)
        tell(console, f"report: {path}")
    except Exception as exc:
        tell(console, f"warning: report.html could not be drawn: {type(exc).__name__}: {exc}", style="yellow")


def _tell_outcome(show: Show, outcome: Outcome, search: Search) -> None:
    from otter_ray.report.page import print_page
    from otter_ray.report.tables import values_table
    from otter_ray.tune.folder import config_of

    console = show.console
    facts = json.loads(outcome.exported.json.read_text()) if outcome.exported else None
    print_page(console, search.study, search.folder.path, outcome.rows, facts)
    for line in outcome.rejected:
        tell(console, line)
    if outcome.winner is None or outcome.exported is None:
        _report(search, console)
        tell(console, "no trial gave a model that passed the gate", style="red")
        return
    values = outcome.winner.values
    base = config_of(search.folder, outcome.winner.config, search.config)
    console.print(values_table(values, {key: base.get(key) for key in values if base.has(key)}))
    tell(console, str(outcome.exported.gate))
    if announcement := outcome.exported.gate.announcement():
        tell(console, announcement, style="bold")
    _report(search, console)
    before = " (exported before, from the same checkpoint)" if outcome.exported.is_earlier else ""
    tell(console, f"onnx: {outcome.exported.onnx}{before}", style="bold")
    assert facts is not None
    told = {key: facts[key] for key in ("trial", "base")} | {key: facts["gate"][key] for key in GATE}
    show.event("exported", onnx=outcome.exported.onnx, json=outcome.exported.json, **told)


if __name__ == "__main__":
    typer.run(tune)
