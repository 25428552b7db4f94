"""`python -m otter_ray.export RUN_OR_CHECKPOINT`: an ONNX file, proven."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import Sets, honest_exit


def export(
    source: Annotated[
        Path, typer.Argument(help="A run's folder, a study's folder, or a checkpoint (.ckpt).")
    ],
    sets: Sets = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the ONNX file goes. Default: beside the source.")
    ] = None,
) -> None:
    """Export a trained model to ONNX and prove the file.

    The gate is always on: opset as asked, onnx.checker, batches of 1, 2 and 7 really run, onnxruntime
    equal to PyTorch, and the metric measured again on the ONNX file over the whole validation set.
    """
    with honest_exit():
        from otter_ray.config import Config
        from otter_ray.export.run import export_checkpoint, find_checkpoint, read_checkpoint

        checkpoint = find_checkpoint(source)
        config = None
        if sets:
            record = read_checkpoint(checkpoint)
            config = Config.from_dict(record["config"], record["config_name"]).with_sets(sets)
        exported = export_checkpoint(checkpoint, folder or checkpoint.parent, config)
        typer.echo(str(exported.gate))
        if announcement := exported.gate.announcement():
            typer.echo(announcement)
        typer.echo(f"onnx: {exported.onnx}")


if __name__ == "__main__":
    typer.run(export)
