"""Ray Tune asks, Optuna answers: the bridge between the two.

Ray's own `OptunaSearch` tells Optuna that a trial which ASHA stopped is COMPLETE with its last value.
This one tells it PRUNED with the whole curve, writes every value to the journal as it comes, and gives
Optuna the best value over the epochs. The base config's own values are always the first trial.

A trial that was broken off stays RUNNING in the journal. A later driver's bridge hands it out again before
it asks for new ones, with its number and its values; it goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from otter_ray.config import Config, Space
from otter_ray.errors import OtterError, is_full
from otter_ray.report.rows import CURVE, read_trial
from otter_ray.tune.endings import counts, ended, kind_of, tell_end
from otter_ray.tune.figures import FigureBook, in_vain, is_admitted
from otter_ray.tune.halt import Halt
from otter_ray.tune.journal import together
from otter_ray.tune.keys import (
    BASE,
    EPOCH,
    ERROR,
    FAULT,
    FINAL,
    INSTEAD_OF,
    METRICS,
    NUMBER,
    ORIGIN,
    REPLACED,
    STOPPED,
    VALUES,
)


class OptunaBridge(Searcher):  # type: ignore[misc]
    """A Ray Tune searcher over an Optuna study.

    Ray withholds a trial's last result from the searcher when the scheduler stops the trial on it, so
    results come through the scheduler (`record`), which sees them all.

    Args:
        study: where trials are asked for and told to; the truth about them.
        space, config: what is searched, and around what.
        halt: says when the search is to end; None: not before all its trials have.
        limit: how many trials may run at once, asked before each; None: any number.
        book: figures of the models, where objectives or constraints ask for them.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        config: Config,
        halt: Halt | None = None,
        limit: Callable[[], int] | None = None,
        book: FigureBook | None = None,
    ) -> None:
        super().__init__(metric=space.study.metric, mode=space.study.mode)
        self.study, self.space, self.config, self.limit = study, space, config, limit
        self.halt = halt or Halt(study)
        self.book = book or FigureBook(space.study.figures)
        self._in_vain = ""
        self._broken_off = study.get_trials(states=[TrialState.RUNNING])
        self._waiting = len(study.get_trials(states=[TrialState.WAITING]))
        self._ended = ended(study)
        self._running: dict[str, _Running] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial: its number, and the dotted values that it changes in the base config.

        None, and Ray asks again soon, while as many run as may.
        """
        if self.halt.reason:
            return Searcher.FINISHED
        if self.limit is not None and len(self._running) >= self.limit():
            return None
        try:
            with together(self.study):
                drawn = self._drawn()
        except OSError as exc:
            self._not_written(exc)
            return Searcher.FINISHED
        if drawn is None:
            # One that runs may yet have to be handed out again, and Ray never asks after FINISHED.
            if not self._running and self._in_vain:
                self.halt.ask(self._in_vain)
            return None if self._running else Searcher.FINISHED
        trial, values = drawn
        self._running[trial_id] = _Running(trial, self._frozen(trial).last_step or 0)
        begins = {ORIGIN: origin} if (origin := trial.user_attrs.get(ORIGIN)) else {}
        return {NUMBER: trial.number, VALUES: values, **begins}

    def _is_any_left(self) -> bool:
        """Whether there are trials to hand out: broken off, waiting, or yet to be made."""
        return self._ended + len(self._running) < self.space.study.num_trials

    def _drawn(self) -> tuple[Trial, dict[str, Any]] | None:
        """The next trial to train, with what it changes; None where there is none.

        Those that violate a constraint are told at once, for the sampler to learn, and are not counted.
        """
        while self._is_any_left() and not self.halt.reason and (self._broken_off or not self._in_vain):
            trial = self._next()
            values = self._values(trial)
            if self._is_admitted(trial, values):
                return trial, values
        return None

    def _is_admitted(self, trial: Trial, values: Mapping[str, Any]) -> bool:
        """Whether it is to be trained; else it has been told how it ended."""
        options = self.space.study
        if not options.figures:
            return True
        try:
            if is_admitted(trial, self.config.with_values(values), options, self.book) or values == BASE:
                return True
        except OtterError as exc:
            trial.set_user_attr(ERROR, f"its model's figures cannot be measured: {exc}")
            self._tell_end(trial, is_done=False)
            return False
        # No values: samplers read them as results, and there is none. GP and NSGA-II look at COMPLETE trials
        # alone, and learn the constraints from those.
        self.study.tell(trial.number, state=TrialState.PRUNED)
        self._in_vain = in_vain(self.study, options.bounds)
        return False

    def _next(self) -> Trial:
        if self._broken_off:
            return Trial(self.study, self._broken_off.pop(0)._trial_id)
        if self._waiting:
            self._waiting -= 1
            return self.study.ask()
        # What `ask` does where none waits; it would look for one among all that there are: 5 ms of 10,000.
        return Trial(self.study, self.study._storage.create_new_trial(self.study._study_id))

    def _values(self, trial: Trial) -> dict[str, Any]:
        """What the trial changes; its parameters are drawn as far as a dead driver has not done it."""
        known: dict[str, Any] | None = trial.user_attrs.get(VALUES)
        if known is not None and (known == BASE or ORIGIN in trial.user_attrs):
            # It runs as it stands; Optuna learns as much of it as the space can express.
            config = self.config.with_values(known)
            self.space.suggest(trial, config, names=self.space.base_values(config))
        if known is None:
            known = self.space.suggest(trial, self.config)
            trial.set_user_attr(VALUES, known)
        return known

    def record(self, trial_id: str, result: Mapping[str, Any], is_pruned: bool = False) -> None:
        """Writes one epoch of a running trial to the journal. A trial repeats its last result: once.

        The epoch's value goes last: with it, everything about the epoch is known, ASHA's word, too.
        """
        running = self._running[trial_id]
        epoch = result[EPOCH]
        if epoch <= running.epoch:
            return
        metrics = {
            name.removeprefix(METRICS): value for name, value in result.items() if name.startswith(METRICS)
        }
        try:
            with together(self.study):
                running.trial.set_user_attr(CURVE + str(epoch), {EPOCH: epoch, **metrics})
                if is_pruned or running.trial.user_attrs.get(STOPPED) == epoch:
                    # A driver that died between this line and the next may have decided otherwise.
                    running.trial.set_user_attr(STOPPED, epoch if is_pruned else None)
                # Trial.report refuses a study with several objectives, and does nothing else than this.
                value = float(result[self.metric])
                self.study._storage.set_trial_intermediate_value(running.trial._trial_id, epoch, value)
        except OSError as exc:
            # Without that epoch the trial has not ended, whatever was decided on it.
            self.break_off(trial_id)
            self._not_written(exc)
            return
        running.epoch = epoch
        self.halt.epoch_done()

    def retries(self, trial_id: str, result: Mapping[str, Any], deaths: int) -> bool:
        """Whether a trial that reports a failure is to try again from its last checkpoint, in its slot.

        Not where it failed in the same way at the same epoch before.

        Args:
            deaths: how often its process has died.
        """
        running = self._running[trial_id]
        if FAULT in result:
            self.halt.fail(result[ERROR])
        if self.halt.reason:
            self.break_off(trial_id)
            return False
        failure = (kind_of(result[ERROR]), running.epoch)
        again = not result.get(FINAL) and failure not in running.failures
        running.failures.append(failure)
        return again and len(running.failures) + deaths <= self.space.study.retries

    def replace(self, trial_id: str, params: Mapping[str, Any], notes: Mapping[str, Any]) -> bool:
        """A trial is about to be stopped; another one, with these parameters, takes its place.

        The new one is among the next to be handed out, and counts in the old one's stead.

        Args:
            notes: of the new one, with its `ORIGIN`.

        Returns:
            Whether that could be written down.
        """
        try:
            self._running[trial_id].trial.set_user_attr(REPLACED, notes[ORIGIN][EPOCH])
            self.study.enqueue_trial(dict(params), user_attrs=dict(notes))
            self._waiting += 1
        except OSError as exc:
            self.break_off(trial_id)
            self._not_written(exc)
            return False
        return True

    def successor(self, number: int, epoch: int) -> bool:
        """Whether a driver that died had queued what takes this trial's place after this epoch."""
        origins = (trial.user_attrs.get(ORIGIN) for trial in self.study.get_trials(deepcopy=False))
        return any(o and (o[INSTEAD_OF], o[EPOCH]) == (number, epoch) for o in origins)

    def break_off(self, trial_id: str) -> None:
        """The trial is stopped without having ended: a later driver goes on with it."""
        self._running[trial_id].is_broken_off = True

    def hand_out_again(self, trial_id: str) -> None:
        """The trial never began: it is the next to be suggested, as another one of Tune's."""
        self.break_off(trial_id)
        self._broken_off.append(self._frozen(self._running[trial_id].trial))

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Nothing: see `record`."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells Optuna how the trial ended, unless it was broken off."""
        running, result = self._running.pop(trial_id), result or {}
        trial = running.trial
        if running.is_broken_off or not (error or result.get("done")):
            return
        try:
            with together(self.study):
                for fact in ("seconds", "host"):
                    if fact in result:
                        trial.set_user_attr(fact, result[fact])
                if failure := _failure(running, result, error):
                    trial.set_user_attr(ERROR, failure)
                self._tell_end(trial, is_done=True)
        except OSError as exc:
            self._not_written(exc)

    def _tell_end(self, trial: Trial, is_done: bool) -> None:
        tell_end(self.study, self._frozen(trial), is_done)
        self._ended += counts(self._frozen(trial))
        self.halt.trial_ended(trial.number)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return read_trial(self.study, trial.number)

    def _not_written(self, exc: OSError) -> None:
        """What cannot be written down did not happen: the search ends, and a later driver has it again."""
        self.halt.fail(f"the study cannot be written down: {exc}", is_full(exc))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher, but the journal is the state and no pickle is read back."""
        return {}


def _failure(running: _Running, result: Mapping[str, Any], error: bool) -> str:
    """Why the trial counts as failed; empty if it does not."""
    if ERROR in result:
        return str(result[ERROR])
    if error:
        return "its worker process failed or died; its log.txt may say more"
    return "" if running.epoch else "it ended without a single validated epoch"


@dataclass
class _Running:
    """A trial that Ray has.

    Attributes:
        epoch: the last that the journal knows, 0 for none.
        failures: (what went wrong, after which epoch) of its attempts.
    """

    trial: Trial
    epoch: int
    failures: list[tuple[str, int]] = field(default_factory=list)
    is_broken_off: bool = False
