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
        import optuna

        from otter_ray.report.rows import open_journal, read_rows
        from otter_ray.report.tables import outcome_lines, trials_table

        loaded = optuna.load_study(study_name=None, storage=open_journal(journal))
        metric = loaded.user_attrs["metric"]
        mode = "max" if loaded.direction == optuna.study.StudyDirection.MAXIMIZE else "min"
        rows = read_rows(loaded)
        console = plain_console()
        console.print(trials_table(rows, metric, mode))
        for line in outcome_lines(rows, metric, mode):
            console.print(line)


if __name__ == "__main__":
    typer.run(report)
