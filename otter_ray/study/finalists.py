"""The finalists of a study: its best trials, each trained again over several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import optuna

from otter_ray.direction import Direction
from otter_ray.formatting import fixed
from otter_ray.space.compatibility import SEED
from otter_ray.study.journal import lost_beginning, read_study
from otter_ray.study.layout import StudyFolder
from otter_ray.study.schema import FINALIST, FINALISTS, REJECTED
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import TrialRecord, direction_of, rank, trial_record

GIVEN_UP = TrialStatus.PRUNED  # a run that was stopped when its trial was no longer a finalist


@dataclass(frozen=True)
class Finalist:
    """A trial of the search, and its runs over seeds.

    Attributes:
        trial: its record in the search.
        runs: the runs that have begun, by seed.
        seeds: the number of runs that it is to have.
    """

    trial: TrialRecord
    runs: list[TrialRecord]
    seeds: int

    @property
    def ended(self) -> int:
        """How many of its runs have ended."""
        return sum(run.has_ended for run in self.runs)

    @property
    def values(self) -> list[float]:
        """The metric's best value in each run that did not fail."""
        return [run.value for run in self.runs if run.state == TrialStatus.COMPLETE and run.value is not None]

    @property
    def mean(self) -> float | None:
        """The mean of the values. The value in the search does not count: it was selected for being high."""
        return mean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the values, with n - 1; None for a single one."""
        return stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        spread = f" ± {self.spread:.4f}" if self.spread is not None else ""
        return f"{fixed(self.mean)}{spread}"


def top_of(rows: Sequence[TrialRecord], direction: Direction, top: int) -> list[TrialRecord]:
    """Return the trials that become finalists, best first.

    A trial that was stopped early may be among them. A trial that ran before the study's config was changed
    may not: it cannot be trained again under the same conditions. Of two trials with the same values, the
    better one is enough.
    """
    able = [row for row in rank(rows, direction) if row.has_ended and row.config is None]
    unlike = [row for i, row in enumerate(able) if row.values not in [other.values for other in able[:i]]]
    return unlike[:top]


def runs_of(study: optuna.Study) -> dict[tuple[int, int], TrialRecord]:
    """Return the runs of a study of finals by (trial, seed); the newest if a run was started again."""
    trials, direction = study.get_trials(deepcopy=False), direction_of(study)
    rows = ((trial.user_attrs[FINALIST], trial_record(trial, direction, {})) for trial in trials)
    return {(number, row.values[SEED]): row for number, row in rows if row.state != GIVEN_UP}


def finalists_of(
    rows: Sequence[TrialRecord],
    direction: Direction,
    asked: Mapping[str, int] | None,
    finals: optuna.Study | None,
) -> list[Finalist]:
    """Return the finalists, the search's best first.

    Args:
        rows: the search's trials.
        direction: which values are better.
        asked: `top` and `seeds`; None: the study has none.
        finals: the study of their runs; None if none has begun.
    """
    if not asked:
        return []
    runs, seeds = runs_of(finals) if finals else {}, asked["seeds"]

    def finalist(row: TrialRecord) -> Finalist:
        own = sorted(seed for number, seed in runs if number == row.number)[:seeds]
        return Finalist(row, [runs[row.number, seed] for seed in own], seeds)

    return [finalist(row) for row in top_of(rows, direction, asked["top"])]


def read_finalists(
    study: optuna.Study, folder: Path, rows: Sequence[TrialRecord], direction: Direction
) -> list[Finalist]:
    """Read the finalists of the study in a folder, running or done."""
    own = StudyFolder(folder).finals
    finals = read_study(own.journal)
    if finals is None and own.has_trials():
        raise lost_beginning(own)
    return finalists_of(rows, direction, study.user_attrs.get(FINALISTS), finals)


def by_mean(finalists: Sequence[Finalist], direction: Direction) -> list[Finalist]:
    """Sort the finalists that have a mean, best first; of two equals the earlier trial."""
    able = [finalist for finalist in finalists if finalist.mean is not None]
    return sorted(
        able, key=lambda finalist: (-direction.sign * (finalist.mean or 0.0), finalist.trial.number)
    )


def are_decided(finalists: Sequence[Finalist]) -> bool:
    """Say whether every run has ended."""
    return all(finalist.ended == finalist.seeds for finalist in finalists)


def winner_of(
    study: optuna.Study, ranked: Sequence[TrialRecord], exported: Mapping[str, Any] | None
) -> TrialRecord | None:
    """Return the trial that has won: the best one, or the exported one if better ones gave no model.

    Args:
        study: the study.
        ranked: its trials that can win, best first.
        exported: the JSON of the winner's ONNX file, if there is one.
    """
    if study.user_attrs.get(REJECTED) and exported:
        ranked = [row for row in ranked if row.number == exported["trial"]] or ranked
    return next(iter(ranked), None)


def rank_with_finals(
    rows: Sequence[TrialRecord], direction: Direction, finalists: Sequence[Finalist]
) -> list[TrialRecord]:
    """Return the trials that can win, best first: decided finalists by their mean, then the others."""
    first = [f.trial for f in by_mean(finalists, direction)] if are_decided(finalists) else []
    return [*first, *(row for row in rank(rows, direction) if row not in first)]
