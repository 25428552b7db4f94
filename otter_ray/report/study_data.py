"""Read everything that a report says about a study, once, from the study's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial

from otter_ray.config import Config, load_config
from otter_ray.direction import Direction
from otter_ray.errors import OtterError, StudyError
from otter_ray.export.model_files import exports_in
from otter_ray.space import Space, load_space
from otter_ray.study.environment import read_environment
from otter_ray.study.finalists import Finalist, rank_with_finals, read_finalists, winner_of
from otter_ray.study.gallery import is_about, read_gallery
from otter_ray.study.journal import journal_errors, lost_beginning, read_study
from otter_ray.study.layout import CONFIG_FILE, SPACE_FILE, StudyFolder, require_file, require_journal
from otter_ray.study.schema import METRIC, WINNER
from otter_ray.study.trials import TrialRecord, direction_of, objectives_of, trial_record

T = TypeVar("T")


@dataclass(frozen=True)
class StudyData:
    """A study as it is now, running or done, with everything that a report shows of it."""

    study: optuna.Study
    folder: Path
    _unreadable: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> StudyData:
        """Open the study in a folder.

        Raises:
            FileError: The journal cannot be read.
            StudyError: The folder holds no study.
        """
        journal = require_journal(folder)
        with journal_errors(journal):
            study = read_study(journal)
            if study is not None:
                data = cls(study, folder)
                _ = data.rows
                return data
        if (own := StudyFolder(folder)).has_trials():
            raise lost_beginning(own)
        raise StudyError(f"{journal} holds no study yet. Wait for its first trial.")

    def unreadable(self) -> list[str]:
        """Read all files beside the journal, and return what is wrong with those that cannot be read."""
        _ = self.finalists, self.model, self.pictures, self.config, self.space, self.environment
        return self._unreadable

    @cached_property
    def rows(self) -> list[TrialRecord]:
        """Its trials, as they are in `trials`: the study may be running."""
        others = objectives_of(self.study)
        return [trial_record(trial, self.direction, others) for trial in self.trials]

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """Its trials as Optuna holds them."""
        return self.study.get_trials(deepcopy=False)

    @property
    def metric(self) -> str:
        """The metric that the study optimizes."""
        return str(self.study.user_attrs[METRIC])

    @property
    def direction(self) -> Direction:
        """Which values of the metric are better."""
        return direction_of(self.study)

    @property
    def name(self) -> str:
        """Its name, CONFIG/STUDY."""
        return "/".join(self.folder.absolute().parts[-2:])

    @cached_property
    def finalists(self) -> list[Finalist]:
        """Its finalists, if it has any."""
        return self._read(lambda: read_finalists(self.study, self.folder, self.rows, self.direction)) or []

    @cached_property
    def winner(self) -> TrialRecord | None:
        """The best trial or finalist; if models were rejected, the one that was exported."""
        return winner_of(self.study, self._ranked, self.exported)

    @cached_property
    def _ranked(self) -> list[TrialRecord]:
        return rank_with_finals(self.rows, self.direction, self.finalists)

    @cached_property
    def model(self) -> tuple[Path, dict[str, Any]] | None:
        """The winner's ONNX file, and its JSON.

        The journal says which one it is. That of an earlier version does not: then it is the best trial's, or
        if it gave no model, the newest.
        """
        found, damaged = exports_in(self.folder)
        self._unreadable.extend(map(str, damaged))
        winners = [model for model in found if "base" in model[1]]
        if winner := self.study.user_attrs.get(WINNER):
            own = (model for model in winners if winner.items() <= model[1].items())
            return next(own, None)
        best = self._ranked[0].number if self._ranked else None
        newest_first = sorted(winners, key=lambda model: str(model[1]["date"]), reverse=True)
        return min(newest_first, key=lambda model: model[1]["trial"] != best, default=None)

    @property
    def exported(self) -> dict[str, Any] | None:
        """The JSON of the winner's ONNX file."""
        return self.model[1] if self.model else None

    @cached_property
    def pictures(self) -> dict[str, Any]:
        """The pictures kept for that file: `winner` and `base`; empty if there are none."""
        kept = self._read(lambda: read_gallery(self.folder))
        return kept if kept and self.model and is_about(kept, *self.model) else {}

    @cached_property
    def config(self) -> Config | None:
        """The study's config; None if the folder holds none that this version can read."""
        return self._parsed(load_config, self.folder / CONFIG_FILE)

    @cached_property
    def space(self) -> Space | None:
        """The study's search space; None as for `config`."""
        return self._parsed(load_space, self.folder / SPACE_FILE)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What is known of the machine and the code; empty if nothing is."""
        return self._read(lambda: read_environment(self.folder)) or {}

    @cached_property
    def drawable(self) -> optuna.Study:
        """A copy of the study for Optuna's charts (`drawable_study`)."""
        from otter_ray.report.optuna_charts import drawable_study

        return drawable_study(self.study, self.trials, self.rows, self.direction)

    def _parsed(self, parse: Callable[[str], T], file: Path) -> T | None:
        return self._read(lambda: parse(require_file(file))) if os.path.lexists(file) else None

    def _read(self, read: Callable[[], T]) -> T | None:
        """Return what is read; None if it cannot be read, which is remembered."""
        try:
            return read()
        except OtterError as exc:
            self._unreadable.append(str(exc))
            return None
