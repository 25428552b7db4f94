"""`python -m otter_ray.train CFG`: one run, without Ray."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from otter_ray.cli import ConfigName, Sets, honest_exit
from otter_ray.errors import ConfigError, Problem

if TYPE_CHECKING:
    from otter_ray.train.report import EpochReport


def train(
    config: ConfigName,
    sets: Sets = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="The run's folder. Default: runs/CONFIG/DATE-TIME.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric that names the best epoch. Default: the model's first.")
    ] = None,
    mode: Annotated[Literal["max", "min"], typer.Option(help="Which value of the metric is best.")] = "max",
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Threads. Default: all. A trial's number repeats its digits.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's last checkpoint.")] = False,
) -> None:
    """Train one config and keep its best and last checkpoint.

    Examples:

      python -m otter_ray.train demo --set trainer.max_epochs=2

      torchrun --nproc-per-node 4 -m otter_ray.train my_config --folder runs/four_gpus

    The run's folder holds config.yaml, checkpoints/best.ckpt and last.ckpt, pictures of each epoch in
    preview/ (unless common.preview is false), and TensorBoard events.
    Export the best epoch with: python -m otter_ray.export FOLDER
    """
    with honest_exit():
        from otter_ray.config import load_config

        loaded = load_config(config, sets or [])
        # Only now: a mistake in the config is told without waiting for torch.
        from otter_ray.train.check import check_config, first_score
        from otter_ray.train.distributed import rank, torchrun_launcher, torchrun_ranks
        from otter_ray.train.run import run_training

        if torchrun_ranks() > 1 and folder is None:
            message = f"is not given, but {torchrun_ranks()} processes train into one folder. Name it."
            raise ConfigError([Problem("--folder", message)])
        check_config(loaded, metric, starts=not resume)
        folder = folder or Path("runs") / loaded.name / datetime.now().strftime("%Y%m%d-%H%M%S")
        last = folder / "checkpoints" / "last.ckpt"
        checkpoint = last if resume else None
        best = run_training(
            loaded,
            folder,
            _print_epoch,
            metric=metric or first_score(loaded),
            mode=mode,
            cpus=cpus,
            checkpoint=checkpoint,
            launcher=torchrun_launcher(),
        )
        if rank() == 0:
            typer.echo(f"best checkpoint: {best}")


def _print_epoch(report: EpochReport) -> None:
    from tqdm import tqdm

    from otter_ray.train.distributed import rank

    if rank() > 0:
        return
    shown = {name: value for name, value in report.metrics.items() if not name.endswith(("_step", "_epoch"))}
    text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    # tqdm's way of printing beside a progress bar.
    tqdm.write(f"epoch {report.epoch}: {text} ({report.seconds:.0f} s)")


if __name__ == "__main__":
    typer.run(train)
