"""What a page says about a study is read here, once, from its folder alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial

from otter_ray.config import Config, Space, load_config, load_space
from otter_ray.errors import OtterError
from otter_ray.report import optuna_charts
from otter_ray.report.finals import Finalist, rank_with_finals, read_finalists
from otter_ray.report.gallery import read_gallery
from otter_ray.report.rows import METRIC, REJECTED, TrialRow, mode_of, objectives_of, trial_row
from otter_ray.report.tables import newest_model

T = TypeVar("T")


@dataclass(frozen=True)
class Story:
    """A study as it stands, running or done, with what a page wants to know of it."""

    study: optuna.Study
    folder: Path

    @cached_property
    def rows(self) -> list[TrialRow]:
        """Its trials, of the same moment as `trials`: it may run on."""
        others = objectives_of(self.study)
        return [trial_row(trial, self.mode == "max", others) for trial in self.trials]

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """The same as Optuna has them."""
        return self.study.get_trials(deepcopy=False)

    @property
    def metric(self) -> str:
        """That it is about."""
        return str(self.study.user_attrs[METRIC])

    @property
    def mode(self) -> str:
        """`max` or `min`."""
        return mode_of(self.study)

    @property
    def name(self) -> str:
        """CONFIG/STUDY."""
        return "/".join(self.folder.absolute().parts[-2:])

    @cached_property
    def finalists(self) -> list[Finalist]:
        """Of the study, if it has any."""
        return read_finalists(self.study, self.folder, self.rows, self.mode)

    @cached_property
    def winner(self) -> TrialRow | None:
        """The best trial, or the best finalist; where models were refused, the one that was exported."""
        ranked = rank_with_finals(self.rows, self.mode, self.finalists)
        if self.study.user_attrs.get(REJECTED) and self.exported:
            ranked = [row for row in ranked if row.number == self.exported["trial"]] or ranked
        return next(iter(ranked), None)

    @cached_property
    def model(self) -> tuple[Path, dict[str, Any]] | None:
        """The winner's ONNX file, and its JSON."""
        return newest_model(self.folder)

    @property
    def exported(self) -> dict[str, Any] | None:
        """The JSON of the winner's ONNX file."""
        return self.model[1] if self.model else None

    @cached_property
    def pictures(self) -> dict[str, Any]:
        """What was kept to be shown of that file: `winner` and `base`; empty without any."""
        kept = read_gallery(self.folder)
        return kept if kept and self.model and kept["onnx"] == self.model[0].name else {}

    @cached_property
    def config(self) -> Config | None:
        """The study's; None where the folder has none that this version reads."""
        return _read(load_config, self.folder / "config.yaml")

    @cached_property
    def space(self) -> Space | None:
        """As `config`."""
        return _read(load_space, self.folder / "space.yaml")

    @cached_property
    def shown(self) -> optuna.Study:
        """As Optuna is to draw it."""
        return optuna_charts.as_study(self.study, self.trials, self.rows, self.mode)


def _read(reader: Callable[[str], T], path: Path) -> T | None:
    try:
        return reader(str(path)) if path.is_file() else None
    except OtterError:  # of an earlier version
        return None
