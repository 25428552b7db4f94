"""What Tune tells of a running study: it becomes the study's state, and events for those who show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from ray.tune import Callback
from ray.tune.experiment import Trial

from otter_ray.report.rows import read_row
from otter_ray.tune.gpu import suggestion
from otter_ray.tune.keys import BASE, EPOCH, ERROR, NUMBER, VALUES
from otter_ray.tune.show import Show
from otter_ray.tune.state import StudyState

DEATH = "its process died"


class Progress(Callback):  # type: ignore[misc]
    """Keeps a study's state, and tells each event to `shows`.

    Args:
        study: the truth about the trials; it is told of an end before callbacks are.
    """

    def __init__(self, study: optuna.Study, state: StudyState, *shows: Show) -> None:
        self.study, self.state, self.shows = study, state, shows
        self.measured = False

    def on_trial_start(self, trial: Trial, **info: Any) -> None:
        """A trial has its slot, for the first time or again."""
        number, values = trial.config[NUMBER], trial.config[VALUES]
        # Trials that a constraint kept from being trained have numbers, too.
        for untrained in range(len(self.state.states), number):
            self.state.ended_as(read_row(self.study, untrained))
        self.state.began(number, values)
        self._tell("began", trial, base=values == BASE, values=values)

    def on_trial_result(self, trial: Trial, result: Mapping[str, Any], **info: Any) -> None:
        """One epoch, or the failure, of one trial."""
        if ERROR in result:
            self._fail(trial, result[ERROR], goes_on=not result.get("done"))
        # A trial that goes on after its node died begins with what it reported last.
        elif self.state.epoch_done(trial.config[NUMBER], result):
            best = self.state.best
            self._tell(
                "epoch",
                trial,
                epoch=result[EPOCH],
                epochs=self.state.max_epochs,
                value=result[self.state.options.metric],
                best={"trial": best.number, "value": best.value} if best else None,
                stopped=bool(result.get("done")) and result[EPOCH] < self.state.max_epochs,
            )

    def on_trial_recover(self, trial: Trial, **info: Any) -> None:
        """Its process or its node died."""
        self._fail(trial, DEATH, goes_on=True)

    def on_trial_error(self, trial: Trial, **info: Any) -> None:
        """It died once more, and there is no further attempt; or before it began, and is handed out again."""
        self._fail(trial, DEATH, goes_on=trial.num_failures <= self.state.options.retries)
        self.on_trial_complete(trial)

    def on_trial_complete(self, trial: Trial, **info: Any) -> None:
        """It ended, was stopped, or was broken off; the first on a GPU tells how many could share one."""
        number = trial.config[NUMBER]
        running = self.state.running.get(number)
        row = read_row(self.study, number)
        self.state.ended_as(row)
        self._tell(
            "ended",
            trial,
            state=row.state,
            epochs=row.epochs,
            value=row.value,
            best_epoch=row.best_epoch,
            seconds=row.seconds,
            error=row.error,
            log=self.state.log(number),
        )
        if running and running.gpu and not self.measured:
            self.measured = True
            if text := suggestion(number, *running.gpu, self.state.plan):
                self.shows[0].note(text)

    def on_step_end(self, **info: Any) -> None:
        """Tune comes by some ten times a second."""
        for show in self.shows:
            show.draw(self.state)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back; a console cannot be pickled."""
        return {}

    def _fail(self, trial: Trial, error: str, goes_on: bool) -> None:
        self._tell("error", trial, error=error, log=self.state.log(trial.config[NUMBER]), goes_on=goes_on)

    def _tell(self, kind: str, trial: Trial, **facts: Any) -> None:
        number = trial.config[NUMBER]
        name = "base" if trial.config[VALUES] == BASE else self.state.name(number)
        for show in self.shows:
            show.event(kind, self.state, trial=number, name=name, **facts)
