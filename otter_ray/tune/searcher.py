"""Ray Tune asks, Optuna answers: the bridge between the two.

Ray's own `OptunaSearch` tells Optuna that a trial which ASHA stopped is COMPLETE with its last value.
This one tells it PRUNED with the whole curve, writes every value to the journal as it comes, and gives
Optuna the best value over the epochs. The base config's own values are always the first trial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from otter_ray.config import Config, Space
from otter_ray.tune.keys import BASE, EPOCH, ERROR, METRICS, NUMBER, VALUES


class OptunaBridge(Searcher):  # type: ignore[misc]
    """A Ray Tune searcher over an Optuna study.

    Ray withholds a trial's last result from the searcher when the scheduler stops the trial on it, so
    results come through the scheduler (`record`), which sees them all.

    Args:
        study: where trials are asked for and told to; the truth about them.
        space, config: what is searched, and around what.
        limit: how many trials may run at once, asked before each; None: any number.
    """

    def __init__(
        self, study: optuna.Study, space: Space, config: Config, limit: Callable[[], int] | None = None
    ) -> None:
        super().__init__(metric=space.study.metric, mode=space.study.mode)
        self.study, self.space, self.config, self.limit = study, space, config, limit
        self._running: dict[str, _Running] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial: its number, and the dotted values that it changes in the base config.

        None, and Ray asks again soon, while as many run as may.
        """
        if self.limit is not None and len(self._running) >= self.limit():
            return None
        known = self.space.base_values(self.config)
        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(known, user_attrs={VALUES: BASE})
        trial = self.study.ask()
        is_base = trial.user_attrs.get(VALUES) == BASE
        # The base config runs as it stands; Optuna learns as much of it as the space can express.
        values = self.space.suggest(trial, self.config, names=known if is_base else None)
        values = BASE if is_base else values
        trial.set_user_attr(VALUES, values)
        self._running[trial_id] = _Running(trial)
        return {NUMBER: trial.number, VALUES: values}

    def record(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Writes one epoch of a running trial to the journal. Ray repeats a trial's last result: once."""
        running = self._running[trial_id]
        if ERROR in result or self.metric not in result or result[EPOCH] <= running.epoch:
            return
        running.trial.report(result[self.metric], result[EPOCH])
        running.values.append(result[self.metric])
        metrics = {
            name.removeprefix(METRICS): value for name, value in result.items() if name.startswith(METRICS)
        }
        running.curve.append({EPOCH: result[EPOCH], **metrics})

    def mark_pruned(self, trial_id: str) -> None:
        """The scheduler stopped this trial before its last epoch."""
        self._running[trial_id].pruned = True

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Nothing: see `record`."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells Optuna how the trial ended; one broken off is left to `requeue_interrupted`."""
        running = self._running.pop(trial_id)
        trial, result = running.trial, result or {}
        if not (error or result.get("done")):
            return
        trial.set_user_attr("curve", running.curve)
        for fact in ("seconds", "host"):
            if fact in result:
                trial.set_user_attr(fact, result[fact])
        failure = _failure(running, result, error)
        if failure:
            trial.set_user_attr(ERROR, failure)
            self.study.tell(trial, state=TrialState.FAIL)
        elif running.pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            best = max if self.mode == "max" else min
            self.study.tell(trial, best(running.values))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher, but the journal is the state and no pickle is read back."""
        return {}


def _failure(running: _Running, result: Mapping[str, Any], error: bool) -> str:
    """Why the trial counts as failed; empty if it does not."""
    if ERROR in result:
        return str(result[ERROR])
    if error:
        return "its worker process failed or died; its log.txt may say more"
    return "" if running.curve else "it ended without a single validated epoch"


@dataclass
class _Running:
    trial: Trial
    values: list[float] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    pruned: bool = False

    @property
    def epoch(self) -> int:
        return int(self.curve[-1][EPOCH]) if self.curve else 0
