"""How trials ended, and how Optuna is told. All that is needed for it stands in the journal."""

from __future__ import annotations

import math
import re

import optuna
from optuna.trial import FrozenTrial, TrialState

from otter_ray.study.optuna_compat import set_user_attr
from otter_ray.study.schema import ERROR, REPLACED, STOPPED
from otter_ray.study.trials import direction_of, is_infeasible, objectives_of, trial_record

# If the first trials, this many, all fail in the same way, the study fails and not its trials.
COMMON_FAILURES = 3
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended and count."""
    return [*filter(counts, study.get_trials(deepcopy=False))]


def counts(trial: FrozenTrial) -> bool:
    """Say whether a trial has ended after training, and no other trial took its place."""
    return trial.state in ENDED and not (is_infeasible(trial) or is_replaced(trial))


def is_replaced(trial: FrozenTrial) -> bool:
    """Whether it ended for another trial to go on in its place (`OptunaSearcher.replace`)."""
    notes = trial.user_attrs
    return REPLACED in notes and notes[REPLACED] == notes.get(STOPPED) == (trial.last_step or 0)


def ended(study: optuna.Study) -> int:
    """Count the trials that have ended."""
    return len(ended_trials(study))


def finalize_interrupted(study: optuna.Study, max_epochs: int) -> None:
    """Tell Optuna the ends that were decided when the driver died, and that it had not told.

    Trials that had not ended stay RUNNING: they will continue, under their own number.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        tell_end(study, trial, is_done=(trial.last_step or 0) >= max_epochs)


def tell_end(study: optuna.Study, trial: FrozenTrial, is_done: bool) -> None:
    """Tell Optuna how a trial ended, as the journal says; nothing if the trial is to continue.

    Args:
        study: the trial's.
        trial: one that is RUNNING.
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
        study.tell(trial.number, direction_of(study).best(values, float))


def _tell_all(study: optuna.Study, trial: FrozenTrial) -> None:
    """Tell every objective, at the epoch that is best in the metric.

    COMPLETE, though ASHA may have stopped it: with several objectives Optuna's samplers cannot read a PRUNED
    trial's values, TPE not even its number.
    """
    others = objectives_of(study)
    row = trial_record(trial, direction_of(study), others)
    if lacking := [name for name in others if not math.isfinite(row.figures.get(name, math.nan))]:
        error = (
            f"no {', '.join(lacking)} was logged at epoch {row.best_epoch}, its best: an objective needs it"
        )
        set_user_attr(study, trial, ERROR, error)
        study.tell(trial.number, state=TrialState.FAIL)
    else:
        study.tell(trial.number, [row.value or 0.0, *(row.figures[name] for name in others)])


def normalize_error(error: str) -> str:
    """Return an error without what differs each time: numbers, amounts, temporary folders."""
    return re.sub(r"otter_ray_\w+|[+-]?\b(nan|inf)\b|\d[\d.]*( [KMG]i?B)?", "#", error)


def common_failure(study: optuna.Study) -> list[int]:
    """Return the numbers of the trials that have ended if all failed in the same way; else an empty list."""
    trials = ended_trials(study)
    if len(trials) < COMMON_FAILURES or any(trial.state != TrialState.FAIL for trial in trials):
        return []
    kinds = {normalize_error(str(trial.user_attrs.get(ERROR, ""))) for trial in trials}
    return [trial.number for trial in trials] if len(kinds) == 1 else []
