"""A study that is ready to run, as everything that runs, selects or exports takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from otter_ray.config import Config
from otter_ray.errors import StudyError
from otter_ray.space import SearchProblem, Space
from otter_ray.study.layout import MODEL_STATS_FILE, StudyFolder, epoch_checkpoint
from otter_ray.study.naming import StudyNames
from otter_ray.study.opening import open_study
from otter_ray.study.outcomes import ended
from otter_ray.study.storage import Storage
from otter_ray.study.trials import rank, read_records
from otter_ray.tune.constraints import ModelStatsCache
from otter_ray.tune.request import THE_BEST, ExportSelection


@dataclass(frozen=True)
class StudyContext:
    """A prepared study: what is searched, where it is recorded, and where a copy of it is kept.

    Attributes:
        problem: what is searched, and around which config.
        storage: keeps the copy; None if the folder is the only place.
        exports: the trials whose models are exported at the end.
        labels: names of trials that are not called by their number.
        place: prefix of the trials' folders, relative to the folder that the user knows.
        resume_command: continues the study.
    """

    problem: SearchProblem
    folder: StudyFolder
    study: optuna.Study
    storage: Storage | None = None
    exports: ExportSelection = THE_BEST
    labels: Mapping[int, str] = field(default_factory=dict)
    place: str = ""
    resume_command: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study out: samplers hold what cannot be pickled, and the journal is the study."""
        return {key: value for key, value in self.__dict__.items() if key != "study"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the study again, without a sampler, in a process that acts for the one that holds its lock."""
        self.__dict__.update(state, study=open_study(state["folder"], state["problem"].options))

    @property
    def config(self) -> Config:
        """The base config."""
        return self.problem.config

    @property
    def space(self) -> Space:
        """The search space."""
        return self.problem.space

    @property
    def names(self) -> StudyNames:
        """What the study and its trials are called."""
        return StudyNames(f"{self.config.name}/{self.folder.name}", self.labels, self.place)

    @property
    def model_stats(self) -> ModelStatsCache:
        """Statistics of the models that the study has met."""
        return ModelStatsCache(self.space.study.model_stats, self.folder.path / MODEL_STATS_FILE)

    def trials_left(self) -> int:
        """Count the trials that are still to run, interrupted ones included."""
        return max(0, self.space.study.num_trials - ended(self.study))

    def keep(self) -> None:
        """Upload what the study's folder holds to the storage.

        Raises:
            StudyError: the storage cannot be written.
        """
        if self.storage is None:
            return
        try:
            self.storage.put_study(self.folder.path)
        except OSError as exc:
            raise StudyError(
                f"{self.storage.uri} cannot be written: {exc}. Nothing is lost: it is in {self.folder.path}. "
                f"This command brings it there: {self.resume_command}"
            ) from exc

    def is_kept(self, trial: int, epoch: int) -> bool:
        """Say whether a trial's checkpoint of an epoch exists, for another trial to start from."""
        name = epoch_checkpoint(trial, epoch)
        try:
            return (self.folder.path / name).is_file() or bool(self.storage and self.storage.exists(name))
        except StudyError:  # the storage does not answer at the moment
            return False

    def has_winner(self) -> bool:
        """Say whether any trial has a value."""
        return bool(rank(read_records(self.study), self.space.study.direction))
