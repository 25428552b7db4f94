"""Callbacks that Otter's configs name, and the one through which a run reports."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from otter_ray.errors import TrainingError, did_you_mean
from otter_ray.files import to_disk
from otter_ray.train.distributed import any_rank, ranks
from otter_ray.train.report import EpochReport, Report, kept_as
from otter_ray.train.restore import read_checkpoint

BEST, LAST = "best.ckpt", "last.ckpt"
AGREE = 16  # steps after which several ranks ask each other whether to save
LOOK = 64  # steps after which the loss is looked at: a GPU has to be waited for


class CustomTQDMProgressBar(TQDMProgressBar):
    """A progress bar that counts images instead of batches.

    Args:
        unit_scale: images a batch; -1 in a config: the batch size.
    """

    def __init__(self, unit_scale: int = 1) -> None:
        super().__init__()
        self.unit_scale = unit_scale

    def init_train_tqdm(self) -> Tqdm:
        """Lightning's bar, in images."""
        bar = super().init_train_tqdm()
        bar.unit, bar.unit_scale = "img", self.unit_scale
        return bar


class EpochSetter(L.Callback):
    """Tells the training set which epoch it is, for those that draw other samples in each."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the epoch's first item is drawn."""
        set_epoch = getattr(getattr(trainer.train_dataloader, "dataset", None), "set_epoch", None)
        if set_epoch is not None:
            set_epoch(trainer.current_epoch)


class EpochSeed(L.Callback):
    """Seeds each epoch's random numbers by (seed, epoch): a run that goes on draws what it would have drawn.

    Lightning begins the first epoch of a process with its loader before any hook of that epoch, so an epoch
    is seeded when the one before it ends, and when a checkpoint is loaded.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.epoch = seed, 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds the next epoch."""
        self._seed(trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """The epoch that comes next."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        self._seed(state_dict["epoch"])

    def _seed(self, epoch: int) -> None:
        self.epoch = epoch
        words = np.random.SeedSequence([self.seed, epoch]).generate_state(1)
        L.seed_everything(int(words[0]), workers=True, verbose=False)


class Reporter(Checkpoint):
    """At the end of each validated epoch: saves `last.ckpt` and `best.ckpt`, then reports.

    A child of `Checkpoint`, so that Lightning runs it after every other callback has logged.

    Args:
        folder: where the checkpoints go.
        report: called with an `EpochReport`; what it raises ends the run.
        metric, mode: which epoch is best; `mode` is "max" or "min".
        save_soon: once set, `last.ckpt` is saved within an epoch, too, once.
        saved: called by the first rank after each `last.ckpt`, before the report.
        keep_every: epochs after which the checkpoint is kept under the epoch's name, too; None: never.
        goes_on: whether the checkpoint that the run begins with, if any, is its own.
    """

    def __init__(
        self,
        folder: Path,
        report: Report,
        metric: str,
        mode: str,
        save_soon: Event | None = None,
        saved: Callable[[], None] | None = None,
        keep_every: int | None = None,
        goes_on: bool = False,
    ) -> None:
        self.goes_on = goes_on
        self.folder, self.report, self.save_soon, self.saved = folder, report, save_soon, saved
        self.keep_every = keep_every
        self.metric, self.sign = metric, 1.0 if mode == "max" else -1.0
        self.best: float | None = None
        self.reports: list[EpochReport] = []
        self.validated = False
        self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and what was reported, which a resumed run goes on from."""
        return {"best": self.best, "reports": [asdict(report) for report in self.reports]}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the epoch's metrics into the checkpoint, so that a file alone says what it is worth."""
        checkpoint["metric"], checkpoint["metrics"] = self.metric, self._metrics(trainer)
        checkpoint["device"] = pl_module.device.type

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave. What another run did is not this one's."""
        if self.goes_on:
            self.best = state_dict["best"]
            self.reports = [EpochReport(**report) for report in state_dict["reports"]]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves what there is of the epoch where it may not live to its end. Refuses a loss that is none."""
        if trainer.is_last_batch or batch_idx % LOOK == LOOK - 1:
            _check_loss(outputs, trainer)
        if self.save_soon is None or (ranks() > 1 and batch_idx % AGREE):
            return
        # Saving is everybody's work: all do it after the same batch.
        if any_rank(self.save_soon.is_set(), pl_module.device):
            self.save_soon = None
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Marks that the metrics at hand are this epoch's."""
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves, which all ranks must do together, and reports."""
        if not self.validated:
            return
        self.validated = False
        metrics = self._metrics(trainer)
        value = self._value(metrics)
        # Nothing is greater than NaN: a first epoch without a value must not stay the best.
        best = self.best
        improved = best is None or math.isnan(best) or self.sign * value > self.sign * best
        if improved:
            self.best = value
        seconds = time.perf_counter() - self.started
        report = EpochReport(trainer.current_epoch + 1, metrics, seconds, improved)
        self.reports.append(report)
        copies = [BEST] if improved else []
        if self.keep_every and report.epoch % self.keep_every == 0:
            copies.append(kept_as(report.epoch))
        self._save(trainer, copies)
        self.report(report)

    def _metrics(self, trainer: L.Trainer) -> dict[str, float]:
        """What was logged, last in an earlier epoch perhaps: Lightning forgets that where a run goes on."""
        before = self.reports[-1].metrics if self.reports else {}
        return {**before, **{name: float(value) for name, value in trainer.callback_metrics.items()}}

    def _value(self, metrics: dict[str, float]) -> float:
        if self.metric not in metrics:
            raise TrainingError(
                f"the model never logged {self.metric!r}. It logged {', '.join(sorted(metrics))}."
                f"{did_you_mean(self.metric, metrics)}"
            )
        return metrics[self.metric]

    def _save(self, trainer: L.Trainer, copies: Sequence[str] = ()) -> None:
        """Writes beside the target and renames: a run killed in between keeps the previous file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{LAST}.partial"
        copy = self.folder / "copy.partial"
        try:
            trainer.save_checkpoint(partial, weights_only=False)
            if not trainer.is_global_zero:
                return
            to_disk(partial)
            for name in copies:
                shutil.copyfile(partial, copy)
                to_disk(copy)
                copy.replace(self.folder / name)
            partial.replace(self.folder / LAST)
        except OSError:
            # What is no checkpoint takes room that others need.
            partial.unlink(missing_ok=True)
            copy.unlink(missing_ok=True)
            raise
        if self.saved is not None:
            self.saved()


def reports_so_far(checkpoint: Path) -> list[EpochReport]:
    """Every epoch that its run had validated when the checkpoint was saved."""
    state = read_checkpoint(checkpoint)["callbacks"][Reporter.__name__]
    return [EpochReport(**report) for report in state["reports"]]


def _check_loss(outputs: Any, trainer: L.Trainer) -> None:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(loss, torch.Tensor) and not torch.isfinite(loss).all():
        raise TrainingError(
            f"the loss is {loss.mean().item()} after step {trainer.global_step}, in epoch "
            f"{trainer.current_epoch + 1}: the training diverged. A lower learning rate may help."
        )
