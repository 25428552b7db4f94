"""What a study begins with: the base config, then the best trials of another study, if it is to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from otter_ray.config import Config, Space, load_config
from otter_ray.errors import StudyError, did_you_mean
from otter_ray.report.finals import rank_with_finals, read_finalists
from otter_ray.report.rows import METRIC, TrialRow, mode_of, newest_study, open_journal, read_rows
from otter_ray.tune.folder import CONFIG_FILE, StudyFolder, config_of
from otter_ray.tune.keys import BASE, VALUES
from otter_ray.tune.storage import JOURNAL

BEST = 5  # trials of the other study, at most


def enqueue_base(study: optuna.Study, config: Config, space: Space) -> None:
    """The config as it stands is the next trial."""
    study.enqueue_trial(space.base_values(config), user_attrs={VALUES: BASE})


def enqueue_first(
    study: optuna.Study, config: Config, space: Space, others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """The base config is the first trial, `others`, parameters by name, are the next.

    A driver that died may have queued some of them.
    """
    queued = len(study.get_trials(deepcopy=False))
    if not queued:
        enqueue_base(study, config, space)
    for params in others[max(0, queued - 1) :]:
        study.enqueue_trial(dict(params))


def best_of(name: str, runs: Path, config: Config, space: Space, console: Console) -> list[dict[str, Any]]:
    """Parameters, by name, of another study's best trials, as far as this space holds what they ran with.

    Args:
        name: of a study of this config, CONFIG/STUDY, or a study's folder.

    Raises:
        StudyError: there is none, it has no trial with a value, or the spaces share nothing.
    """
    folder = _find(name, runs, config.name)
    study = newest_study(open_journal(folder.journal))
    rows = _best_first(study, folder) if study else []
    if study is None or not rows:
        raise StudyError(f"--warm-start {name}: {folder.path} has no trial with a value yet.")
    theirs = load_config(str(folder.path / CONFIG_FILE))
    searched = {key for row in rows for key in row.values}
    own = space.base_values(config)
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        params = space.base_values(config_of(folder, row.config, theirs).with_values(row.values))
        is_shared = any(p.name in params and searched & set(p.keys) for p in space.parameters)
        if is_shared and params != own and params not in found.values():
            found[row.number] = params
    if not found:
        raise StudyError(
            f"--warm-start {name}: nothing that it found lies in this search space, but for the base config. "
            f"It searched {', '.join(sorted(searched)) or 'nothing'}."
        )
    begin = list(found)[:BEST]
    values = {row.number: row.value for row in rows}
    told = ", ".join(f"{number} ({values[number]:.4f})" for number in begin)
    console.print(f"begins with the best of {folder.path} by {study.user_attrs[METRIC]}: trials {told}")
    return [found[number] for number in begin]


def _best_first(study: optuna.Study, folder: StudyFolder) -> list[TrialRow]:
    rows, mode = read_rows(study), mode_of(study)
    return rank_with_finals(rows, mode, read_finalists(study, folder.path, rows, mode))


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
