"""Ours: the real command. Its space is the demo's, with random search, whose trials are known beforehand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from peers.job import METRIC, Job

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, Space, StudyOptions, load_space
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.journal import open_journal
from otter_ray.study.trials import read_records
from otter_ray.tune.samplers.factory import make_sampler

NAME = "ours"


def draw(job: Job, count: int) -> list[dict[str, Any]]:
    """What the command will draw: the base config, then random search's trials, which the seed gives."""
    config, space = load_config("demo", job.sets), _space(job)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=make_sampler(space.study, config.common.seed))
    enqueue_first(study, SearchProblem(config, space))
    return [space.suggest(study.ask(), config) for _ in range(count)]


def command(job: Job) -> list[str]:
    """The command of a shell; the space that it names is written."""
    file = Path(job.folder) / "space.yaml"
    file.write_text(yaml.safe_dump(_space(job).to_dict(), sort_keys=False))
    tune = [sys.executable, "-m", "otter_ray.tune", "demo", "--space", str(file)]
    tune += ["--trials", str(len(job.trials)), "--runs", job.folder, "--name", NAME]
    return [*tune, *(part for text in job.sets for part in ("--set", text))]


def record(job: Job) -> None:
    """Writes the journal's epochs where the others write theirs, all at their trial's end.

    Raises SystemExit where other trials ran, or one failed.
    """
    journal = Path(job.folder) / "demo" / NAME / "study.journal"
    study = optuna.load_study(study_name=NAME, storage=open_journal(journal))
    for row, trial in zip(read_records(study), study.trials, strict=True):
        given = job.trials[row.number]
        if row.state not in ("complete", "pruned") or not (row.is_base or row.values == given):
            raise SystemExit(f"ours: trial {row.number} is {row.state} with {row.values}, given was {given}")
        assert trial.datetime_complete is not None
        for epoch in range(1, row.epochs + 1):
            job.record(row.number, epoch, trial.datetime_complete.timestamp())


def _space(job: Job) -> Space:
    asha = {"grace_period": job.grace_period, "reduction_factor": job.reduction_factor}
    options = {
        "metric": METRIC,
        "sampler": {"name": "RandomSampler"},
        "scheduler": {"name": "ASHA", "metric": METRIC, "options": asha},
    }
    return replace(load_space("demo"), study=StudyOptions.model_validate(options))
