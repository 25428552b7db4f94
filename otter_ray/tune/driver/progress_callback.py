"""Follow a running study: what Tune reports becomes the study's state, and events for the reporters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from ray.tune import Callback
from ray.tune.experiment import Trial

from otter_ray.study.crash_report import describe_death
from otter_ray.study.layout import StudyFolder
from otter_ray.study.trials import read_record
from otter_ray.tune.cluster.planner import gpu_share_advice
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.display.study_state import StudyState
from otter_ray.tune.messages import FailureKind, TrialAssignment, TrialFailure, is_last, read_report
from otter_ray.tune.ray_compat import NotPickled
from otter_ray.tune.search.retry_policy import Decision, FailedAttempt, FailureHistory, RetryPolicy

logger = logging.getLogger(__name__)


class ProgressCallback(NotPickled, Callback):  # type: ignore[misc]
    """Keep a study's state, and pass each event on to the reporters.

    Args:
        study: the truth about the trials; a trial's end is written to it before callbacks are called.
        state: of the study, which is updated here.
        *reporters: that show it.
        folder: of the study, where trials whose process dies leave a report; None for a study without one.
    """

    def __init__(
        self,
        study: optuna.Study,
        state: StudyState,
        *reporters: ProgressReporter,
        folder: StudyFolder | None = None,
    ) -> None:
        self.study, self.state, self.reporters, self.folder = study, state, list(reporters), folder
        self._has_advised = False

    def on_trial_start(self, trial: Trial, **info: Any) -> None:
        """Note that a trial has its slot, for the first time or again."""
        assignment = TrialAssignment.from_tune(trial.config)
        # Trials that were not trained because of a constraint have numbers as well.
        for untrained in range(len(self.state.states), assignment.number):
            self.state.ended_as(read_record(self.study, untrained))
        self.state.began(assignment.number, assignment.values)
        self._notify("began", trial, base=assignment.is_base, values=assignment.values)

    def on_trial_result(self, trial: Trial, result: Mapping[str, Any], **info: Any) -> None:
        """Note an epoch of a trial, or its failure."""
        report = read_report(result)
        if isinstance(report, TrialFailure):
            self._report_failure(trial, report, goes_on=not is_last(result))
        # A trial that continues after its node died begins with what it reported last.
        elif report and self.state.epoch_done(TrialAssignment.from_tune(trial.config).number, report):
            best = self.state.best
            self._notify(
                "epoch",
                trial,
                epoch=report.epoch,
                epochs=self.state.max_epochs,
                value=report.value,
                best={"trial": best.number, "value": best.value} if best else None,
                stopped=is_last(result) and report.epoch < self.state.max_epochs,
            )

    def on_trial_recover(self, trial: Trial, **info: Any) -> None:
        """Report that a trial's process or node died, and that Tune starts it again."""
        self._report_failure(trial, self._death(trial), goes_on=True)

    def on_trial_error(self, trial: Trial, **info: Any) -> None:
        """Report that a trial's process died and Tune does not start it again.

        If it died before the trial began, the searcher hands the trial out again.
        """
        policy = RetryPolicy(self.state.options.retries)
        before = FailureHistory(process_deaths=trial.num_failures - 1)
        death = self._death(trial)
        goes_on = policy.decide(FailedAttempt(death), before) is Decision.RETRY
        self._report_failure(trial, death, goes_on)
        self.on_trial_complete(trial)

    def on_trial_complete(self, trial: Trial, **info: Any) -> None:
        """Note that a trial ended, was stopped or was interrupted.

        The first one that trained on a GPU shows how many trials could share it.
        """
        number = TrialAssignment.from_tune(trial.config).number
        running = self.state.running.get(number)
        row = read_record(self.study, number)
        self.state.ended_as(row)
        self._notify(
            "ended",
            trial,
            state=row.state,
            epochs=row.epochs,
            value=row.value,
            best_epoch=row.best_epoch,
            seconds=row.seconds,
            error=row.error,
            log=self.state.names.log(number),
        )
        if running and running.gpu and not self._has_advised:
            self._has_advised = True
            if advice := gpu_share_advice(number, running.gpu.peak, running.gpu.total, self.state.plan):
                logger.info(advice)

    def on_step_end(self, **info: Any) -> None:
        """Let the reporters draw: Tune calls it some ten times a second."""
        self._show(lambda reporter: reporter.draw(self.state))

    def _death(self, trial: Trial) -> TrialFailure:
        number = TrialAssignment.from_tune(trial.config).number
        error = describe_death(self.folder, number, "its process died")
        return TrialFailure(error, FailureKind.PROCESS_DIED)

    def _report_failure(self, trial: Trial, failure: TrialFailure, goes_on: bool) -> None:
        log = self.state.names.log(TrialAssignment.from_tune(trial.config).number)
        self._notify("error", trial, error=failure.error, log=log, goes_on=goes_on)

    def _notify(self, kind: str, trial: Trial, **facts: Any) -> None:
        assignment = TrialAssignment.from_tune(trial.config)
        name = "base" if assignment.is_base else self.state.names.trial(assignment.number)
        facts |= {"trial": assignment.number, "name": name}
        self._show(lambda reporter: reporter.event(kind, self.state, **facts))

    def _show(self, show: Callable[[ProgressReporter], None]) -> None:
        """Let every reporter show something. One that fails is not asked again, and the study continues."""
        for reporter in [*self.reporters]:
            try:
                show(reporter)
            except Exception as exc:  # whatever it is, nothing that is only shown may cost a study
                self.reporters.remove(reporter)
                name = type(reporter).__name__
                logger.warning(f"{name} failed and shows nothing any more: {type(exc).__name__}: {exc}")
