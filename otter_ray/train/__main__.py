"""`python -m otter_ray.train CFG`: one run, without Ray."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from otter_ray.checkpoints import last_checkpoint_of
from otter_ray.cli import ConfigName, Sets, cli_errors
from otter_ray.console import log_to_console, plain_console
from otter_ray.direction import Direction
from otter_ray.errors import ConfigError, Problem
from otter_ray.user_folders import use_sound_folders

if TYPE_CHECKING:
    from otter_ray.train.tracking.epoch_report import EpochReport

logger = logging.getLogger("otter_ray.train")  # __name__ is another with `python -m`


def train(
    config: ConfigName,
    sets: Sets = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Folder of the run. \\[default: runs/CONFIG/DATE-TIME]")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric that decides which epoch is best. \\[default: the model's first]"),
    ] = None,
    mode: Annotated[
        Literal["max", "min"], typer.Option(help="Whether its largest or smallest value is best.")
    ] = "max",
    cpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads to use. To reproduce a trial exactly, give its cpus_per_worker. "
            "\\[default: all]",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Resume from the folder's last checkpoint.")] = False,
) -> None:
    """Train one config and keep its best and last checkpoint.

    Examples:

      python -m otter_ray.train demo --set trainer.max_epochs=2

      torchrun --nproc-per-node 4 -m otter_ray.train my_config --folder runs/four_gpus

    The run's folder holds config.yaml, checkpoints/best.ckpt and checkpoints/last.ckpt, pictures of each
    epoch in preview/ (unless common.preview is false), and TensorBoard events.
    To export the best epoch: python -m otter_ray.export FOLDER
    """
    with cli_errors(), log_to_console(plain_console()):
        use_sound_folders()
        from otter_ray.config import load_config
        from otter_ray.config.user_paths import user_path

        loaded = load_config(config, sets or [])
        # Only now: a mistake in the config is reported without waiting for torch.
        if os.environ.get("RANK", "0") == "0":  # torchrun's
            logger.info(f"{loaded.name}: loading torch")
        from otter_ray.train.checks.validation import check_config
        from otter_ray.train.distributed import global_rank, torchrun_launcher, torchrun_world_size
        from otter_ray.train.model.declared_metrics import first_score
        from otter_ray.train.run_options import RunOptions
        from otter_ray.train.trainer import run_training

        if torchrun_world_size() > 1 and folder is None:
            message = f"is not given, but {torchrun_world_size()} processes need the same one. Name it."
            raise ConfigError([Problem("--folder", message)])
        check_config(loaded, metric, starts=not resume)
        folder = (
            user_path(folder, "--folder")
            if folder
            else Path("runs") / loaded.name / datetime.now().strftime("%Y%m%d-%H%M%S")
        )
        last = last_checkpoint_of(folder)
        best = run_training(
            loaded,
            folder,
            _print_epoch,
            RunOptions(
                metric=metric or first_score(loaded),
                direction=Direction(mode),
                cpus=cpus,
                checkpoint=last if resume else None,
                launcher=torchrun_launcher(),
            ),
        )
        if global_rank() == 0:
            typer.echo(f"best checkpoint: {best}")


def _print_epoch(report: EpochReport) -> None:
    from tqdm import tqdm

    from otter_ray.train.distributed import global_rank

    if global_rank() > 0:
        return
    logged = {name: value for name, value in report.metrics.items() if not name.endswith(("_step", "_epoch"))}
    text = ", ".join(f"{name} {value:.4g}" for name, value in logged.items())
    # tqdm prints it above a progress bar.
    tqdm.write(f"epoch {report.epoch}: {text} ({report.seconds:.0f} s)")


if __name__ == "__main__":
    typer.run(train)
