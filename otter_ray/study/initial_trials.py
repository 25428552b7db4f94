"""What a study begins with: the base config, then what is enqueued, then the best trials of another study."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from otter_ray.config import load_config
from otter_ray.errors import StudyError, did_you_mean
from otter_ray.space import SearchProblem
from otter_ray.study.finalists import rank_with_finals, read_finalists
from otter_ray.study.journal import journal_errors, read_study
from otter_ray.study.layout import JOURNAL, StudyFolder, require_file
from otter_ray.study.opening import base_config_of
from otter_ray.study.schema import BASE, METRIC, VALUES
from otter_ray.study.trials import TrialRecord, direction_of, read_records

logger = logging.getLogger(__name__)

BEST = 5  # trials of the other study, at most


@dataclass(frozen=True)
class InitialTrials:
    """The trials that a new study begins with: base config, enqueued trials, best ones of another study.

    Attributes:
        problem: Of the new study.
        warm_start: The name or folder of the other study; None without one.
        runs: The folder of all studies.
    """

    problem: SearchProblem
    warm_start: str | None = None
    runs: Path = Path("runs")

    @cached_property
    def others(self) -> list[dict[str, Any]]:
        """Parameters, by name, of the trials that come after the base config."""
        warm = warm_start_params(self.warm_start, self.runs, self.problem) if self.warm_start else []
        return [*self.problem.enqueued, *warm]

    def load(self) -> None:
        """Read the other study now, so that a mistake is reported before the new study has a folder.

        Raises:
            StudyError: There is no such study, or it has nothing to begin with.
        """
        _ = self.others
        enqueued, left = len(self.problem.enqueued), self.problem.options.num_trials - 1
        if enqueued > left:
            logger.warning(
                f"{enqueued} trials are enqueued, but only {left} come after the base config. The others do "
                "not run. Raise --trials."
            )
        elif enqueued:
            logger.info(f"enqueued after the base config: {enqueued} trial{'s' * (enqueued > 1)}")

    def enqueue(self, study: optuna.Study) -> None:
        """Queue the trials.

        Args:
            study: A new one. A driver that died may have queued some of them.

        Raises:
            StudyError: There is no such other study, or it has nothing to begin with.
        """
        enqueue_first(study, self.problem, self.others)


def enqueue_base(study: optuna.Study, problem: SearchProblem) -> None:
    """Make the base config the next trial."""
    study.enqueue_trial(problem.base_params, user_attrs={VALUES: BASE})


def enqueue_first(
    study: optuna.Study, problem: SearchProblem, others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Make the base config the first trial, and `others` the next.

    A driver that died may have queued some of them.

    Args:
        study: That begins.
        problem: What it searches.
        others: Parameters by name.
    """
    queued = len(study.get_trials(deepcopy=False))
    if not queued:
        enqueue_base(study, problem)
    for params in others[max(0, queued - 1) :]:
        study.enqueue_trial(dict(params))


def warm_start_params(name: str, runs: Path, problem: SearchProblem) -> list[dict[str, Any]]:
    """Return the parameters of another study's best trials, as far as this space holds what they ran with.

    Args:
        name: The name of a study of this config, CONFIG/STUDY, or a study's folder.
        runs: The folder of all studies.
        problem: What this study searches.

    Returns:
        For each trial, parameter name -> value.

    Raises:
        StudyError: there is none, it has no trial with a value, or the spaces share nothing.
    """
    space = problem.space
    folder = _find(name, runs, problem.config.name)
    with journal_errors(folder.journal):
        study = read_study(folder.journal)
        rows = _best_first(study, folder) if study else []
    if study is None or not rows:
        raise StudyError(f"--warm-start {name}: {folder.path} has no trial with a value yet.")
    theirs = load_config(require_file(folder.config_file))
    searched = {key for row in rows for key in row.values}
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        params = space.base_values(base_config_of(folder, row.config, theirs).with_values(row.values))
        is_shared = any(p.name in params and searched & set(p.keys) for p in space.parameters)
        if is_shared and params != problem.base_params and params not in found.values():
            found[row.number] = params
    if not found:
        raise StudyError(
            f"--warm-start {name}: none of its trials fits this search space, except the base config. "
            f"That study searched {', '.join(sorted(searched)) or 'nothing'}."
        )
    begin = list(found)[:BEST]
    values = {row.number: row.value for row in rows}
    told = ", ".join(f"{number} ({values[number]:.4f})" for number in begin)
    logger.info(f"begins with the best of {folder.path} by {study.user_attrs[METRIC]}: trials {told}")
    return [found[number] for number in begin]


def _best_first(study: optuna.Study, folder: StudyFolder) -> list[TrialRecord]:
    rows, direction = read_records(study), direction_of(study)
    return rank_with_finals(rows, direction, read_finalists(study, folder.path, rows, direction))


def _find(name: str, runs: Path, config: str) -> StudyFolder:
    for path in (runs / config / name, runs / name, Path(name)):
        if (path / JOURNAL).is_file():
            return StudyFolder(path.absolute())
    there = sorted(str(path.parent.relative_to(runs)) for path in runs.glob(f"*/*/{JOURNAL}"))
    listed = f"There are: {', '.join(there)}." if there else f"There are none in {runs}."
    raise StudyError(
        f"--warm-start {name}: there is no such study on this machine.{did_you_mean(name, there)} {listed} "
        "Of one that is kept in a --storage fetch study.journal and config.yaml first."
    )
