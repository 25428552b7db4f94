"""Room on the disk: which checkpoints are still wanted, and what to say when there is none left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from ray.tune import Callback
from rich.console import Console

from otter_ray.errors import OtterError
from otter_ray.report.front import front
from otter_ray.report.rows import TrialRow, rank, read_rows
from otter_ray.tune.folder import StudyFolder
from otter_ray.tune.storage import TRIALS, Storage


def unwanted(
    rows: Sequence[TrialRow], mode: str, keep: int, objectives: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Checkpoints that can no longer matter, as `trials/0007/checkpoints/last.ckpt`.

    A trial that is to go on needs its last and its best one; of those that ended, the `keep` best trials'
    best and those on the Pareto front of the metric and the `objectives` are candidates for the export; the
    base config's is what the winner is held against.
    """
    done = [row for row in rows if row.has_ended]
    kept = {row.number for row in rank(done, mode)[:keep]} | {row.number for row in done if row.is_base}
    kept |= {row.number for row in front(done, mode, objectives)} if objectives else set()
    for row in rows:
        if row.has_ended:
            folder = f"{TRIALS}/{row.number:04d}/checkpoints"
            yield f"{folder}/last.ckpt"
            if row.number not in kept:
                yield f"{folder}/best.ckpt"


class CheckpointSweeper(Callback):  # type: ignore[misc]
    """Deletes checkpoints as trials end.

    Args:
        study: the truth about the trials; it is told of an end before callbacks are.
        folder, storage: where checkpoints are.
        keep: trials whose best checkpoint stays.
        console: where trouble is told, once.
        objectives: of the study beside its metric, name -> `max` or `min`.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: StudyFolder,
        storage: Storage | None,
        mode: str,
        keep: int,
        console: Console,
        objectives: Mapping[str, str] | None = None,
    ) -> None:
        self.study, self.folder, self.storage = study, folder, storage
        self.mode, self.keep, self.console, self.objectives = mode, keep, console, objectives
        self._gone: dict[str, None] = {}  # in the order in which they went
        self._is_told = False

    def on_trial_complete(self, **info: Any) -> None:
        """A trial ended or was stopped."""
        self.sweep()

    on_trial_error = on_trial_complete

    def sweep(self) -> None:
        """Deletes what has become unwanted since the last time."""
        for name in unwanted(read_rows(self.study), self.mode, self.keep, self.objectives):
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
