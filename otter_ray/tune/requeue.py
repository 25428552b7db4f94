"""Taking up a study that was broken off. The journal is all that is needed."""

from __future__ import annotations

import optuna
from optuna.trial import Trial, TrialState

from otter_ray.tune.keys import ERROR, INTERRUPTED, VALUES


def requeue_interrupted(study: optuna.Study) -> int:
    """Makes a study that was broken off ready to go on; gives how many of its trials have ended.

    Trials that were running when it broke off are marked so, and put into the queue again.
    """
    for frozen in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        trial = Trial(study, frozen._trial_id)
        trial.set_user_attr(ERROR, INTERRUPTED)
        study.tell(trial, state=TrialState.FAIL)
        # Killed before its values were written down, it never began.
        if VALUES in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={VALUES: trial.user_attrs[VALUES]})
    ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
    return sum(trial.user_attrs.get(ERROR) != INTERRUPTED for trial in ended)
