"""A study's trials, run by Ray Tune: the searcher, the scheduler and the callbacks, and the run itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from otter_ray.config.given import given_to
from otter_ray.study.naming import trial_name
from otter_ray.study.trials import read_records
from otter_ray.tune.cluster.concurrency import ConcurrencyLimiter
from otter_ray.tune.cluster.planner import Plan
from otter_ray.tune.constraints import violations
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.prometheus import PrometheusReporter
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.display.study_state import StudyState
from otter_ray.tune.driver.checkpoint_retention import CheckpointSweeper
from otter_ray.tune.driver.interrupts import TuneStopper, handle_interrupts
from otter_ray.tune.driver.journal_upload import JournalUploader
from otter_ray.tune.driver.progress_callback import ProgressCallback
from otter_ray.tune.driver.worker_group_cleanup import WorkerGroupCleanup
from otter_ray.tune.messages import TrialAssignment
from otter_ray.tune.ray_compat import ascii_name, pickled_by_value, slot_environment
from otter_ray.tune.request import StopCriteria
from otter_ray.tune.search.schedulers import build_scheduler
from otter_ray.tune.search.searcher import OptunaSearcher
from otter_ray.tune.search.stopping import StopController
from otter_ray.tune.worker.setup import TrialSetup
from otter_ray.tune.worker.trainable import run_trial


class StudyTuner:
    """Run a study's trials on the connected Ray, as many at once as the nodes hold.

    Args:
        context: the study.
        plan: of the trials that are to run.
        reporter: shows the study while it runs.
        autoscaler: its configuration, or None for none.
        criteria: end the search before all trials have ended.

    Attributes:
        searcher: gives Tune its trials.
        scheduler: stops trials early.
        callbacks: what Tune calls with each event, in this order.
        stop_controller: decides when the search ends, and knows why it did.
    """

    def __init__(
        self,
        context: StudyContext,
        plan: Plan,
        reporter: ProgressReporter,
        autoscaler: Mapping[str, Any] | None = None,
        criteria: StopCriteria | None = None,
    ) -> None:
        self.context, self.plan, self.reporter = context, plan, reporter
        self._model_stats = context.model_stats
        self.stop_controller = StopController(context.study, criteria, prefix=context.place)
        self.searcher = OptunaSearcher(
            context.study,
            context.problem,
            self.stop_controller,
            ConcurrencyLimiter(plan, autoscaler),
            self._model_stats,
            context.folder,
        )
        self.scheduler = build_scheduler(
            context.problem.options, self.searcher, context.config.trainer.max_epochs, context.is_kept
        )
        self._stopper = TuneStopper(self.stop_controller)
        self._sweeper = CheckpointSweeper(
            context.study,
            context.folder,
            context.storage,
            context.problem.options,
            keep=max(context.problem.options.keep_best, context.exports.count),
        )
        self.callbacks = self._make_callbacks()

    def run(self, trainable: Any = None) -> StopController:
        """Run the trials.

        Args:
            trainable: what trains one trial, and accepts and reports what `run_trial` does; None for that.

        Returns:
            Why the search ended before all trials had, if it did.

        Raises:
            KeyboardInterrupt: Ctrl-C came twice.
        """
        scratch = tempfile.mkdtemp(prefix="otter_ray_")
        try:
            with (
                pickled_by_value(given_to(self.context.config).values()),
                handle_interrupts(self.stop_controller),
                self.reporter.running(),
                slot_environment(),
            ):
                tuner = tune.Tuner(
                    trainable or self._trainable(),
                    tune_config=self._tune_config(),
                    run_config=self._run_config(scratch),
                )
                tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._sweeper.finish(self.plan.slots)
        return self.stop_controller

    def _make_callbacks(self) -> list[Callback]:
        context = self.context
        reporters = self.reporter, PrometheusReporter()
        progress = ProgressCallback(context.study, self._initial_state(), *reporters, folder=context.folder)
        callbacks = [self._stopper, progress, WorkerGroupCleanup(), self._sweeper]
        if context.storage is not None:
            callbacks.append(JournalUploader(context.storage, context.folder.path))
        return callbacks

    def _initial_state(self) -> StudyState:
        context, options = self.context, self.context.problem.options
        return StudyState(
            options,
            context.config.trainer.max_epochs,
            self.plan,
            context.names,
            rows=read_records(context.study),
            base_counts=not violations(context.config, options, self._model_stats),
            until=self.stop_controller.until,
        )

    def _tune_config(self) -> tune.TuneConfig:
        return tune.TuneConfig(
            search_alg=self.searcher,
            scheduler=self.scheduler,
            # The searcher says when there are no more trials, because one may have to be handed out twice.
            num_samples=-1,
            # A slot that only waits for a worker group holds nothing warm, and ends with its group.
            reuse_actors=self.plan.workers == 1,
            # Tune pickles it: it must not hold on to this object.
            trial_name_creator=partial(_trial_name, self.context.config.name),
            trial_dirname_creator=lambda trial: trial.trial_id,
        )

    def _run_config(self, scratch: str) -> tune.RunConfig:
        return tune.RunConfig(
            name=self.context.folder.path.name,
            storage_path=scratch,
            verbose=0,
            callbacks=self.callbacks,
            stop=self._stopper,
            # The death of a node that was announced to go does not count.
            failure_config=tune.FailureConfig(max_failures=self.searcher.retry_policy.max_retries),
        )

    def _trainable(self) -> Any:
        """Return what trains the study's trials, with the resources of its slots."""
        setup = self._trial_setup()
        resources = tune.PlacementGroupFactory([setup.slot_resources])
        trainable = tune.with_resources(partial(run_trial, setup), resources)
        # The dashboard's list of actors shows it. It is the study's name, because a slot runs many trials.
        trainable.__name__ = ascii_name(self.context.names.title)
        return trainable

    def _trial_setup(self) -> TrialSetup:
        context, options, plan = self.context, self.context.problem.options, self.plan
        return TrialSetup(
            config=context.config.to_dict(),
            config_name=context.config.name,
            study=str(context.folder.path),
            mark=context.folder.write_mark(),
            storage=context.storage,
            metric=options.metric,
            rung_metric=options.scheduler_metric,
            keep_every=options.scheduler.options.checkpoint_interval,
            direction=options.direction,
            workers=plan.workers,
            cpus=plan.cpus,
            gpus=plan.gpus,
            cwd=os.getcwd(),
            searched=context.space.keys,
            given=given_to(context.config),
        )


def _trial_name(config_name: str, trial: Trial) -> str:
    assignment = TrialAssignment.from_tune(trial.config)
    return trial_name(config_name, assignment.number, assignment.values)
