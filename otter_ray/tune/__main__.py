"""`python -m otter_ray.tune CFG`: search, then a proven ONNX file."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otter_ray.cli import INTERRUPTED, ConfigName, Sets, honest_exit, plain_console
from otter_ray.config import Config, Space, load_config, load_space
from otter_ray.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from otter_ray.tune.folder import StudyFolder
    from otter_ray.tune.run import Outcome, Search
    from otter_ray.tune.storage import Storage

FAILED = 1


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
    export_on_interrupt: Annotated[
        bool | None,
        typer.Option(help="After Ctrl-C: export the best so far? Asked on a terminal, else no."),
    ] = None,
) -> None:
    """Search a config's space, then export the best epoch of the best trial as a proven ONNX file.

    Examples:

      python -m otter_ray.tune demo

      python -m otter_ray.tune my_config --set dataset.train_options.options.root=/data/docs --trials 64

    Trial 0 is the config as it stands, so the search never ends below its start. Ctrl-C stops it and
    keeps what is finished. Exit codes: 0 done, 1 no model passed the gate, 2 a mistake in what was
    given, 130 interrupted.
    """
    from otter_ray.tune.job import job_address, lasting

    with honest_exit():
        address = address or job_address()
        loaded, searched = load_both(config, space, sets or [])
        if trials is not None:
            searched = searched.with_trials(trials)
        if dry_run:
            _dry_run(loaded, searched, samples, address)
            return
        code = _study(
            loaded, searched, Choice(lasting(runs), name, resume, storage), address, export_on_interrupt
        )
    raise typer.Exit(code)


def load_both(config: str, space: str | None, sets: list[str]) -> tuple[Config, Space]:
    """The config and its search space; raises ConfigError with the problems of both."""
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
    return loaded, searched


@dataclass(frozen=True)
class Choice:
    """Which study is meant."""

    runs: Path
    name: str | None
    resume: bool
    storage: str | None

    def folder(self, config: str) -> tuple[StudyFolder, Storage | None]:
        """Its folder, new or to go on with, and where it is kept beside that. Raises StudyError."""
        from otter_ray.tune.folder import create_folder, kept_folder, open_folder

        if self.storage is not None:
            return kept_folder(self.runs, config, self.name, self.storage, self.resume)
        return (open_folder if self.resume else create_folder)(self.runs, config, self.name), None


def _dry_run(config: Config, space: Space, samples: int, address: str | None) -> None:
    from otter_ray.tune.check import local_node
    from otter_ray.tune.cluster import autoscaler_config, cluster
    from otter_ray.tune.dry_run import show_plan
    from otter_ray.tune.session import ray_session

    with ray_session(address) if address else nullcontext():
        nodes, growth = cluster(autoscaler_config()) if address else ([local_node()], [])
    show_plan(config, space, nodes, growth, samples, plain_console())


def _study(config: Config, space: Space, choice: Choice, address: str | None, export: bool | None) -> int:
    from otter_ray.tune import run
    from otter_ray.tune.check import check_study, local_node
    from otter_ray.tune.cluster import autoscaler_config, cluster
    from otter_ray.tune.dry_run import plan_for, tell_plan
    from otter_ray.tune.folder import sole_driver
    from otter_ray.tune.plan import gpus_of
    from otter_ray.tune.probe import check_nodes
    from otter_ray.tune.session import ray_session

    console = plain_console()
    with ExitStack() as stack:
        dashboard = stack.enter_context(ray_session(address, config.project)) if address else None
        autoscaler = autoscaler_config() if address else None
        nodes, growth = cluster(autoscaler) if address else ([local_node()], [])
        check_study(config, space, gpus_of(nodes, growth), starts=not choice.resume)
        plan_for(config, space, nodes, growth)
        folder, storage = choice.folder(config.name)
        stack.enter_context(sole_driver(folder))
        with run.removed_if_unused(folder):
            if address:
                check_nodes(folder.path, storage)
            search = run.prepare(config, space, folder, console, storage)
        console.print(f"study: {folder.path}")
        if (left := search.trials_left()) > 0:
            if not address:
                dashboard = stack.enter_context(ray_session(None))
            plan = plan_for(config, space.with_trials(left), *cluster(autoscaler))
            tell_plan(plan, config, console)
            if dashboard:
                console.print(f"dashboard: {dashboard}")
            run.run_trials(search, plan, console, autoscaler)
    return _finish(search, console, export)


def _finish(search: Search, console: Console, export: bool | None) -> int:
    """Exports the winner, unless the search was interrupted and nobody wants that; gives the exit code."""
    from otter_ray.tune import run

    interrupted = search.trials_left() > 0
    if interrupted:
        console.print(
            f"interrupted; finished trials are kept. Go on with --name {search.folder.name} --resume"
        )
        if not (search.has_winner() and _wants_export(export)):
            return INTERRUPTED
    outcome = run.export_winner(search)
    _print_outcome(console, outcome, search.config, search.space)
    search.keep()
    if interrupted:
        return INTERRUPTED
    return 0 if outcome.exported else FAILED


def _wants_export(export: bool | None) -> bool:
    if export is None and sys.stdin.isatty():
        return typer.confirm("Export the best so far?", default=True)
    return bool(export)


def _print_outcome(console: Console, outcome: Outcome, config: Config, space: Space) -> None:
    from otter_ray.report.tables import outcome_lines, trials_table, values_table

    metric, mode = space.study.metric, space.study.mode
    console.print(trials_table(outcome.rows, metric, mode))
    for line in [*outcome_lines(outcome.rows, metric, mode), *outcome.rejected]:
        console.print(line)
    if outcome.winner is None or outcome.exported is None:
        console.print("no trial gave a model that passed the gate", style="red")
        return
    values = outcome.winner.values
    console.print(values_table(values, {key: config.get(key) for key in values if config.has(key)}))
    console.print(str(outcome.exported.gate))
    console.print(f"onnx: {outcome.exported.onnx}", style="bold")


if __name__ == "__main__":
    typer.run(tune)
