"""`python -m otter_ray.studies [FOLDER]`: the studies of a folder, in one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otter_ray.cli import cli_errors
from otter_ray.console import plain_console

if TYPE_CHECKING:
    from otter_ray.studies.listing import StudyEntry, Unreadable


def studies(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to look for studies in.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each study.")] = False,
) -> None:
    """List the studies below a folder: what each has come to, and where its model is.

    A study is running if a process holds it, and finished if all its trials have ended. Otherwise it is
    interrupted, and tune --resume runs what is left. Nothing is written. After the table each folder that
    cannot be read is named in one line.
    """
    with cli_errors():
        from otter_ray.config.user_paths import user_path
        from otter_ray.studies.listing import studies_below

        root = user_path(folder, "FOLDER")
        found = studies_below(root)
        if not as_json:
            _print_table(root, [*found])
            return
        for entry in found:
            typer.echo(json.dumps(entry.to_dict()))


def _print_table(root: Path, found: Sequence[StudyEntry | Unreadable]) -> None:
    from otter_ray.formatting import fixed
    from otter_ray.report.tables import Name, add_row, new_table
    from otter_ray.studies.listing import StudyEntry

    console = plain_console()
    entries = [entry for entry in found if isinstance(entry, StudyEntry)]
    table = new_table("study", "state", "trials", "best", "metric", "changed", "onnx")
    for entry in entries:
        name = entry.folder.relative_to(root) if entry.folder != root else entry.folder
        add_row(
            table,
            Name(str(name)),
            entry.state.value,
            f"{entry.trials}/{entry.asked}",
            fixed(entry.value),
            f"{entry.metric} ({entry.mode})",
            f"{entry.changed:%Y-%m-%d %H:%M}" if entry.changed else "-",
            entry.onnx.name if entry.onnx else "-",
        )
    console.print(table if entries else f"no studies in {root}")
    for other in found:
        if not isinstance(other, StudyEntry):
            console.print(f"{other.folder}: unreadable: {other.error}")


if __name__ == "__main__":
    typer.run(studies)
