"""`python -m otter_ray.report STUDY`: a study, running or done, as a table and as `report.html`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from otter_ray.cli import honest_exit, plain_console
from otter_ray.errors import StudyError, is_full

if TYPE_CHECKING:
    from rich.console import Console

    from otter_ray.report.story import Story

T = TypeVar("T")


def report(
    studies: Annotated[
        list[Path],
        typer.Argument(metavar="STUDY [OTHER ...]", help="A study's folder, runs/CONFIG/STUDY; or several."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="The HTML file. Default: STUDY/report.html; of several studies compare.html, here."
        ),
    ] = None,
) -> None:
    """Print a study's trials, best first, and draw report.html; or compare several studies.

    Works while they run, too. The file needs no network and nothing beside it.
    """
    with honest_exit():
        stories = [open_story(study) for study in studies]
        console = plain_console()
        if len(stories) == 1:
            _one(console, stories[0], output)
        else:
            _several(console, stories, output)


def open_story(folder: Path) -> Story:
    """The study in a folder. Raises StudyError where there is none."""
    journal = folder / "study.journal"
    if not journal.is_file():
        raise StudyError(f"{folder} holds no study.journal. Give a study's folder: runs/CONFIG/STUDY.")
    from otter_ray.report.rows import newest_study, open_journal
    from otter_ray.report.story import Story

    loaded = newest_study(open_journal(journal))
    if loaded is None:
        raise StudyError(f"{journal} holds no study yet. Wait for its first trial.")
    return Story(loaded, folder)


def _one(console: Console, story: Story, output: Path | None) -> None:
    from otter_ray.figures import announcement
    from otter_ray.report.page import print_page
    from otter_ray.report.render import REPORT, write_report

    print_page(console, story.study, story.folder, story.rows, story.exported)
    if story.exported and (test := story.exported["gate"].get("test")):
        console.print(announcement(test, story.metric))
    path = output or story.folder / REPORT
    written(path, lambda: write_report(story, path))
    console.print(f"report: {path}")


def _several(console: Console, stories: list[Story], output: Path | None) -> None:
    from otter_ray.report.compare import COMPARISON, write_comparison

    path = output or Path(COMPARISON)
    console.print(written(path, lambda: write_comparison(stories, path)))
    console.print(f"comparison: {path}")


def written(path: Path, write: Callable[[], T]) -> T:
    """What `write` gives. Raises StudyError where `path` cannot be written."""
    try:
        return write()
    except OSError as exc:
        if is_full(exc):
            raise
        raise StudyError(
            f"{path} cannot be written: {exc.strerror or exc}. Give another file with --output."
        ) from exc


if __name__ == "__main__":
    typer.run(report)
