"""`python -m otter_ray.report STUDY`: a study, running or done, as a table and as `report.html`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from otter_ray.cli import cli_errors
from otter_ray.console import log_to_console, plain_console
from otter_ray.disk import is_disk_full
from otter_ray.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from otter_ray.report.study_data import StudyData

T = TypeVar("T")
logger = logging.getLogger(__name__)


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY [OTHER ...]",
            help="Folder of a study, runs/CONFIG/STUDY, or of several studies to compare.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="HTML file to write. \\[default: STUDY/report.html; for several studies ./compare.html]"
        ),
    ] = None,
) -> None:
    """Print a study's trials, best first, and draw report.html; or compare several studies.

    Works while they run. The file needs no network and no other file.
    """
    console = plain_console()
    with cli_errors(), log_to_console(console):
        from otter_ray.config.user_paths import user_path
        from otter_ray.study.layout import require_journal

        folders = [user_path(folder, "STUDY") for folder in folders]
        output = output and user_path(output, "--output")
        for folder in folders:
            require_journal(folder)
        # Only now: a wrong folder is reported without waiting for optuna.
        from otter_ray.report.study_data import StudyData

        studies = [StudyData.open(folder) for folder in folders]
        if len(studies) == 1:
            _one(console, studies[0], output)
        else:
            _several(console, studies, output)


def _one(console: Console, data: StudyData, output: Path | None) -> None:
    from otter_ray.formatting import announcement
    from otter_ray.report.html_report import REPORT, write_report
    from otter_ray.report.terminal import print_study

    print_study(data.study, data.rows, data.finalists, data.exported, console.print)
    for error in data.unreadable():
        logger.warning(error)
    if data.exported and (test := data.exported["gate"].get("test")):
        console.print(announcement(test, data.metric))
    path = output or data.folder / REPORT
    write_or_explain(path, lambda: write_report(data, path))
    console.print(f"report: {path}")


def _several(console: Console, studies: list[StudyData], output: Path | None) -> None:
    from otter_ray.report.compare import COMPARISON, write_comparison

    path = output or Path(COMPARISON)
    console.print(write_or_explain(path, lambda: write_comparison(studies, path)))
    console.print(f"comparison: {path}")


def write_or_explain(path: Path, write: Callable[[], T]) -> T:
    """Return what `write` returns.

    Raises:
        StudyError: `path` cannot be written.
    """
    try:
        return write()
    except OSError as exc:
        if is_disk_full(exc):
            raise
        raise StudyError(
            f"{path} cannot be written: {exc.strerror or exc}. Give another file with --output."
        ) from exc


if __name__ == "__main__":
    typer.run(report)
