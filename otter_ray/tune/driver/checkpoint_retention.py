"""Which checkpoints are still needed; the others are deleted as trials end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from typing import Any

import optuna
from ray.tune import Callback
from ray.tune.experiment import Trial

from otter_ray.checkpoints import BEST_CHECKPOINT, LAST_CHECKPOINT
from otter_ray.errors import OtterError
from otter_ray.space import StudyOptions
from otter_ray.study.layout import StudyFolder, epoch_checkpoint, trial_checkpoint
from otter_ray.study.outcomes import ENDED, ended
from otter_ray.study.pareto import front
from otter_ray.study.schema import EPOCH, ORIGIN, TRIAL
from otter_ray.study.storage import Storage, delete_everywhere
from otter_ray.study.trials import TrialRecord, rank, read_record, read_records, values_after
from otter_ray.tune.messages import TrialAssignment
from otter_ray.tune.ray_compat import NotPickled

logger = logging.getLogger(__name__)


def unneeded(rows: Sequence[TrialRecord], options: StudyOptions, keep: int) -> Iterator[str]:
    """Yield checkpoints that can no longer matter, as `trials/0007/checkpoints/last.ckpt`.

    A trial that is to continue needs its last and its best checkpoint. Of the trials that ended, the `keep`
    best ones and those on the Pareto front may be exported, and the baseline trial is what the winner is
    compared with: their best checkpoints stay.

    Args:
        rows: the study's trials.
        options: of the study.
        keep: how many trials' best checkpoints stay.
    """
    direction, objectives = options.direction, options.other_directions
    done = [row for row in rows if row.has_ended]
    kept = {row.number for row in rank(done, direction)[:keep]} | {row.number for row in done if row.is_base}
    kept |= {row.number for row in front(done, direction, objectives)} if objectives else set()
    for row in rows:
        if row.has_ended:
            last, best = checkpoints_of(row.number)
            yield last
            if row.number not in kept:
                yield best


def checkpoints_of(trial: int) -> tuple[str, str]:
    """Return where in the study's folder a trial's last and best checkpoint are."""
    return trial_checkpoint(trial, LAST_CHECKPOINT), trial_checkpoint(trial, BEST_CHECKPOINT)


def unneeded_parents(study: optuna.Study, options: StudyOptions) -> Iterator[str]:
    """Yield, under PBT, checkpoints that no trial will start from, again or for the first time."""
    if (interval := options.scheduler.options.checkpoint_interval) is None:
        return
    is_over = ended(study) >= options.num_trials
    wanted = 0 if is_over else options.scheduler.options.parents(options.num_trials)
    trials = study.get_trials(deepcopy=False)
    origins = (trial.user_attrs.get(ORIGIN) for trial in trials if trial.state not in ENDED)
    spared = {epoch_checkpoint(origin[TRIAL], origin[EPOCH]) for origin in origins if origin}
    last = max((trial.last_step or 0 for trial in trials), default=0)
    for epoch in range(interval, last + 1, interval):
        values = values_after(study, epoch, options.scheduler_metric)
        best = nsmallest(wanted, values, key=lambda n: (-options.direction.sign * values[n], n))
        for trial in trials:
            name = epoch_checkpoint(trial.number, epoch)
            if epoch in trial.intermediate_values and trial.number not in best and name not in spared:
                yield name


class CheckpointSweeper(NotPickled, Callback):  # type: ignore[misc]
    """Delete checkpoints as trials end.

    Args:
        study: the truth about the trials; a trial's end is written to it before callbacks are called.
        folder: where checkpoints are.
        storage: where copies of them are; None for nowhere.
        options: of the study.
        keep: how many trials' best checkpoints stay.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: StudyFolder,
        storage: Storage | None,
        options: StudyOptions,
        keep: int,
    ) -> None:
        self.study, self.folder, self.storage = study, folder, storage
        self.options, self.keep = options, keep
        # Trials with a checkpoint. The best of these and of those to come are the best of all.
        self._rows = {row.number: row for row in read_records(study)}
        self._gone: dict[str, None] = {}  # in the order in which they went
        self._has_warned = False

    def on_trial_complete(self, trial: Trial, **info: Any) -> None:
        """Sweep after a trial that ended or was stopped."""
        number = TrialAssignment.from_tune(trial.config).number
        self._rows[number] = read_record(self.study, number)
        self.sweep()

    on_trial_error = on_trial_complete

    def sweep(self) -> None:
        """Delete what is no longer needed since the last time."""
        names = list(unneeded([*self._rows.values()], self.options, self.keep))
        names += unneeded_parents(self.study, self.options)
        for name in names:
            if name not in self._gone:
                self._delete(name)
        for number, row in [*self._rows.items()]:
            if row.has_ended and {*checkpoints_of(number)} <= self._gone.keys():
                del self._rows[number]

    def finish(self, slots: int) -> None:
        """Sweep once more when all slots have ended.

        A slot uploads its trial's files after the driver has heard of the trial's end, so the last ones may
        be back.

        Args:
            slots: how many there were.
        """
        for name in [*self._gone][-4 * slots :] if self.storage else ():
            self._delete(name)
        self.sweep()

    def _delete(self, name: str) -> None:
        try:
            delete_everywhere(name, self.folder, self.storage)
            self._gone[name] = None
        except (OSError, OtterError) as exc:
            if not self._has_warned:
                self._has_warned = True
                logger.warning(f"{name} is no longer needed, but it cannot be deleted: {exc}")
