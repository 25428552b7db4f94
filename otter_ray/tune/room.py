"""Room on the disk: which checkpoints are still wanted, and what to say when there is none left."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import nsmallest
from pathlib import Path
from typing import Any, cast

import optuna
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from otter_ray.cli import tell
from otter_ray.config import StudyOptions
from otter_ray.config.scheduler import PBT
from otter_ray.errors import OtterError
from otter_ray.report.front import front
from otter_ray.report.rows import TrialRow, rank, read_row, read_rows
from otter_ray.tune.endings import ENDED, ended
from otter_ray.tune.folder import StudyFolder
from otter_ray.tune.keys import EPOCH, NUMBER, ORIGIN, TRIAL
from otter_ray.tune.pbt import values_after
from otter_ray.tune.storage import TRIALS, Storage, kept_checkpoint


def unwanted(rows: Sequence[TrialRow], options: StudyOptions, keep: int) -> Iterator[str]:
    """Checkpoints that can no longer matter, as `trials/0007/checkpoints/last.ckpt`.

    A trial that is to go on needs its last and its best one; of those that ended, the `keep` best trials'
    best and those on the Pareto front of the objectives are candidates for the export; the base config's is
    what the winner is held against.
    """
    mode, objectives = options.mode, options.objectives
    done = [row for row in rows if row.has_ended]
    kept = {row.number for row in rank(done, mode)[:keep]} | {row.number for row in done if row.is_base}
    kept |= {row.number for row in front(done, mode, objectives)} if objectives else set()
    for row in rows:
        if row.has_ended:
            last, best = checkpoints_of(row.number)
            yield last
            if row.number not in kept:
                yield best


def checkpoints_of(trial: int) -> tuple[str, str]:
    """Where in the study's folder a trial's last and best checkpoint are."""
    folder = f"{TRIALS}/{trial:04d}/checkpoints"
    return f"{folder}/last.ckpt", f"{folder}/best.ckpt"


def unwanted_origins(study: optuna.Study, options: StudyOptions) -> Iterator[str]:
    """Under PBT, checkpoints that no trial will begin from, again or for the first time."""
    pbt = cast(PBT, options.scheduler.options)
    is_over = ended(study) >= options.num_trials
    wanted = 0 if is_over else math.ceil(options.num_trials * pbt.quantile_fraction)
    trials = study.get_trials(deepcopy=False)
    origins = (trial.user_attrs.get(ORIGIN) for trial in trials if trial.state not in ENDED)
    spared = {kept_checkpoint(origin[TRIAL], origin[EPOCH]) for origin in origins if origin}
    metric = options.scheduler.metric or options.metric
    last = max((trial.last_step or 0 for trial in trials), default=0)
    for epoch in range(pbt.perturbation_interval, last + 1, pbt.perturbation_interval):
        values = values_after(study, epoch, metric)
        best = nsmallest(
            wanted, values, key=lambda n: (-values[n] if options.mode == "max" else values[n], n)
        )
        for trial in trials:
            name = kept_checkpoint(trial.number, epoch)
            if epoch in trial.intermediate_values and trial.number not in best and name not in spared:
                yield name


class CheckpointSweeper(Callback):  # type: ignore[misc]
    """Deletes checkpoints as trials end.

    Args:
        study: the truth about the trials; it is told of an end before callbacks are.
        folder, storage: where checkpoints are.
        options: of the study.
        keep: trials whose best checkpoint stays.
        console: where trouble is told, once.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: StudyFolder,
        storage: Storage | None,
        options: StudyOptions,
        keep: int,
        console: Console,
    ) -> None:
        self.study, self.folder, self.storage = study, folder, storage
        self.options, self.keep, self.console = options, keep, console
        # Of which something is there: the best of these and of those to come are the best of all.
        self._rows = {row.number: row for row in read_rows(study)}
        self._gone: dict[str, None] = {}  # in the order in which they went
        self._is_told = False

    def on_trial_complete(self, trial: Trial, **info: Any) -> None:
        """A trial ended or was stopped."""
        number = trial.config[NUMBER]
        self._rows[number] = read_row(self.study, number)
        self.sweep()

    on_trial_error = on_trial_complete

    def sweep(self) -> None:
        """Deletes what has become unwanted since the last time."""
        names = list(unwanted([*self._rows.values()], self.options, self.keep))
        if isinstance(self.options.scheduler.options, PBT):
            names += unwanted_origins(self.study, self.options)
        for name in names:
            if name not in self._gone:
                self._delete(name)
        for number, row in [*self._rows.items()]:
            if row.has_ended and {*checkpoints_of(number)} <= self._gone.keys():
                del self._rows[number]

    def finish(self, slots: int) -> None:
        """Sweeps once more when all slots have ended.

        A slot brings its trial's files to the storage after the driver has heard of the trial's end: the last
        ones may be back.
        """
        for name in [*self._gone][-4 * slots :] if self.storage else ():
            self._delete(name)
        self.sweep()

    def _delete(self, name: str) -> None:
        try:
            self.folder.delete(name, self.storage)
            self._gone[name] = None
        except (OSError, OtterError) as exc:
            if not self._is_told:
                self._is_told = True
                tell(self.console, f"{name} is no longer needed and cannot be deleted: {exc}")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back."""
        return {}


def no_room(folder: Path, study: Path) -> str:
    """What to say of the full disk that a trial's folder is on, with what is needed where that is known."""
    sizes = []
    for checkpoint in study.glob(f"{TRIALS}/*/checkpoints/*.ckpt"):
        with suppress(FileNotFoundError):  # deleted meanwhile
            sizes.append(checkpoint.stat().st_size)
    free = shutil.disk_usage(folder if folder.exists() else study).free
    text = f"the disk of {folder} is full ({free / 1e6:.1f} MB free)"
    if not sizes:
        return text
    # The last, the best, and the one that takes the place of either.
    return f"{text}: each trial that runs needs {3 * max(sizes) / 1e6:.1f} MB for its checkpoints"
