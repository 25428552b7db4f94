"""A study, from the plan to the proven ONNX file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from rich.console import Console

from otter_ray.config import Config, Space, to_yaml
from otter_ray.errors import OtterError, StudyError
from otter_ray.export.run import Exported, export_checkpoint
from otter_ray.report.rows import TrialRow, rank, read_rows, write_parquet
from otter_ray.train.record import write_environment
from otter_ray.tune.folder import StudyFolder, keep_or_compare, open_study
from otter_ray.tune.names import trial_name
from otter_ray.tune.plan import Plan
from otter_ray.tune.prepare import keep_restore, prepare_data, prepare_weights
from otter_ray.tune.requeue import requeue_interrupted
from otter_ray.tune.storage import TRIALS, Storage

# Of a trial whose process or node died; a node that was announced to go does not count.
RETRIES = 3


@dataclass(frozen=True)
class Outcome:
    """What a study leaves behind.

    Attributes:
        rows: its trials.
        winner: the best trial whose ONNX file passed the gate; None where none did.
        exported: that file.
        rejected: candidates that failed the gate, with the reason.
    """

    rows: list[TrialRow]
    winner: TrialRow | None
    exported: Exported | None
    rejected: list[str]


@dataclass(frozen=True)
class Search:
    """A study that is ready to run: what is searched, where it is written down, and where that is kept."""

    config: Config
    space: Space
    folder: StudyFolder
    study: optuna.Study
    storage: Storage | None = None

    def trials_left(self) -> int:
        """Trials still to be run; those that were broken off are put into the queue again."""
        return self.space.study.num_trials - requeue_interrupted(self.study)

    def keep(self) -> None:
        """Brings what the study's folder holds to its storage. Raises StudyError."""
        if self.storage is None:
            return
        try:
            self.storage.put_study(self.folder.path)
        except OSError as exc:
            raise StudyError(
                f"{self.storage.uri} cannot be written: {exc}. Nothing is lost: it is in {self.folder.path}, "
                f"and --name {self.folder.name} --resume brings it there."
            ) from exc

    def has_winner(self) -> bool:
        """Whether any trial has a value."""
        return bool(rank(read_rows(self.study), self.space.study.mode))


def prepare(
    config: Config, space: Space, folder: StudyFolder, console: Console, storage: Storage | None = None
) -> Search:
    """Everything that is done once before the trials start.

    Raises:
        DataError: the data of the config, or of a branch of the space, cannot be used.
        StudyError: the study began with another config or space.
        TrainingError: weights to start from cannot be had, or do not fit.
    """
    keep_or_compare(folder, config, space)
    config = keep_restore(config, space, folder, console)
    classes = prepare_data(config, space, folder, console)
    prepare_weights(config, space, classes, console)
    study = open_study(folder, space.study, config.common.seed)
    write_environment(folder.path)
    search = Search(config, space, folder, study, storage)
    search.keep()
    return search


@contextmanager
def removed_if_unused(folder: StudyFolder) -> Iterator[None]:
    """Takes a new study's folder away again where the preparation fails: the name stays free."""
    try:
        yield
    except BaseException:
        if not folder.journal.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def run_trials(
    search: Search, plan: Plan, console: Console, autoscaler: Mapping[str, Any] | None = None
) -> None:
    """Runs the trials that the plan counts, as many at once as the nodes hold; returns early on Ctrl-C."""
    from ray import tune

    from otter_ray.tune.trial import TrialSetup, run_trial

    config, space = search.config, search.space
    setup = TrialSetup(
        config=config.to_dict(),
        config_name=config.name,
        study=str(search.folder.path),
        storage=search.storage,
        metric=space.study.metric,
        mode=space.study.mode,
        workers=plan.workers,
        cpus=plan.cpus,
        gpus=plan.gpus,
        cwd=os.getcwd(),
    )
    resources = tune.PlacementGroupFactory([setup.slot])
    trainable = tune.with_resources(partial(run_trial, setup), resources)
    # What the dashboard's list of actors shows: a slot runs many trials.
    trainable.__name__ = f"{config.name}/{search.folder.name}"
    run_trainable(trainable, search, plan, console, autoscaler)


def run_trainable(
    trainable: Any, search: Search, plan: Plan, console: Console, autoscaler: Mapping[str, Any] | None = None
) -> None:
    """Runs a Tune trainable that takes and reports what `run_trial` does."""
    from ray import tune

    from otter_ray.tune.cluster import LiveLimit
    from otter_ray.tune.groups import GroupRemover
    from otter_ray.tune.metrics import StudyMetrics
    from otter_ray.tune.mirror import JournalMirror
    from otter_ray.tune.progress import ProgressLines
    from otter_ray.tune.scheduler import build_scheduler
    from otter_ray.tune.searcher import OptunaBridge

    config, space = search.config, search.space
    name = f"{config.name}/{search.folder.name}"
    bridge = OptunaBridge(search.study, space, config, LiveLimit(plan, autoscaler))
    lines = ProgressLines(console, space.study, config.trainer.max_epochs, plan)
    callbacks = [lines, GroupRemover(), StudyMetrics(search.study, name)]
    if search.storage is not None:
        callbacks.append(JournalMirror(search.storage, search.folder.path, console))
    scratch = tempfile.mkdtemp(prefix="otter_ray_")
    try:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=bridge,
                scheduler=build_scheduler(space.study, bridge, config.trainer.max_epochs),
                num_samples=plan.trials,
                # A slot that only waits for a worker group holds nothing warm, and ends with its group.
                reuse_actors=plan.workers == 1,
                trial_name_creator=lambda trial: trial_name(config.name, trial.config),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=search.folder.name,
                storage_path=scratch,
                verbose=0,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def export_winner(search: Search) -> Outcome:
    """Exports the best trial that passes the gate, and writes `best.yaml`, `best.ckpt`."""
    folder = search.folder
    rows = read_rows(search.study)
    write_parquet(rows, folder.path / "trials.parquet")
    rejected: list[str] = []
    for row in rank(rows, search.space.study.mode):
        trial = folder.trial(row.number)
        if search.storage is not None:
            search.storage.get(f"{TRIALS}/{trial.name}", trial)
        try:
            exported = export_checkpoint(trial / "checkpoints" / "best.ckpt", folder.path)
        except OtterError as exc:
            rejected.append(f"trial {row.number} ({row.value:.4f}) failed the gate: {exc}")
            continue
        shutil.copyfile(trial / "checkpoints" / "best.ckpt", folder.path / "best.ckpt")
        (folder.path / "best.yaml").write_text(to_yaml(search.config.with_values(row.values)))
        return Outcome(rows, row, exported, rejected)
    return Outcome(rows, None, None, rejected)
