"""Room on the disk: which checkpoints are still wanted, and what to say when there is none left."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import optuna
from ray.tune import Callback
from rich.console import Console

from otter_ray.config import StudyOptions
from otter_ray.config.scheduler import PBT
from otter_ray.errors import OtterError
from otter_ray.report.front import front
from otter_ray.report.rows import TrialRow, rank, read_rows
from otter_ray.tune.endings import ended
from otter_ray.tune.folder import StudyFolder
from otter_ray.tune.keys import EPOCH
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
            folder = f"{TRIALS}/{row.number:04d}/checkpoints"
            yield f"{folder}/last.ckpt"
            if row.number not in kept:
                yield f"{folder}/best.ckpt"


def unwanted_origins(rows: Sequence[TrialRow], options: StudyOptions, is_over: bool) -> Iterator[str]:
    """Under PBT, checkpoints that no trial will begin from; an epoch's best stay until it `is_over`."""
    pbt = options.scheduler.options
    if not isinstance(pbt, PBT):
        return
    wanted = 0 if is_over else math.ceil(options.num_trials * pbt.quantile_fraction)
    name = options.scheduler.metric or options.metric
    sign = -1.0 if options.mode == "max" else 1.0
    values: dict[int, list[tuple[float, int]]] = {}
    for row in rows:
        for logged in row.metrics:
            if logged[EPOCH] % pbt.perturbation_interval == 0:
                values.setdefault(int(logged[EPOCH]), []).append((sign * logged[name], row.number))
    for epoch, ranked in values.items():
        yield from (kept_checkpoint(number, epoch) for _, number in sorted(ranked)[wanted:])


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
        self._gone: dict[str, None] = {}  # in the order in which they went
        self._is_told = False

    def on_trial_complete(self, **info: Any) -> None:
        """A trial ended or was stopped."""
        self.sweep()

    on_trial_error = on_trial_complete

    def sweep(self) -> None:
        """Deletes what has become unwanted since the last time."""
        rows = read_rows(self.study)
        is_over = ended(self.study) >= self.options.num_trials
        for name in chain(
            unwanted(rows, self.options, self.keep), unwanted_origins(rows, self.options, is_over)
        ):
            if name not in self._gone:
                self._delete(name)

    def finish(self, slots: int) -> None:
        """Sweeps once more when all slots have ended.

        A slot brings its trial's files to the storage after the driver has heard of the trial's end: the last
        ones may be back.
        """
        for name in [*self._gone][-4 * slots :] if self.storage else ():
            del self._gone[name]
        self.sweep()

    def _delete(self, name: str) -> None:
        try:
            self.folder.delete(name, self.storage)
            self._gone[name] = None
        except (OSError, OtterError) as exc:
            if not self._is_told:
                self._is_told = True
                self.console.print(f"{name} is no longer needed and cannot be deleted: {exc}", markup=False)

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
