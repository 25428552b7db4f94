"""Train one run, whoever launches it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from otter_ray.checkpoints import best_checkpoint_of, checkpoints_of
from otter_ray.config import Config, to_yaml
from otter_ray.cpus import available_cpus
from otter_ray.errors import DataError, TrainingError
from otter_ray.train.builders import (
    build_dataloader,
    build_datasets,
    build_model,
    build_trainer,
    fill_classes,
)
from otter_ray.train.callbacks import Reporter, next_epoch, set_epoch
from otter_ray.train.checkpoint.checkpoint_io import describe_checkpoint, read_checkpoint
from otter_ray.train.checkpoint.restore import find_restore, pin_restore, restore
from otter_ray.train.checks.epoch_checks import check_loader
from otter_ray.train.distributed import world_size
from otter_ray.train.loader_options import with_objects
from otter_ray.train.model.complexity import write_model_stats
from otter_ray.train.model.declared_metrics import first_score
from otter_ray.train.registry import by_project
from otter_ray.train.run_options import DEFAULTS, RunHooks, RunOptions
from otter_ray.train.tracking.environment import write_environment
from otter_ray.train.tracking.epoch_report import Report
from otter_ray.train.tracking.lightning_warnings import quiet_lightning
from otter_ray.train.tracking.loggers import open_loggers, remember_runs

logger = logging.getLogger(__name__)


def run_training(
    config: Config,
    folder: Path,
    report: Report,
    options: RunOptions = DEFAULTS,
    hooks: RunHooks | None = None,
) -> Path:
    """Train a config and return the path of its best checkpoint.

    Args:
        config: The config as loaded; every -1 is filled in here.
        folder: The run's folder, for `config.yaml`, `checkpoints/` and the logger's files; a standalone run
            also writes `preview/`, `environment.json` and `model.json`.
        report: Called after each validated epoch; what it raises ends the run.
        options: How to train.
        hooks: What the study asks whose trial this run is: a trial has no progress bar and no summary, and
            no previews unless the config asks for them. None for a standalone run.

    Raises:
        OtterError: The config or its data cannot be used.
    """
    checkpoint, cpus = options.checkpoint, options.cpus or available_cpus()
    if checkpoint is not None and not checkpoint.is_file():
        raise TrainingError(f"no checkpoint at {checkpoint} to resume from. Start the run without --resume.")
    folder.mkdir(parents=True, exist_ok=True)
    standalone, asked = hooks is None, hooks or RunHooks()
    options = replace(options, metric=options.metric or first_score(config))
    hparams = asked.hparams
    with quiet_lightning(), open_loggers(config, folder, hparams) as loggers:
        L.seed_everything(config.common.seed, workers=True, verbose=False)
        config = _pinned(config, checkpoint)
        own = checkpoints_of(folder)
        resumes = checkpoint is not None and checkpoint.parent == own
        reporter = Reporter(own, report, options, asked, resumes)
        trainer = build_trainer(config, folder, reporter, standalone, options.launcher, hparams, loggers)
        # The ranks meet before there are loaders and centres to be shared out.
        trainer.strategy.setup_environment()
        config, train, valid = prepare_loaders(config, cpus)
        model = build_model(config)
        reporter.config = config
        model.previews = standalone if config.common.preview is None else config.common.preview
        if trainer.is_global_zero:
            remember_runs(loggers, folder)
            (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        if standalone and trainer.is_global_zero:
            write_environment(folder, config.project)
            write_model_stats(config, model, folder)
        if checkpoint is None:
            source = find_restore(config)
            if source is not None and standalone and trainer.is_global_zero:
                logger.info(f"starts from {describe_checkpoint(source)}")
            checkpoint = restore(config, model)
        if checkpoint is not None:
            # Lightning lets the loader's workers begin before any hook.
            set_epoch(train, next_epoch(checkpoint))
        with _interrupt_as_such():
            trainer.fit(model.lightning_module, train, valid, ckpt_path=checkpoint, weights_only=True)
    best = best_checkpoint_of(folder)
    if trainer.is_global_zero and not best.is_file():
        ends = [key for key in ("max_steps", "max_time") if config.has(f"trainer.{key}")]
        remedy = f"Remove {' or '.join(f'trainer.{key}' for key in ends)}." if ends else "Look at its log."
        raise TrainingError(f"no epoch was validated, so there is no best checkpoint. {remedy}")
    return best


def _pinned(config: Config, checkpoint: Path | None) -> Config:
    """Return the config as it is recorded: where a run started does not change when it resumes."""
    if checkpoint is None:
        return pin_restore(config, find_restore(config))
    began = read_checkpoint(checkpoint).get("config", {}).get("common", {})
    keys = [key for key in ("is_restore", "restore_ind", "restore_ckpt") if key in began]
    return config.with_values({f"common.{key}": began[key] for key in keys})


@by_project
def prepare_loaders(config: Config, cpus: int) -> tuple[Config, DataLoader[Any], DataLoader[Any]]:
    """Return the config with its classes counted, the training loader and the validation loader."""
    train, valid = build_datasets(config)
    config = fill_classes(config, train)
    batch_size = config.common.batch_size
    options = with_objects(config, "train_options", train)
    loader = build_dataloader(train, options, batch_size, cpus, even=True, seed=config.common.seed)
    # CPUs that load data do not train.
    torch.set_num_threads(max(1, cpus - loader.num_workers))
    if len(valid) < world_size():  # type: ignore[arg-type]
        raise DataError(
            f"{len(valid)} validation items are too few for {world_size()} workers: each needs one. "  # type: ignore[arg-type]
            "Lower resources.workers_per_trial, or add validation items."
        )
    check_loader(config, loader)
    options = with_objects(config, "valid_options", valid)
    return config, loader, build_dataloader(valid, options, batch_size, cpus)


@contextmanager
def _interrupt_as_such() -> Iterator[None]:
    """Raise KeyboardInterrupt where Lightning turned Ctrl-C into `sys.exit(1)`."""
    try:
        yield
    except SystemExit as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from exc
        raise
