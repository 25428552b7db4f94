"""What a study came to, on a terminal: the same while it runs, at its end and afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from otter_ray.cli import tell
from otter_ray.report.finals import print_finals, rank_with_finals, read_finalists
from otter_ray.report.rows import METRIC, TrialRow, mode_of, objectives_of
from otter_ray.report.tables import outcome_lines, trials_table


def print_page(
    console: Console,
    study: optuna.Study,
    folder: Path,
    rows: Sequence[TrialRow],
    exported: Mapping[str, Any] | None,
) -> None:
    """The trials, base beside winner, and the finalists.

    Args:
        exported: the JSON of the winner's ONNX file, where there is one: it knows intervals.
    """
    metric, mode = study.user_attrs[METRIC], mode_of(study)
    finalists = read_finalists(study, folder, rows, mode)
    winner = rank_with_finals(rows, mode, finalists)[:1]
    console.print(trials_table(rows, winner, metric, mode, objectives_of(study)))
    for line in outcome_lines(rows, metric, mode, exported, has_finals=bool(finalists)):
        tell(console, line)
    print_finals(console, finalists, metric, mode)
