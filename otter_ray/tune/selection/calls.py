"""What is done with torch or matplotlib after a study's trials have ended, for a driver without them.

The driver runs these through `otter_ray.isolation.call`. Importing this module imports neither.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from otter_ray.tune.context import StudyContext
from otter_ray.tune.selection.outcome import Outcome


def find_winner(context: StudyContext, finals: StudyContext | None) -> Outcome:
    """Export the best candidate that passes the gate.

    Args:
        context: of the study.
        finals: the finalists' runs, which decide, if all of them have ended.
    """
    from otter_ray.tune.selection.winner import export_winner

    outcome = export_winner(context, finals)
    if outcome.exported is None:
        return outcome
    # Its pictures are drawn; what would draw them again holds the model.
    return replace(outcome, exported=replace(outcome.exported, illustrate=dict))


def find_others(context: StudyContext, finals: StudyContext | None, outcome: Outcome) -> list[str]:
    """Export what was asked for in addition to the winner, and return what became of each in one line.

    Args:
        context: of the study.
        finals: the finalists' runs, if all of them have ended.
        outcome: of the winner's export.
    """
    from otter_ray.tune.selection.winner import export_others

    return export_others(context, finals, outcome)


def draw(context: StudyContext) -> Path:
    """Draw a study's report, and return its path.

    Args:
        context: of the study.
    """
    from otter_ray.report.html_report import REPORT, write_report
    from otter_ray.report.study_data import StudyData

    path = context.folder.path / REPORT
    write_report(StudyData(context.study, context.folder.path), path)
    return path
