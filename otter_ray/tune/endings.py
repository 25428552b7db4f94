"""How trials ended, told to Optuna. What is not told yet stands in the journal: nothing else is needed."""

from __future__ import annotations

import math
import re

import optuna
from optuna.trial import FrozenTrial, TrialState

from otter_ray.report.rows import is_infeasible, mode_of, objectives_of, trial_row
from otter_ray.tune.keys import ERROR, REPLACED, STOPPED

# As many that fail alike, with nothing else before them, show that the study fails and not its trials.
ALIKE = 3
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Its trials that have ended, and count."""
    return [*filter(counts, study.get_trials(deepcopy=False))]


def counts(trial: FrozenTrial) -> bool:
    """Whether it has ended after a training, and no other trial took its place."""
    return trial.state in ENDED and not (is_infeasible(trial) or is_replaced(trial))


def is_replaced(trial: FrozenTrial) -> bool:
    """Whether it ended for another trial to go on in its place (`OptunaBridge.replace`)."""
    notes = trial.user_attrs
    return REPLACED in notes and notes[REPLACED] == notes.get(STOPPED) == (trial.last_step or 0)


def ended(study: optuna.Study) -> int:
    """How many of its trials have ended."""
    return len(ended_trials(study))


def settle(study: optuna.Study, max_epochs: int) -> None:
    """Tells the ends that were decided when the driver died, and that it had not told.

    Trials without one stay RUNNING: they are to go on, under their own number.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        tell_end(study, trial, is_done=(trial.last_step or 0) >= max_epochs)


def tell_end(study: optuna.Study, trial: FrozenTrial, is_done: bool) -> None:
    """Tells Optuna how a trial ended, from what the journal holds of it; nothing where it is to go on.

    Args:
        is_done: whether it has had its last epoch, if nothing went wrong and nobody stopped it.
    """
    values = trial.intermediate_values.values()
    is_stopped = trial.user_attrs.get(STOPPED) == trial.last_step and values
    if ERROR in trial.user_attrs:
        study.tell(trial.number, state=TrialState.FAIL)
    elif len(study.directions) > 1 and (is_stopped or is_done):
        _tell_all(study, trial)
    elif is_stopped:
        study.tell(trial.number, state=TrialState.PRUNED)
    elif is_done:
        study.tell(trial.number, (max if mode_of(study) == "max" else min)(values))


def _tell_all(study: optuna.Study, trial: FrozenTrial) -> None:
    """Tells every objective, of the epoch that is best in the metric.

    COMPLETE, though ASHA may have stopped it: with several objectives Optuna's samplers cannot read a PRUNED
    trial's values, TPE not even its number.
    """
    others = objectives_of(study)
    row = trial_row(trial, mode_of(study) == "max", others)
    if lacking := [name for name in others if not math.isfinite(row.figures.get(name, math.nan))]:
        error = (
            f"no {', '.join(lacking)} was logged at epoch {row.best_epoch}, its best: an objective needs it"
        )
        study._storage.set_trial_user_attr(trial._trial_id, ERROR, error)
        study.tell(trial.number, state=TrialState.FAIL)
    else:
        study.tell(trial.number, [row.value or 0.0, *(row.figures[name] for name in others)])


def kind_of(error: str) -> str:
    """An error without what differs from one time to the next: numbers, amounts, temporary folders."""
    return re.sub(r"otter_ray_\w+|[+-]?\b(nan|inf)\b|\d[\d.]*( [KMG]i?B)?", "#", error)


def failed_alike(study: optuna.Study) -> list[int]:
    """Numbers of the trials that have ended, if they are some and all failed in the same way; else none."""
    trials = ended_trials(study)
    if len(trials) < ALIKE or any(trial.state != TrialState.FAIL for trial in trials):
        return []
    kinds = {kind_of(str(trial.user_attrs.get(ERROR, ""))) for trial in trials}
    return [trial.number for trial in trials] if len(kinds) == 1 else []
