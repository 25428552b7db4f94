"""`python -m otter_ray.report STUDY`: the table of a study, running or done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import honest_exit, plain_console
from otter_ray.errors import StudyError


def report(
    study: Annotated[Path, typer.Argument(help="A study's folder: runs/CONFIG/STUDY.")],
) -> None:
    """Print the trials of a study, best first. Works while it runs, too."""
    with honest_exit():
        journal = study / "study.journal"
        if not journal.is_file():
            raise StudyError(f"{study} holds no study.journal. Give a study's folder: runs/CONFIG/STUDY.")
        from otter_ray.figures import announcement
        from otter_ray.report.page import print_page
        from otter_ray.report.rows import METRIC, newest_study, open_journal, read_rows
        from otter_ray.report.tables import newest_export

        loaded = newest_study(open_journal(journal))
        if loaded is None:
            raise StudyError(f"{journal} holds no study yet. Wait for its first trial.")
        console, exported = plain_console(), newest_export(study)
        print_page(console, loaded, study, read_rows(loaded), exported)
        if exported and (test := exported["gate"].get("test")):
            console.print(announcement(test, loaded.user_attrs[METRIC]))


if __name__ == "__main__":
    typer.run(report)
