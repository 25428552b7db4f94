"""What a study came to: exported, printed, and drawn as a report."""

from __future__ import annotations

import logging

from otter_ray.cli import INTERRUPTED
from otter_ray.console import notice
from otter_ray.disk import disk_full_message
from otter_ray.errors import StudyError
from otter_ray.isolation import call
from otter_ray.report.tables import precisions_table, values_table
from otter_ray.report.terminal import print_study
from otter_ray.study.finalists import read_finalists
from otter_ray.study.layout import trial_checkpoints
from otter_ray.study.opening import base_config_of
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.search.stopping import StopController
from otter_ray.tune.selection.calls import draw, find_others, find_winner
from otter_ray.tune.selection.completion import complete
from otter_ray.tune.selection.outcome import Outcome

FAILED = 1
# The measurements of the gate that the event of an export carries.
GATE = ("metrics", "interval", "test")
logger = logging.getLogger(__name__)


def export_and_report(
    context: StudyContext,
    finals: StudyContext | None,
    controller: StopController | None,
    reporter: ProgressReporter,
) -> int:
    """Export the winner, if there is one, and what else was asked for, and report on the study.

    Args:
        context: of the study.
        finals: the finalists' runs, if there are any.
        controller: what ended the trials early, if anything did.
        reporter: shows tables, and gets the event of the export.

    Returns:
        The exit code of the command.

    Raises:
        StudyError: something other than the trials was at fault.
    """
    resume = context.resume_command
    if controller and controller.is_fault:
        raise StudyError(
            f"{_fault(context, controller)}. Finished work is kept. Fix that, then resume with: {resume}"
        )
    reason = controller.reason if controller else "stopped"
    if left := context.trials_left():
        notice(logger, f"{reason}; trials left: {left}; resume with: {resume}")
    if runs_left := finals.trials_left() if finals else 0:
        notice(logger, f"{reason}; runs of finalists left: {runs_left}; resume with: {resume}")
    is_interrupted = bool((left or runs_left) and controller and controller.is_interrupt)
    if is_interrupted and not context.has_winner():
        draw_report(context)
        return INTERRUPTED
    decisive = finals if not runs_left else None
    outcome = complete(context, call(find_winner, context, decisive))
    print_outcome(context, outcome, reporter)
    if context.exports.are_several:
        for line in call(find_others, context, decisive, outcome):
            notice(logger, line)
    context.keep()
    if is_interrupted:
        return INTERRUPTED
    return 0 if outcome.exported else FAILED


def print_outcome(context: StudyContext, outcome: Outcome, reporter: ProgressReporter) -> None:
    """Print the study's trials, its winner and what was verified of its model; draw the report.

    Args:
        context: of the study.
        outcome: of the export.
        reporter: shows tables, and gets the event of the export.
    """
    facts = outcome.exported.facts if outcome.exported else None
    direction = context.problem.options.direction
    finalists = read_finalists(context.study, context.folder.path, outcome.rows, direction)
    print_study(context.study, outcome.rows, finalists, facts, reporter.show)
    for line in outcome.rejected:
        notice(logger, line)
    if outcome.winner is None or outcome.exported is None or facts is None:
        draw_report(context)
        logger.error("no trial produced a model that passed the gate")
        return
    values = outcome.winner.values
    base = base_config_of(context.folder, outcome.winner.config, context.config)
    reporter.show(values_table(values, {key: base.get(key) for key in values if base.has(key)}))
    notice(logger, str(outcome.exported.gate))
    if announcement := outcome.exported.gate.announcement():
        notice(logger, announcement, style="bold")
    if precisions := precisions_table(facts):
        reporter.show(precisions)
    draw_report(context)
    earlier = " (exported before, from the same checkpoint)" if outcome.exported.is_earlier else ""
    notice(logger, f"onnx: {outcome.exported.onnx}{earlier}", style="bold")
    about = {key: facts[key] for key in ("trial", "base")} | {key: facts["gate"][key] for key in GATE}
    reporter.event(
        "exported",
        onnx=outcome.exported.onnx,
        json=outcome.exported.json,
        rejected=outcome.rejected,
        **about,
    )


def draw_report(context: StudyContext) -> None:
    """Draw `report.html`. If that fails, the study is no worse for it.

    Args:
        context: of the study.
    """
    try:
        notice(logger, f"report: {call(draw, context)}")
    except Exception as exc:
        logger.warning(f"report.html could not be drawn: {type(exc).__name__}: {exc}")


def _fault(context: StudyContext, controller: StopController) -> str:
    """Say what ended the study, and if the disk is full, how much is needed."""
    folder = context.folder.path
    return disk_full_message(folder, trial_checkpoints(folder)) if controller.is_full else controller.reason
