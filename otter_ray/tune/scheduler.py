"""ASHA (or nothing) in Ray Tune, with every result passed on to the bridge first."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from otter_ray.config import StudyOptions
from otter_ray.tune.keys import BASE, EPOCH, ERROR, VALUES
from otter_ray.tune.searcher import OptunaBridge


class _Recorded:
    """Mixin: records results, and lets the base config's trial run to its end.

    The base is what every gain is measured against: a curve cut off at the first rung would flatter the
    winner. It still takes its place on ASHA's rungs.
    """

    bridge: OptunaBridge
    max_epochs: int

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        self.bridge.record(trial.trial_id, result)
        if ERROR in result:
            return str(TrialScheduler.STOP)
        decision = self.decide(trial, result)
        # After the last epoch a trial ends by itself: ended by Tune, its Train run would be an aborted one.
        if result[EPOCH] >= self.max_epochs or trial.config[VALUES] == BASE:
            return str(TrialScheduler.CONTINUE)
        if decision == TrialScheduler.STOP:
            self.bridge.mark_pruned(trial.trial_id)
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune then gives a free slot to the trial that has none in sight.

        Ray's choice is the one that waits longest, and for it Tune gives up the slot that it has begun to
        start: while trials end faster than a slot starts, a node that joins would never be used.
        """

    def decide(self, trial: Any, result: Mapping[str, Any]) -> str:
        """What Ray's scheduler says; it looks at the trial's id only."""
        return str(super().on_trial_result(None, trial, result))  # type: ignore[misc]


class RecordedASHA(_Recorded, ASHAScheduler):  # type: ignore[misc]
    """Ray's asynchronous successive halving: Li et al. 2020, arXiv 1810.05934."""


class RecordedFIFO(_Recorded, FIFOScheduler):  # type: ignore[misc]
    """No early stopping: every trial runs to its end."""


def build_scheduler(options: StudyOptions, bridge: OptunaBridge, max_epochs: int) -> TrialScheduler:
    """The study's scheduler. Rungs count epochs, which survive a restart of the trial."""
    if options.scheduler.name == "ASHA":
        scheduler = RecordedASHA(
            time_attr=EPOCH,
            metric=options.metric,
            mode=options.mode,
            max_t=max_epochs,
            **options.scheduler.options.model_dump(),
        )
    else:
        scheduler = RecordedFIFO()
    scheduler.bridge, scheduler.max_epochs = bridge, max_epochs
    _refill(scheduler, bridge.study, options.metric)
    return scheduler


def _refill(scheduler: _Recorded, study: optuna.Study, metric: str) -> None:
    """Puts the trials that a resumed study has already ended onto the rungs."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]):
        ended = SimpleNamespace(trial_id=f"ended-{trial.number}")
        scheduler.on_trial_add(None, ended)  # type: ignore[attr-defined]
        for epoch, value in sorted(trial.intermediate_values.items()):
            scheduler.decide(ended, {EPOCH: epoch, metric: value})
        scheduler.on_trial_remove(None, ended)  # type: ignore[attr-defined]
