"""A study from the request to the verified ONNX file: prepare, search, finalists, export, report.

Importing this module imports ray and optuna. What needs torch runs in forks (`otter_ray.isolation.call`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otter_ray.study.initial_trials import InitialTrials
from otter_ray.study.opening import study_lock
from otter_ray.study.trials import read_records
from otter_ray.tune.cluster.autoscaler import cluster_capacity
from otter_ray.tune.cluster.planner import log_plan, plan_for
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.display.study_state import summary
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.preparation import Machines, check, open_study_folder, prepare, prepare_run_loggers
from otter_ray.tune.request import StopCriteria, StudyRequest
from otter_ray.tune.results import export_and_report
from otter_ray.tune.search.stopping import StopController, already_met
from otter_ray.tune.selection.finalists import finals_note, open_finals

# The facts of a plan that its event carries.
PLANNED = ("unit", "trials", "slots", "workers", "cpus", "gpus", "scheduler", "epochs", "epochs_expected")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How a command has ended.

    Attributes:
        folder: The study's.
        code: The exit code of the command.
    """

    folder: Path
    code: int


def launch(request: StudyRequest, session: RaySession, reporter: ProgressReporter) -> Ending:
    """Run a study, or what is left of it.

    Args:
        request: what is asked for.
        session: runs the trials; it is started if trials are to run, and stopped before the export.
        reporter: gets every event.

    Returns:
        Where the study is, and the exit code of the command.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed twice.
        OtterError: the request cannot be met, or something ended the search.
    """
    machines = Machines.of(request.address)
    request = check(request, machines)
    initial = InitialTrials(request.problem, request.warm_start, request.runs)
    if not request.resume:
        initial.load()
    folder, storage = open_study_folder(request)
    with study_lock(folder):
        context = prepare(request, folder, storage, initial, machines)
        options = context.problem.options
        reporter.event("study", folder=str(folder.path), metric=options.metric, mode=options.mode)
        trials = TrialStages(session, reporter, machines.autoscaler)
        finals, controller = trials.run(context, request.criteria)
        session.stop()
        code = export_and_report(context, finals, controller, reporter)
    reporter.event("end", code=code, **summary(context.study))
    return Ending(folder.path, code)


class TrialStages:
    """Run the stages of a study that have trials: the search, then its finalists.

    Args:
        session: runs the trials; it is started if there are any.
        reporter: gets every event.
        autoscaler: configuration of the cluster's; None without one.
    """

    def __init__(
        self, session: RaySession, reporter: ProgressReporter, autoscaler: Mapping[str, Any] | None = None
    ) -> None:
        self.session, self.reporter, self.autoscaler = session, reporter, autoscaler
        self._has_run = False

    def run(
        self, context: StudyContext, criteria: StopCriteria
    ) -> tuple[StudyContext | None, StopController | None]:
        """Run what is left of the search and, unless its end ends the command, of the finalists.

        Args:
            context: of the study.
            criteria: that end the search.

        Returns:
            The finalists' runs, if there are any, and what ended the last stage early, if anything did.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        try:
            controller = self.search(context, criteria)
            finals = None if controller and controller.ends_command else open_finals(context)
            if finals and finals.trials_left():
                last = self.finalists(finals, criteria, controller)
                controller = last if last.reason else controller
            return finals, controller
        except KeyboardInterrupt:
            logger.info(f"stopped at once; resume with: {context.resume_command}")
            context.keep()
            raise

    def search(self, context: StudyContext, criteria: StopCriteria) -> StopController | None:
        """Run the search's trials.

        Args:
            context: of the study.
            criteria: that end the search.

        Returns:
            What ended the search, or would have; None if all trials had ended before.
        """
        options = context.problem.options
        if not context.trials_left():
            logger.info(f"all {options.num_trials} trials are done; for more, raise --trials")
            return None
        if controller := already_met(context.study, criteria):
            logger.info(f"{controller.reason} already; for more, raise that limit")
            return controller
        return self._run(context, criteria, finals_note(options, context.config.trainer.max_epochs))

    def finalists(
        self, finals: StudyContext, criteria: StopCriteria, controller: StopController | None
    ) -> StopController:
        """Run the finalists. Of the search's limits only the time counts, and only what is left of it.

        Args:
            finals: the finalists' runs.
            criteria: that end the search.
            controller: of the search, if it ran.

        Returns:
            What ended the runs early, if it has a reason.
        """
        until = controller.until if controller else None
        seconds = criteria.seconds if until is None else until - time.monotonic()
        left = [finals.labels[row.number] for row in read_records(finals.study) if not row.has_ended]
        trials = dict.fromkeys(label.partition(" ")[0] for label in left)
        logger.info(f"the search is over; finalists: trials {', '.join(trials)}")
        return self._run(finals, StopCriteria(seconds), unit="run")

    def _run(
        self, context: StudyContext, criteria: StopCriteria, note: str = "", unit: str = "trial"
    ) -> StopController:
        self.session.start()
        if not self._has_run and self.session.dashboard_url:
            logger.info(f"dashboard: {self.session.dashboard_url}")
        self._has_run = True
        left = context.problem.with_trials(context.trials_left())
        plan = replace(plan_for(left, *cluster_capacity(self.autoscaler)), unit=unit)
        log_plan(plan, context.config, note)
        prepare_run_loggers(context)
        self.reporter.event("plan", **{name: getattr(plan, name) for name in PLANNED})
        return StudyTuner(context, plan, self.reporter, self.autoscaler, criteria).run()
