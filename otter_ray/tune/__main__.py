"""`python -m otter_ray.tune CFG`: search, then a proven ONNX file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otter_ray.cli import INTERRUPTED, ConfigName, Sets, honest_exit
from otter_ray.config import Config, Space, load_config, load_space

if TYPE_CHECKING:
    from rich.console import Console

    from otter_ray.tune.folder import StudyFolder
    from otter_ray.tune.run import Outcome, Search

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
    address: Annotated[
        str | None, typer.Option(help="Use the Ray at this address ('auto': the one on this machine).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and sampled configs; start nothing.")
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
    with honest_exit():
        loaded = load_config(config, sets or [])
        searched = load_space(space or loaded.name)
        if trials is not None:
            searched = searched.with_trials(trials)
        if dry_run:
            _dry_run(loaded, searched, samples)
            return
        from otter_ray.tune.folder import create_folder, open_folder

        choose_folder = partial(open_folder if resume else create_folder, runs, loaded.name, name)
        code = _study(loaded, searched, choose_folder, address, export_on_interrupt)
    raise typer.Exit(code)


def _dry_run(config: Config, space: Space, samples: int) -> None:
    from rich.console import Console

    from otter_ray.tune.dry_run import show_plan

    show_plan(config, space, samples, Console())


def _study(
    config: Config,
    space: Space,
    choose_folder: Callable[[], StudyFolder],
    address: str | None,
    export: bool | None,
) -> int:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from rich.console import Console

    from otter_ray.tune import run
    from otter_ray.tune.check import check_study, local_node
    from otter_ray.tune.folder import open_study, write_environment
    from otter_ray.tune.plan import make_plan
    from otter_ray.tune.prepare import prepare_data

    console = Console()
    if address is None:
        node = local_node()
        check_study(config, space, node.gpus)
        make_plan(space.study, [node])
    else:
        run.refuse_silence(address)
        check_study(config, space, gpus=float("inf"))
    folder = choose_folder()
    prepare_data(config, folder, console)
    study = open_study(folder, space.study, run.build_sampler(space.study, config.common.seed))
    search = run.Search(config, space, folder, study)
    search.refuse_changes()
    write_environment(folder)
    console.print(f"study: {folder.path}", highlight=False, soft_wrap=True)
    complete = _run_trials(search, address, console)
    if not complete and not _wants_export(export):
        console.print(
            f"interrupted; finished trials are kept. Go on with --name {folder.name} --resume",
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    outcome = run.export_winner(search)
    _print_outcome(console, outcome, config, space)
    if outcome.exported is None:
        return FAILED
    return 0 if complete else INTERRUPTED


def _run_trials(search: Search, address: str | None, console: Console) -> bool:
    """Runs the trials that are still to be run; False: interrupted."""
    from otter_ray.tune import run
    from otter_ray.tune.plan import make_plan
    from otter_ray.tune.progress import ProgressLines
    from otter_ray.tune.searcher import take_up

    options = search.space.study
    left = options.num_trials - take_up(search.study)
    if left <= 0:
        return True
    with run.ray_session(address) as dashboard:
        plan = make_plan(search.space.with_trials(left).study, run.cluster_nodes())
        console.print(f"plan: {plan}", highlight=False, soft_wrap=True)
        if plan.idle_gpus:
            console.print(f"[yellow]warning:[/] {plan.idle_gpus}", highlight=False, soft_wrap=True)
        if dashboard:
            console.print(f"dashboard: http://{dashboard}", highlight=False)
        lines = ProgressLines(console, options, search.config.trainer.max_epochs, plan.trials)
        return run.run_trials(search, plan, [lines])


def _wants_export(export: bool | None) -> bool:
    if export is None and sys.stdin.isatty():
        return typer.confirm("Export the best so far?", default=True)
    return bool(export)


def _print_outcome(console: Console, outcome: Outcome, config: Config, space: Space) -> None:
    from otter_ray.report.tables import outcome_lines, trials_table, values_table

    metric, mode = space.study.metric, space.study.mode
    console.print(trials_table(outcome.rows, metric, mode))
    for line in [*outcome_lines(outcome.rows, metric, mode), *outcome.rejected]:
        console.print(line, highlight=False, soft_wrap=True)
    if outcome.winner is None or outcome.exported is None:
        console.print("[red]no trial gave a model that passed the gate[/]")
        return
    values = outcome.winner.values
    base = {key: config.get(key) for key in values if config.has(key)}
    console.print(values_table(values, base))
    console.print(str(outcome.exported.gate), highlight=False, soft_wrap=True)
    console.print(f"[bold]onnx: {outcome.exported.onnx}[/]", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(tune)
