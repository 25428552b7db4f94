"""One training run, whoever launches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from otter_ray.config import Config, to_yaml
from otter_ray.errors import ConfigError, DataError, TrainingError
from otter_ray.train.builders import (
    build_dataloader,
    build_datasets,
    build_model,
    build_trainer,
    fill_classes,
)
from otter_ray.train.callbacks import BEST, Reporter
from otter_ray.train.cpus import available_cpus
from otter_ray.train.distributed import ranks
from otter_ray.train.hparams import HParams
from otter_ray.train.quiet import quiet
from otter_ray.train.record import write_environment, write_figures
from otter_ray.train.report import Report
from otter_ray.train.restore import described, find_restore, pin_restore, read_checkpoint, restore


def run_training(
    config: Config,
    folder: Path,
    report: Report,
    *,
    metric: str = "valid_fpr@4",
    mode: str = "max",
    cpus: int | None = None,
    standalone: bool = True,
    checkpoint: Path | None = None,
    launcher: Mapping[str, Any] | None = None,
    save_soon: Event | None = None,
    saved: Callable[[], None] | None = None,
    keep_every: int | None = None,
    hparams: HParams | None = None,
) -> Path:
    """Trains a config and gives the path of its best checkpoint.

    Args:
        config: as loaded; every -1 is filled in here.
        folder: the run's: `config.yaml`, `checkpoints/`, the logger's files; of a lone run also `preview/`,
            `environment.json` and `model.json`.
        report: called after each validated epoch; what it raises ends the run.
        metric, mode: which epoch is best.
        cpus: of each process, for the training loader's workers and torch's threads together; None: all.
        standalone: False inside a study: no progress bars and summaries, no previews unless asked for.
        checkpoint: of this run, to go on from; None: from fresh weights, or from the earlier run that
            `common.is_restore` asks for.
        launcher: where several processes train together, each calls this: Lightning's Trainer arguments
            (strategy, devices, ...) of whoever started them. Each reports; the first writes.
        save_soon: once set, `last.ckpt` is saved within an epoch, too: the machine is about to be taken away.
        saved: called after each checkpoint, before the report, where it is written.
        keep_every: epochs after which a checkpoint is kept under the epoch's name, too.
        hparams: what tells this run apart from others, for TensorBoard's table of them.

    Raises:
        OtterError: the config or its data cannot be used.
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise TrainingError(f"no checkpoint at {checkpoint} to go on from. Start the run without --resume.")
    cpus = cpus or available_cpus()
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        L.seed_everything(config.common.seed, workers=True, verbose=False)
        config = _pinned(config, checkpoint)
        own = folder / "checkpoints"
        goes_on = checkpoint is not None and checkpoint.parent == own
        reporter = Reporter(own, report, metric, mode, save_soon, saved, keep_every, goes_on)
        trainer = build_trainer(config, folder, reporter, standalone, launcher, hparams)
        # The ranks meet before there are loaders and centres to be shared out.
        trainer.strategy.setup_environment()
        config, train, valid = prepare(config, cpus)
        model = build_model(config)
        model.previews = standalone if config.common.preview is None else config.common.preview
        if trainer.is_global_zero:
            (folder / "config.yaml").write_text(to_yaml(config))
        if standalone and trainer.is_global_zero:
            write_environment(folder)
            write_figures(config, model, folder)
        if checkpoint is None:
            source = find_restore(config)
            if source is not None and standalone and trainer.is_global_zero:
                print(f"starts from {described(source)}")
            checkpoint = restore(config, model)
        with _honest_interrupt():
            trainer.fit(model, train, valid, ckpt_path=checkpoint, weights_only=True)
    best = folder / "checkpoints" / BEST
    if trainer.is_global_zero and not best.is_file():
        raise TrainingError(
            "no epoch was validated, so there is no best checkpoint. Let trainer.check_val_every_n_epoch be "
            "at most trainer.max_epochs, and trainer.limit_val_batches above 0."
        )
    return best


def _pinned(config: Config, checkpoint: Path | None) -> Config:
    """The config as it stays on record: where a run began does not change when it goes on."""
    if checkpoint is None:
        return pin_restore(config, find_restore(config))
    began = read_checkpoint(checkpoint).get("config", {}).get("common", {})
    keys = [key for key in ("is_restore", "restore_ind", "restore_ckpt") if key in began]
    return config.with_values({f"common.{key}": began[key] for key in keys})


def prepare(config: Config, cpus: int) -> tuple[Config, DataLoader[Any], DataLoader[Any]]:
    """The config with its classes counted, and both loaders."""
    train, valid = build_datasets(config)
    config = fill_classes(config, train)
    batch_size = config.common.batch_size
    options = config.dataloader.train_options
    loader = build_dataloader(train, options, batch_size, cpus, even=True, seed=config.common.seed)
    # Of the CPUs those that load do not train.
    torch.set_num_threads(max(1, cpus - loader.num_workers))
    if len(valid) < ranks():  # type: ignore[arg-type]
        raise DataError(
            f"{len(valid)} images to validate with are too few for {ranks()} workers: each needs one. "  # type: ignore[arg-type]
            "Lower resources.workers_per_trial, or validate with more."
        )
    if not len(loader):
        message = (
            f"{loader.batch_size} is more than the training set has items, and drop_last is true. Lower it."
        )
        raise ConfigError([config.problem("common.batch_size", message)])
    return config, loader, build_dataloader(valid, config.dataloader.valid_options, batch_size, cpus)


@contextmanager
def _honest_interrupt() -> Iterator[None]:
    """Lightning turns Ctrl-C into `sys.exit(1)`: the caller is to see what it was."""
    try:
        yield
    except SystemExit as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from exc
        raise
