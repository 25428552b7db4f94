"""Ray Tune's schedulers, by name, with every result passed on to the bridge."""

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

from otter_ray.config import StudyOptions
from otter_ray.config.scheduler import PBT
from otter_ray.report.rows import CURVE
from otter_ray.tune.keys import BASE, EPOCH, ERROR, INSTEAD_OF, METRICS, NUMBER, ORIGIN, TRIAL, VALUES
from otter_ray.tune.pbt import Population
from otter_ray.tune.searcher import OptunaBridge

CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


@dataclass(frozen=True)
class Numbered:
    """A trial as Ray's schedulers see it: by its number, which a later driver knows, too."""

    trial_id: int


def _numbered(trial: Trial) -> Numbered:
    return Numbered(trial.config[NUMBER])


class _Recorded:
    """Mixin: records results, and lets the base config's trial run to its end.

    The base is what every gain is measured against: a curve cut off at the first rung would flatter the
    winner. It still counts for the others.
    """

    bridge: OptunaBridge
    max_epochs: int

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self.add(_numbered(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        if ERROR in result:
            return CONTINUE if self.bridge.retries(trial.trial_id, result, trial.num_failures) else STOP
        decision = self.decide(_numbered(trial), result)
        # After the last epoch a trial ends by itself: ended by Tune, its Train run would be an aborted one.
        is_last = result[EPOCH] >= self.max_epochs
        is_pruned = decision == STOP and not is_last and trial.config[VALUES] != BASE
        is_pruned = is_pruned and self.make_room(trial, result)
        self.bridge.record(trial.trial_id, result, is_pruned)
        if self.bridge.halt.reason and not (is_last or is_pruned):
            self.bridge.break_off(trial.trial_id)
            return STOP
        return STOP if is_pruned else CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        super().on_trial_complete(tune_controller, _numbered(trial), result)  # type: ignore[misc]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A warm slot that died between two trials takes the second one with it, for Tune without a retry."""
        if trial.status == Trial.PENDING:
            self.bridge.hand_out_again(trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_remove(tune_controller, _numbered(trial))  # type: ignore[misc]

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune then gives a free slot to the trial that has none in sight.

        Ray's choice is the one that waits longest, and for it Tune gives up the slot that it has begun to
        start: while trials end faster than a slot starts, a node that joins would never be used.
        """

    def add(self, trial: Numbered) -> None:
        """Tells Ray's scheduler of a trial."""
        super().on_trial_add(None, trial)  # type: ignore[misc]

    def make_room(self, trial: Trial, result: Mapping[str, Any]) -> bool:
        """Asked when a trial is about to be stopped on this result: whether it may be."""
        return True

    def decide(self, trial: Numbered, result: Mapping[str, Any]) -> str:
        """What Ray's scheduler says."""
        return str(super().on_trial_result(None, trial, result))  # type: ignore[misc]


class RecordedASHA(_Recorded, ASHAScheduler):  # type: ignore[misc]
    """Ray's asynchronous successive halving: Li et al. 2020, arXiv 1810.05934."""


class RecordedHyperband(_Recorded, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Its form with several brackets, which Ray recommends over the synchronous HyperBand."""

    def add(self, trial: Numbered) -> None:
        """Ray draws the bracket from numpy's global generator: here it follows from the trial's number."""
        before = np.random.get_state()
        np.random.seed(
            np.random.SeedSequence([self.bridge.config.common.seed, trial.trial_id]).generate_state(4)
        )
        super().add(trial)
        np.random.set_state(before)


class RecordedMedian(_Recorded, MedianStoppingRule):  # type: ignore[misc]
    """Ray's median stopping rule: Golovin et al. 2017, Google Vizier."""

    def decide(self, trial: Numbered, result: Mapping[str, Any]) -> str:
        """As Ray says; of a trial that goes on in spite of it, too, and once for each epoch."""
        if any(result[EPOCH] <= earlier[EPOCH] for earlier in self._results[trial][-1:]):
            return CONTINUE
        decision = super().decide(trial, result)
        self._stopped_trials.clear()
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """Nothing: Ray would count the last epoch twice."""


class RecordedFIFO(_Recorded, FIFOScheduler):  # type: ignore[misc]
    """No early stopping: every trial runs to its end."""


class RecordedPBT(_Recorded, FIFOScheduler):  # type: ignore[misc]
    """Population Based Training as `tune/pbt.py` has it. All that it knows stands in the journal."""

    population: Population

    def decide(self, trial: Numbered, result: Mapping[str, Any]) -> str:
        """STOP where a copy of a better trial is to take its place, or is queued for it already."""
        number, epoch = trial.trial_id, result[EPOCH]
        return STOP if self.bridge.successor(number, epoch) or self._donors(number, result) else CONTINUE

    def make_room(self, trial: Trial, result: Mapping[str, Any]) -> bool:
        """Queues that copy."""
        number, epoch = _numbered(trial).trial_id, result[EPOCH]
        if self.bridge.successor(number, epoch):
            return True
        copy = self.population.copy(number, epoch, self._donors(number, result))
        if copy is None:
            return False
        origin = {TRIAL: copy.donor, EPOCH: epoch, INSTEAD_OF: number}
        return self.bridge.replace(trial.trial_id, copy.params, {VALUES: copy.values, ORIGIN: origin})

    def _donors(self, number: int, result: Mapping[str, Any]) -> list[int]:
        metric = self.population.metric
        value = result.get(METRICS + metric, result.get(metric))
        return self.population.better(number, result[EPOCH], float(cast(float, value)))


def build_scheduler(
    options: StudyOptions,
    bridge: OptunaBridge,
    max_epochs: int,
    is_kept: Callable[[int, int], bool] = lambda trial, epoch: True,
) -> TrialScheduler:
    """The study's scheduler. All of them count epochs, which survive a restart of the trial.

    Args:
        is_kept: whether a trial's checkpoint of an epoch is there for another one to begin from.
    """
    chosen = options.scheduler.options.model_dump()
    looks_at = METRICS + options.scheduler.metric if options.scheduler.metric else options.metric
    common = {"time_attr": EPOCH, "metric": looks_at, "mode": options.mode, **chosen}
    scheduler: Any
    match options.scheduler.name:
        case "ASHA":
            scheduler = RecordedASHA(max_t=max_epochs, **common)
        case "Hyperband":
            scheduler = RecordedHyperband(max_t=max_epochs, **common)
        case "median":
            # No trial ever makes room for others: Ray's would wait in its slot.
            scheduler = RecordedMedian(min_time_slice=inf, **common)
        case "PBT":
            scheduler = RecordedPBT()
            looks_at = options.scheduler.metric or options.metric
            scheduler.population = Population(
                bridge.study,
                bridge.space,
                bridge.config,
                cast(PBT, options.scheduler.options),
                looks_at,
                is_kept,
            )
        case "none":
            scheduler = RecordedFIFO()
    scheduler.bridge, scheduler.max_epochs = bridge, max_epochs
    _refill(scheduler, bridge.study, options.metric)
    return cast(TrialScheduler, scheduler)


def _refill(scheduler: _Recorded, study: optuna.Study, metric: str) -> None:
    """Tells the scheduler what the study's trials have done so far, those that are to go on, too."""
    for trial in study.get_trials(deepcopy=False):
        numbered = Numbered(trial.number)
        scheduler.add(numbered)
        for epoch, value in sorted(trial.intermediate_values.items()):
            logged = {METRICS + name: number for name, number in trial.user_attrs[CURVE + str(epoch)].items()}
            scheduler.decide(numbered, {**logged, EPOCH: epoch, metric: value})
