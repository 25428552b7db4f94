"""Print a study's results: the same while it runs, at its end, and afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from rich.console import RenderableType

from otter_ray.console import notice
from otter_ray.report.finalists_table import print_finals
from otter_ray.report.tables import outcome_lines, trials_table
from otter_ray.study.finalists import Finalist, rank_with_finals, winner_of
from otter_ray.study.schema import METRIC
from otter_ray.study.trials import TrialRecord, direction_of, objectives_of

logger = logging.getLogger(__name__)


def print_study(
    study: optuna.Study,
    rows: Sequence[TrialRecord],
    finalists: Sequence[Finalist],
    exported: Mapping[str, Any] | None,
    show: Callable[[RenderableType], object],
) -> None:
    """Print the trials, base next to winner, and the finalists.

    Args:
        study: The Optuna study.
        rows: Its trials.
        finalists: Its finalists, if it has any.
        exported: The JSON of the winner's ONNX file, if there is one: it holds intervals.
        show: Prints a table.
    """
    metric, direction = study.user_attrs[METRIC], direction_of(study)
    winner = winner_of(study, rank_with_finals(rows, direction, finalists), exported)
    won = [winner] if winner else []
    show(trials_table(rows, won, metric, direction, objectives_of(study)))
    for line in outcome_lines(rows, metric, direction, exported, has_finals=bool(finalists)):
        notice(logger, line)
    print_finals(show, finalists, metric, direction)
