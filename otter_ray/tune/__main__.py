"""`python -m otter_ray.tune CFG`: search, then a verified ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import Sets, SpaceSets, cli_errors, complete_config, complete_space
from otter_ray.console import lasting_streams
from otter_ray.user_folders import use_sound_folders


def tune(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CFG",
            help="Name (in configs/) or path of the config's YAML file. With --resume it can also be a "
            "study's folder, RUNS/CFG/STUDY: the study then continues with the settings stored there.",
            autocompletion=complete_config,
        ),
    ],
    space: Annotated[
        str | None,
        typer.Option(
            help="Name (in search_spaces/) or path of the search space. \\[default: the config's name]",
            autocompletion=complete_space,
        ),
    ] = None,
    sets: Sets = None,
    space_sets: SpaceSets = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Number of trials to run in all. \\[default: the search space's]"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the study. \\[default: date and time; with --resume the newest study]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a study that exists already.")] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Allow --resume although the config changed or the search space became narrower.",
        ),
    ] = False,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY", help="Begin with the best trials of another study, given by its name or folder."
        ),
    ] = None,
    runs: Annotated[
        Path, typer.Option(help="Folder for studies. Each one gets the folder RUNS/CONFIG/STUDY.")
    ] = Path("runs"),
    storage: Annotated[
        str | None,
        typer.Option(
            help="Keep a copy of the study here: s3://BUCKET/PATH, gs://BUCKET/PATH, or a path that all "
            "nodes see."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Run the trials on the Ray at this address; 'auto' finds the one on this machine. "
            "\\[default: a new one on this machine; in a submitted job that job's]"
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check all that a start checks, data and weights included, and print the plan and sampled "
            "configs. Nothing is started. --address plans for that Ray.",
        ),
    ] = False,
    samples: Annotated[int, typer.Option(min=0, help="Number of configs that --dry-run samples.")] = 3,
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End the search after this time, for example 90s, 45m or 1h30m."),
    ] = None,
    max_epochs_total: Annotated[
        int | None,
        typer.Option(min=1, help="End the search after this many epochs, counted over all trials."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End the search after this many trials in a row without a better value."),
    ] = None,
    export: Annotated[
        str,
        typer.Option(
            help="Trials whose models to export: best, pareto (the whole front), or top with a number, for "
            "example top3."
        ),
    ] = "best",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print warnings, errors and the result only.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object for each event. Messages go to the standard error."
        ),
    ] = False,
) -> None:
    """Search a config's space, then export the best epoch of the best trial as a verified ONNX file.

    Examples:

      python -m otter_ray.tune demo

      python -m otter_ray.tune my_config --set dataset.train_options.options.root=/data/docs --trials 64

      python -m otter_ray.tune --resume runs/my_config/20261130-120000

    Trial 0 is the config as it stands, so the search never ends below its start. After Ctrl-C the running
    trials finish their epoch and the best model so far is exported. A second Ctrl-C stops at once. --resume
    continues the study after either.
    Exit codes: 0 success, 1 no model passed the gate, 2 a mistake in the input, 130 interrupted.
    """
    from otter_ray.tune.display.factory import choose_reporter

    lasting_streams()  # before the reporter takes the standard output
    reporter, code = choose_reporter(as_json, quiet), 0
    with cli_errors(), reporter.command():
        use_sound_folders()
        # Mistakes that can be found without torch, ray and optuna are reported before these are imported.
        from otter_ray.tune.study import Study, dry_run_request, run_request

        request = Study(
            config,
            space,
            trials=trials,
            name=name,
            runs=runs,
            resume=resume,
            accept_changes=accept_changes,
            warm_start=warm_start,
            set=sets or [],
            set_space=space_sets or [],
            storage=storage,
            address=address,
            time_budget=time_budget,
            max_epochs_total=max_epochs_total,
            patience=patience,
            export=export,
        ).request()
        if dry_run:
            dry_run_request(request, samples, reporter)
        else:
            code = run_request(request, reporter).code
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(tune)
