"""Ray Tune's schedulers, by name, with every result passed on to the searcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, cast

import numpy as np
import optuna
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from otter_ray.space import StudyOptions
from otter_ray.space.scheduler_options import PBT
from otter_ray.study.schema import CURVE, EPOCH, INSTEAD_OF, ORIGIN, TRIAL, VALUES
from otter_ray.tune.messages import EpochResult, TrialAssignment, TrialFailure, read_report
from otter_ray.tune.ray_compat import forget_median_stops, last_median_result
from otter_ray.tune.search.pbt import Population
from otter_ray.tune.search.searcher import OptunaSearcher

# Ray's schedulers are told these two of a result, whatever the study's metric is called.
TIME, VALUE = "epoch", "value"
CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


@dataclass(frozen=True)
class Numbered:
    """A trial as Ray's schedulers see it: by its number, which a later driver knows as well."""

    trial_id: int


def _numbered(trial: Trial) -> Numbered:
    return Numbered(TrialAssignment.from_tune(trial.config).number)


class RecordingMixin:
    """Record results, and let the base config's trial run to its end.

    Every gain is measured against the base. A base whose curve was cut off at the first rung would flatter
    the winner. Its values still count for the other trials.

    Args:
        searcher: Is given every result.
        max_epochs: Of a trial.
        options: Those of Ray's class.
    """

    def __init__(self, searcher: OptunaSearcher, max_epochs: int, **options: Any) -> None:
        super().__init__(**options)
        self.searcher, self.max_epochs = searcher, max_epochs
        self.study_options = searcher.problem.options

    def replay(self, study: optuna.Study) -> None:
        """Tell Ray's scheduler what the study's trials have done so far, interrupted ones included."""
        for trial in study.get_trials(deepcopy=False):
            numbered = Numbered(trial.number)
            self.add(numbered)
            for epoch, value in sorted(trial.intermediate_values.items()):
                self.decide(numbered, EpochResult(epoch, value, trial.user_attrs[CURVE + str(epoch)]))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Tell Ray's scheduler of a trial that Tune has got."""
        self.add(_numbered(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Record an epoch or a failure, and say whether the trial goes on."""
        report = read_report(result)
        if isinstance(report, TrialFailure):
            again = self.searcher.should_retry(trial.trial_id, report, trial.num_failures)
            return CONTINUE if again else STOP
        if report is None:
            return CONTINUE
        decision = self.decide(_numbered(trial), report)
        # After the last epoch a trial ends by itself: ended by Tune, its Train run would be an aborted one.
        is_done = report.epoch >= self.max_epochs
        is_pruned = decision == STOP and not is_done and not TrialAssignment.from_tune(trial.config).is_base
        is_pruned = is_pruned and self.may_stop(trial, report)
        self.searcher.record(trial.trial_id, report, is_pruned)
        if self.searcher.stop_controller.reason and not (is_done or is_pruned):
            self.searcher.mark_interrupted(trial.trial_id)
            return STOP
        return STOP if is_pruned else CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """Tell Ray's scheduler that a trial has ended."""
        report = read_report(result)
        seen = self._as_ray_sees(report) if isinstance(report, EpochResult) else {}
        super().on_trial_complete(tune_controller, _numbered(trial), seen)  # type: ignore[misc]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Queue the trial again if it never began.

        A warm slot that died between two trials takes the second one with it. Tune does not retry that one.
        """
        if trial.status == Trial.PENDING:
            self.searcher.requeue(trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Tell Ray's scheduler that Tune has dropped a trial."""
        super().on_trial_remove(tune_controller, _numbered(trial))  # type: ignore[misc]

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Return None: Tune then gives a free slot to the trial that has none in sight.

        Ray's choice is the trial that waits longest, and for it Tune gives up the slot that it has begun to
        start. If trials end faster than a slot starts, a node that joins would never be used.
        """

    def add(self, trial: Numbered) -> None:
        """Tell Ray's scheduler of a trial."""
        super().on_trial_add(None, trial)  # type: ignore[misc]

    def may_stop(self, trial: Trial, result: EpochResult) -> bool:
        """Tell whether a trial may be stopped on this result; asked only before it is."""
        return True

    def decide(self, trial: Numbered, result: EpochResult) -> str:
        """Return what Ray's scheduler says."""
        return str(super().on_trial_result(None, trial, self._as_ray_sees(result)))  # type: ignore[misc]

    def compared_value(self, result: EpochResult) -> float:
        """Return the value by which the scheduler compares trials after an epoch."""
        metric = self.study_options.scheduler.metric
        return float(result.value if metric is None else result.metrics[metric])

    def _as_ray_sees(self, result: EpochResult) -> dict[str, float]:
        """Return a result with the two keys that Ray's schedulers are made for."""
        return {TIME: result.epoch, VALUE: self.compared_value(result)}


class RecordingASHA(RecordingMixin, ASHAScheduler):  # type: ignore[misc]
    """Ray's asynchronous successive halving: Li et al. 2020, arXiv 1810.05934."""


class RecordingHyperband(RecordingMixin, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Its form with several brackets, which Ray recommends over the synchronous HyperBand."""

    def add(self, trial: Numbered) -> None:
        """Derive the trial's bracket from its number: Ray draws it from numpy's global generator."""
        before = np.random.get_state()
        seed = [self.searcher.problem.config.common.seed, trial.trial_id]
        np.random.seed(np.random.SeedSequence(seed).generate_state(4))
        super().add(trial)
        np.random.set_state(before)


class RecordingMedian(RecordingMixin, MedianStoppingRule):  # type: ignore[misc]
    """Ray's median stopping rule: Golovin et al. 2017, Google Vizier."""

    def decide(self, trial: Numbered, result: EpochResult) -> str:
        """Decide as Ray does, once for each epoch, also about a trial that Ray would have stopped before."""
        if (last := last_median_result(self, trial)) and result.epoch <= last[TIME]:
            return CONTINUE
        decision = super().decide(trial, result)
        forget_median_stops(self)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """Do nothing: Ray would count the last epoch twice."""


class RecordingFIFO(RecordingMixin, FIFOScheduler):  # type: ignore[misc]
    """No early stopping: every trial runs to its end."""


class RecordingPBT(RecordingMixin, FIFOScheduler):  # type: ignore[misc]
    """Population Based Training as in `tune/search/pbt.py`. Everything it knows is in the journal."""

    def __init__(self, searcher: OptunaSearcher, max_epochs: int, population: Population) -> None:
        super().__init__(searcher, max_epochs)
        self.population = population

    def decide(self, trial: Numbered, result: EpochResult) -> str:
        """Return STOP if a copy of a better trial is to take its place, or is queued for it already."""
        number = trial.trial_id
        is_worse = self.searcher.has_successor(number, result.epoch) or self._parents(number, result)
        return STOP if is_worse else CONTINUE

    def may_stop(self, trial: Trial, result: EpochResult) -> bool:
        """Queue that copy, and tell whether it is queued."""
        number, epoch = _numbered(trial).trial_id, result.epoch
        if self.searcher.has_successor(number, epoch):
            return True
        copy = self.population.copy(number, epoch, self._parents(number, result))
        if copy is None:
            return False
        origin = {TRIAL: copy.parent, EPOCH: epoch, INSTEAD_OF: number}
        return self.searcher.replace(trial.trial_id, copy.params, {VALUES: copy.values, ORIGIN: origin})

    def _parents(self, number: int, result: EpochResult) -> list[int]:
        return self.population.parents_for(number, result.epoch, self.compared_value(result))


def build_scheduler(
    options: StudyOptions,
    searcher: OptunaSearcher,
    max_epochs: int,
    is_kept: Callable[[int, int], bool] = lambda trial, epoch: True,
) -> TrialScheduler:
    """Make the study's scheduler. All of them count epochs, which survive a restart of the trial.

    Args:
        options: Of the study.
        searcher: Is given every result.
        max_epochs: Of a trial.
        is_kept: Tells whether a trial's checkpoint of an epoch is there for another trial to start from.
    """
    scheduler = _make(options, searcher, max_epochs, is_kept)
    scheduler.replay(searcher.study)
    return cast(TrialScheduler, scheduler)


def _make(
    options: StudyOptions, searcher: OptunaSearcher, max_epochs: int, is_kept: Callable[[int, int], bool]
) -> RecordingMixin:
    asked = options.scheduler.options
    common = {"time_attr": TIME, "metric": VALUE, "mode": options.mode, **asked.model_dump()}
    match options.scheduler.name:
        case "ASHA":
            return RecordingASHA(searcher, max_epochs, max_t=max_epochs, **common)
        case "Hyperband":
            return RecordingHyperband(searcher, max_epochs, max_t=max_epochs, **common)
        case "median":
            # No trial ever makes room for others: Ray's would wait in its slot.
            return RecordingMedian(searcher, max_epochs, min_time_slice=inf, **common)
        case "PBT":
            population = Population(
                searcher.study,
                searcher.problem,
                cast(PBT, asked),
                options.scheduler_metric,
                is_kept,
            )
            return RecordingPBT(searcher, max_epochs, population)
        case "none":
            return RecordingFIFO(searcher, max_epochs)
