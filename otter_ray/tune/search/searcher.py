"""Ray Tune asks, Optuna answers: the searcher between the two.

Ray's own `OptunaSearch` reports a trial that ASHA stopped as COMPLETE with its last value. This one reports
it as PRUNED with its whole curve, writes every value to the journal as it comes, and gives Optuna the best
value over the epochs. The base config's own values are always the first trial.

An interrupted trial stays RUNNING in the journal. A later driver's searcher hands it out again before it asks
for new trials, with its number and its values. The trial continues from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from otter_ray.disk import is_disk_full
from otter_ray.errors import OtterError, StudyError
from otter_ray.redaction import safe_text
from otter_ray.space import SearchProblem
from otter_ray.study.crash_report import describe_death
from otter_ray.study.journal import batched_writes
from otter_ray.study.layout import StudyFolder
from otter_ray.study.optuna_compat import begin_trial, continue_trial, read_trial, report_value
from otter_ray.study.outcomes import counts, ended, tell_end
from otter_ray.study.schema import (
    BASE,
    CURVE,
    EPOCH,
    ERROR,
    HOST,
    INSTEAD_OF,
    ORIGIN,
    REPLACED,
    SECONDS,
    STOPPED,
    TRIAL,
    VALUES,
)
from otter_ray.tune.constraints import ModelStatsCache, infeasible_streak, record_feasibility
from otter_ray.tune.messages import (
    EpochResult,
    ParentCheckpoint,
    TrialAssignment,
    TrialFailure,
    TrialResources,
    is_last,
    read_report,
)
from otter_ray.tune.ray_compat import NotPickled
from otter_ray.tune.search.retry_policy import Decision, FailedAttempt, FailureHistory, RetryPolicy
from otter_ray.tune.search.stopping import StopController

PROJECT = "project"  # the key of a config that names code


class OptunaSearcher(NotPickled, Searcher):  # type: ignore[misc]
    """A Ray Tune searcher over an Optuna study.

    Ray withholds a trial's last result from the searcher when the scheduler stops the trial on it, so
    results come through the scheduler (`record`), which sees them all.

    Args:
        study: The truth about the trials.
        problem: What is searched, and around which config.
        stop_controller: Decides when the search is to end; None: not before all its trials have.
        concurrency_limit: Returns how many trials may run at once, asked before each; None: any number.
        model_stats: Statistics of the models, if objectives or constraints ask for them.
        folder: Of the study, where trials whose process dies leave a report; None for a study without one.

    Raises:
        StudyError: The journal's interrupted trials would run code that the user's config does not name.
    """

    def __init__(
        self,
        study: optuna.Study,
        problem: SearchProblem,
        stop_controller: StopController | None = None,
        concurrency_limit: Callable[[], int] | None = None,
        model_stats: ModelStatsCache | None = None,
        folder: StudyFolder | None = None,
    ) -> None:
        super().__init__(metric=problem.options.metric, mode=problem.options.mode)
        self.study, self.problem, self.folder = study, problem, folder
        self.concurrency_limit = concurrency_limit
        self.stop_controller = stop_controller or StopController(study)
        self.model_stats = model_stats or ModelStatsCache(problem.options.model_stats)
        self.retry_policy = RetryPolicy(problem.options.retries)
        self._infeasible_streak = ""
        self._interrupted = study.get_trials(states=[TrialState.RUNNING])
        self._refuse_other_projects()
        self._waiting = len(study.get_trials(states=[TrialState.WAITING]))
        self._ended_count = ended(study)
        self._running: dict[str, _Running] = {}

    def _refuse_other_projects(self) -> None:
        """Refuse a journal that would make a trial import code that the user's config does not name.

        Raises:
            StudyError: an interrupted trial changes the project, and the space does not search that.
        """
        for trial in self._interrupted:
            values = trial.user_attrs.get(VALUES) or {}
            if PROJECT in values and PROJECT not in self.problem.space.keys:
                raise StudyError(
                    f"trial {trial.number} of the journal runs the project {values[PROJECT]!r}, and the "
                    "config and the search space name no such project. Do not resume a study that you do not "
                    "trust."
                )

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's assignment.

        None while as many run as may: Ray asks again soon.
        """
        if self.stop_controller.reason:
            return Searcher.FINISHED
        if self.concurrency_limit is not None and len(self._running) >= self.concurrency_limit():
            return None
        try:
            with batched_writes(self.study):
                drawn = self._next_feasible()
        except OSError as exc:
            self._abort_unwritable(exc)
            return Searcher.FINISHED
        if drawn is None:
            # A running trial may yet have to be handed out again, and Ray never asks after FINISHED.
            if not self._running and self._infeasible_streak:
                self.stop_controller.request_stop(self._infeasible_streak)
            return None if self._running else Searcher.FINISHED
        trial, values = drawn
        self._running[trial_id] = _Running(trial, self._frozen(trial).last_step or 0)
        origin = trial.user_attrs.get(ORIGIN)
        parent = ParentCheckpoint(origin[TRIAL], origin[EPOCH]) if origin else None
        return TrialAssignment(trial.number, values, parent).to_tune()

    def _is_any_left(self) -> bool:
        """Tell whether there are trials to hand out: interrupted, waiting, or yet to be made."""
        return self._ended_count + len(self._running) < self.problem.options.num_trials

    def _next_feasible(self) -> tuple[Trial, dict[str, Any]] | None:
        """Return the next trial to train, with what it changes; None if there is none.

        Trials that violate a constraint are reported at once, for the sampler to learn, and do not count.
        """
        while self._is_any_left() and not self.stop_controller.reason:
            if self._infeasible_streak and not self._interrupted:
                return None
            trial = self._next_trial()
            values = self._values(trial)
            if self._is_to_be_trained(trial, values):
                return trial, values
        return None

    def _is_to_be_trained(self, trial: Trial, values: Mapping[str, Any]) -> bool:
        """Tell whether the trial is to be trained. If not, its end is reported."""
        options = self.problem.options
        if not options.model_stats:
            return True
        try:
            config = self.problem.config.with_values(values)
            if record_feasibility(trial, config, options, self.model_stats) or values == BASE:
                return True
        except OtterError as exc:
            trial.set_user_attr(ERROR, safe_text(f"its model cannot be measured: {exc}"))
            self._report_end(trial, is_done=False)
            return False
        # No values: samplers read them as results, and there are none. GP and NSGA-II look at COMPLETE trials
        # only, and learn the constraints from those.
        self.study.tell(trial.number, state=TrialState.PRUNED)
        self._infeasible_streak = infeasible_streak(self.study, options.bounds)
        return False

    def _next_trial(self) -> Trial:
        if self._interrupted:
            return continue_trial(self.study, self._interrupted.pop(0))
        if self._waiting:
            self._waiting -= 1
            return self.study.ask()
        return begin_trial(self.study)

    def _values(self, trial: Trial) -> dict[str, Any]:
        """Return what the trial changes, after drawing those parameters that a dead driver has not drawn."""
        known: dict[str, Any] | None = trial.user_attrs.get(VALUES)
        if known is not None and (known == BASE or ORIGIN in trial.user_attrs):
            # It runs with these values; Optuna learns as many of them as the space can express.
            config = self.problem.config.with_values(known)
            self.problem.space.suggest(trial, config, names=self.problem.space.base_values(config))
        if known is None:
            known = self.problem.suggest(trial)
            trial.set_user_attr(VALUES, known)
        return known

    def record(self, trial_id: str, result: EpochResult, is_pruned: bool = False) -> None:
        """Write one epoch of a running trial to the journal; a result that comes again is ignored.

        The epoch's value is written last. When it is there, all of the epoch is known, the scheduler's
        decision included.

        Args:
            trial_id: Tune's.
            result: Of the epoch.
            is_pruned: Whether the scheduler stops the trial on it.
        """
        running = self._running[trial_id]
        if result.epoch <= running.epoch:
            return
        try:
            with batched_writes(self.study):
                running.trial.set_user_attr(
                    CURVE + str(result.epoch), {EPOCH: result.epoch, **result.metrics}
                )
                if is_pruned or running.trial.user_attrs.get(STOPPED) == result.epoch:
                    # A driver that died between this line and the next may have decided otherwise.
                    running.trial.set_user_attr(STOPPED, result.epoch if is_pruned else None)
                report_value(self.study, running.trial, result.epoch, float(result.value))
        except OSError as exc:
            # Without this epoch the trial has not ended, whatever was decided on it.
            self.mark_interrupted(trial_id)
            self._abort_unwritable(exc)
            return
        running.epoch = result.epoch
        self.stop_controller.epoch_done()

    def should_retry(self, trial_id: str, failure: TrialFailure, process_deaths: int) -> bool:
        """Tell whether a trial that reports a failure is to try again from its last checkpoint, in its slot.

        Args:
            trial_id: Tune's.
            failure: As it was reported.
            process_deaths: How often the trial's process has died.
        """
        running = self._running[trial_id]
        attempt = FailedAttempt(failure, running.epoch)
        history = FailureHistory(tuple(running.failed_attempts), process_deaths)
        decision = self.retry_policy.decide(attempt, history)
        if decision is Decision.ABORT_STUDY:
            self.stop_controller.abort(failure.error)
        if self.stop_controller.reason:
            self.mark_interrupted(trial_id)
            return False
        running.failed_attempts.append(attempt)
        return decision is Decision.RETRY

    def replace(self, trial_id: str, params: Mapping[str, Any], notes: Mapping[str, Any]) -> bool:
        """Queue a trial with these parameters, which takes the place of one that is about to be stopped.

        The new trial is among the next to be handed out. It counts instead of the old one.

        Args:
            trial_id: Tune's, of the trial that is stopped.
            params: Of the new trial, by name.
            notes: User attributes of the new trial, `ORIGIN` among them.

        Returns:
            Whether that could be written to the journal.
        """
        try:
            self._running[trial_id].trial.set_user_attr(REPLACED, notes[ORIGIN][EPOCH])
            self.study.enqueue_trial(dict(params), user_attrs=dict(notes))
            self._waiting += 1
        except OSError as exc:
            self.mark_interrupted(trial_id)
            self._abort_unwritable(exc)
            return False
        return True

    def has_successor(self, number: int, epoch: int) -> bool:
        """Tell whether a trial is queued that takes this one's place after this epoch."""
        origins = (trial.user_attrs.get(ORIGIN) for trial in self.study.get_trials(deepcopy=False))
        return any(o and (o[INSTEAD_OF], o[EPOCH]) == (number, epoch) for o in origins)

    def mark_interrupted(self, trial_id: str) -> None:
        """Note that the trial is stopped without having ended: a later driver continues it."""
        self._running[trial_id].is_interrupted = True

    def requeue(self, trial_id: str) -> None:
        """Suggest a trial that never began again, as another one of Tune's."""
        self.mark_interrupted(trial_id)
        self._interrupted.append(self._frozen(self._running[trial_id].trial))

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Do nothing: see `record`."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Report to Optuna how the trial ended, unless it was interrupted."""
        running, report = self._running.pop(trial_id), read_report(result)
        if running.is_interrupted or not (error or is_last(result)):
            return
        resources = report.resources if report else TrialResources()
        try:
            with batched_writes(self.study):
                for name, used in ((SECONDS, resources.seconds), (HOST, resources.host)):
                    if used is not None:
                        running.trial.set_user_attr(name, used)
                if failure := self._failure(running, report, error):
                    running.trial.set_user_attr(ERROR, failure)
                self._report_end(running.trial, is_done=True)
        except OSError as exc:
            self._abort_unwritable(exc)

    def _failure(self, running: _Running, report: EpochResult | TrialFailure | None, error: bool) -> str:
        """Return why the trial counts as failed; empty if it does not."""
        if isinstance(report, TrialFailure):
            return report.error
        if error:
            unknown = "its worker process failed or died; its log.txt may say more"
            return describe_death(self.folder, running.trial.number, unknown)
        return "" if running.epoch else "it ended without a single validated epoch"

    def _report_end(self, trial: Trial, is_done: bool) -> None:
        tell_end(self.study, self._frozen(trial), is_done)
        self._ended_count += counts(self._frozen(trial))
        self.stop_controller.trial_ended(trial.number)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return read_trial(self.study, trial.number)

    def _abort_unwritable(self, exc: OSError) -> None:
        """End the search: what is not in the journal did not happen, and a later driver repeats it."""
        self.stop_controller.abort(f"the study's journal cannot be written: {exc}", is_disk_full(exc))


@dataclass
class _Running:
    """A trial that Ray has.

    Attributes:
        epoch: The last one in the journal; 0: none.
        failed_attempts: Those whose failure it reported.
    """

    trial: Trial
    epoch: int
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    is_interrupted: bool = False
