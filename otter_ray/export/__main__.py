"""`python -m otter_ray.export RUN_OR_CHECKPOINT`: an ONNX file, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from otter_ray.cli import Sets, cli_errors
from otter_ray.direction import Direction
from otter_ray.formatting import PRECISION_COLUMNS, precision_cells, printable
from otter_ray.user_folders import use_sound_folders

REFUSED = 1  # the exit code if a file that --quantize names is not handed out


def export(
    source: Annotated[
        Path, typer.Argument(help="A run's folder, a study's folder, or a checkpoint (.ckpt).")
    ],
    sets: Sets = None,
    project: Annotated[
        str | None,
        typer.Option(
            help="Project whose code the checkpoint may run; those that come with otter_ray may always. "
            "\\[default: that of configs/CONFIG.yaml in the current folder]"
        ),
    ] = None,
    quantize: Annotated[
        list[str] | None,
        typer.Option(
            help="Also make a file of this precision: fp16 or int8; may be given twice. "
            "\\[default: what the config's quantize section asks for]"
        ),
    ] = None,
    mode: Annotated[
        Literal["max", "min"] | None,
        typer.Option(
            help="Whether the metric's largest or smallest value is best, for files of lower precision. "
            "\\[default: what the checkpoint says]"
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder for the ONNX file. \\[default: the checkpoint's]"),
    ] = None,
) -> None:
    """Export a trained model to ONNX and verify the file.

    The gate is always on. It checks the opset, runs onnx.checker and batches of 1, 2 and 7, compares
    onnxruntime's outputs with PyTorch's, and measures the metric again on the ONNX file over the whole
    validation set.
    """
    with cli_errors():
        use_sound_folders()
        from otter_ray.config import project_here
        from otter_ray.config.user_paths import user_path
        from otter_ray.export.evaluation import config_of, read_run_checkpoint
        from otter_ray.export.exporter import export_checkpoint, find_checkpoint
        from otter_ray.export.precision.files import add_precisions
        from otter_ray.export.precision.request import asked_precisions, direction_of

        checkpoint = find_checkpoint(user_path(source, "RUN_OR_CHECKPOINT"))
        folder = folder and user_path(folder, "--folder")
        record = read_run_checkpoint(checkpoint)
        trusted = project or project_here(record["config_name"])
        config = config_of(record, checkpoint, trusted).with_sets(sets) if sets else None
        asked = asked_precisions(config or config_of(record, checkpoint, trusted), quantize or [])
        lower = asked if asked is not None and asked.wanted else None
        direction = direction_of(record, Direction(mode) if mode else None) if lower else None
        exported = export_checkpoint(checkpoint, folder or checkpoint.parent, config, project=trusted)
        typer.echo(printable(str(exported.gate)))
        if announcement := exported.gate.announcement():
            typer.echo(printable(announcement))
        refused = False
        if lower and direction:
            rows = add_precisions(
                exported.onnx,
                checkpoint,
                lower,
                direction,
                config,
                project=trusted,
                predictions=exported.predictions,
            )
            for cells in (PRECISION_COLUMNS, *map(precision_cells, rows)):
                typer.echo(printable(" | ".join(cells)))
            refused = any(row["reason"] for row in rows if row["precision"] in (quantize or []))
        typer.echo(f"onnx: {exported.onnx}")
        if refused:
            raise typer.Exit(REFUSED)


if __name__ == "__main__":
    typer.run(export)
