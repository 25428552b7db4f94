"""Callbacks that Otter's configs name, and the one by which a run reports."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from otter_ray.checkpoints import BEST_CHECKPOINT, LAST_CHECKPOINT, epoch_checkpoint
from otter_ray.config import Config
from otter_ray.disk import flush_to_disk
from otter_ray.errors import TrainingError, did_you_mean
from otter_ray.train.checkpoint.checkpoint_io import read_checkpoint
from otter_ray.train.distributed import any_rank, world_size
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.tracking.epoch_report import EpochReport, Report

STEPS_BETWEEN_VOTES = 16  # after which several ranks ask each other whether to save
STEPS_BETWEEN_LOSS_CHECKS = 64  # each of which waits for the GPU


class CustomTQDMProgressBar(TQDMProgressBar):
    """A progress bar that counts images instead of batches.

    Args:
        unit_scale: Images in a batch. -1 in a config means the batch size.
    """

    def __init__(self, unit_scale: int = 1) -> None:
        super().__init__()
        self.unit_scale = unit_scale

    def init_train_tqdm(self) -> Tqdm:
        """Return Lightning's bar, in images."""
        bar = super().init_train_tqdm()
        bar.unit, bar.unit_scale = "img", self.unit_scale
        return bar


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell a loader's data set and sampler the epoch, if they draw other samples in each."""
    for part in ("dataset", "sampler"):
        tell = getattr(getattr(loader, part, None), "set_epoch", None)
        if tell is not None:
            tell(epoch)


class EpochSetter(L.Callback):
    """Tells the training set the epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the epoch before its first item is drawn."""
        set_epoch(trainer.train_dataloader, trainer.current_epoch)


class EpochSeed(L.Callback):
    """Seeds each epoch's random numbers by (seed, epoch), so that a resumed run draws the same ones.

    Lightning begins the first epoch of a process with its loader before any hook of that epoch, so an epoch
    is seeded when the one before it ends, and when a checkpoint is loaded.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.epoch = seed, 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the next epoch."""
        self._seed(trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch that comes next."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._seed(state_dict["epoch"])

    def _seed(self, epoch: int) -> None:
        self.epoch = epoch
        words = np.random.SeedSequence([self.seed, epoch]).generate_state(1)
        L.seed_everything(int(words[0]), workers=True, verbose=False)


def next_epoch(checkpoint: Path) -> int:
    """Return the epoch with which a run continues from a checkpoint, 0 if the checkpoint does not say it."""
    state: dict[str, Any] = read_checkpoint(checkpoint).get("callbacks", {}).get(EpochSeed.__name__, {})
    return int(state.get("epoch", 0))


class Reporter(Checkpoint):
    """Saves `last.ckpt` and `best.ckpt` at the end of each validated epoch, then reports.

    A child of `Checkpoint`, so that Lightning runs it after every other callback has logged.

    Args:
        folder: Where the checkpoints go.
        report: Called with an `EpochReport`; what it raises ends the run.
        options: Which metric names the best epoch, and how.
        hooks: What a study asks of the run.
        resumes: Whether the checkpoint that the run begins with, if any, is its own.

    Attributes:
        config: What checkpoints hold as their config; None for the model's.
    """

    def __init__(
        self, folder: Path, report: Report, options: RunOptions, hooks: RunHooks, resumes: bool = False
    ) -> None:
        self.folder, self.report, self.resumes = folder, report, resumes
        self.config: Config | None = None
        self.save_soon, self.hooks = hooks.save_soon, hooks
        self.metric, self.direction = options.metric, options.direction
        self.best: float | None = None
        self.reports: list[EpochReport] = []
        self.validated = False
        self.of_validation: dict[str, float] = {}
        self.logged_before: dict[str, torch.Tensor] = {}
        self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far and the reports, from which a resumed run continues."""
        return {"best": self.best, "reports": [asdict(report) for report in self.reports]}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put config and metrics next to the weights: the file alone is a whole model, and says how good.

        Not by a hook of the model: a project that has that hook for itself would take the config away.
        """
        config = self.config or cast(BaseMixin, pl_module).config
        checkpoint["config"], checkpoint["config_name"] = config.to_dict(), config.name
        checkpoint["metric"], checkpoint["metrics"] = self.metric, self._metrics(trainer)
        checkpoint["mode"] = str(self.direction)
        checkpoint["scored_in"] = _scored_in(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, unless it was another run's."""
        if self.resumes:
            self.best = state_dict["best"]
            self.reports = [EpochReport(**report) for report in state_dict["reports"]]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if the loss is not finite, and save within the epoch if the machine will be taken away."""
        if trainer.is_last_batch or (batch_idx + 1) % STEPS_BETWEEN_LOSS_CHECKS == 0:
            _check_loss(outputs, trainer)
        if self.save_soon is None or (world_size() > 1 and batch_idx % STEPS_BETWEEN_VOTES):
            return
        # All ranks save together, after the same batch.
        if any_rank(self.save_soon.is_set(), pl_module.device):
            self.save_soon = None
            self._save(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what has been logged without this validation."""
        self.logged_before, self.of_validation = dict(trainer.callback_metrics), {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep what the validation has logged: the training may log a metric of the same name."""
        self.validated = not trainer.sanity_checking
        if self.validated:
            self.of_validation = {
                name: float(value)
                for name, value in trainer.callback_metrics.items()
                if value is not self.logged_before.get(name)
            }

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, which all ranks must do together, and report."""
        if not self.validated:
            return
        self.validated = False
        metrics = self._metrics(trainer)
        value = self._value(metrics)
        # No value is greater than NaN: a first epoch whose value is NaN must not stay the best.
        best = self.best
        improved = best is None or math.isnan(best) or self.direction.is_better(value, best)
        if improved:
            self.best = value
        seconds = time.perf_counter() - self.started
        report = EpochReport(trainer.current_epoch + 1, metrics, seconds, improved)
        self.reports.append(report)
        copies = [BEST_CHECKPOINT] if improved else []
        if self.hooks.keep_every and report.epoch % self.hooks.keep_every == 0:
            copies.append(epoch_checkpoint(report.epoch))
        self._save(trainer, copies)
        self.report(report)

    def _metrics(self, trainer: L.Trainer) -> dict[str, float]:
        """Return what was logged, perhaps in an earlier epoch: Lightning forgets that when a run resumes."""
        before = self.reports[-1].metrics if self.reports else {}
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return {**before, **logged, **self.of_validation}

    def _value(self, metrics: dict[str, float]) -> float:
        if self.metric not in metrics:
            raise TrainingError(
                f"the model never logged {self.metric!r}.{did_you_mean(self.metric, metrics)} "
                f"It logged {', '.join(sorted(metrics))}."
            )
        return metrics[self.metric]

    def _save(self, trainer: L.Trainer, copies: Sequence[str] = ()) -> None:
        """Write to another file and rename it: a run that is killed in between keeps the previous one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{LAST_CHECKPOINT}.partial"
        copy = self.folder / "copy.partial"
        try:
            trainer.save_checkpoint(partial, weights_only=False)
            if not trainer.is_global_zero:
                return
            flush_to_disk(partial)
            for name in copies:
                shutil.copyfile(partial, copy)
                flush_to_disk(copy)
                copy.replace(self.folder / name)
            partial.replace(self.folder / LAST_CHECKPOINT)
        except OSError:
            # Half a checkpoint takes space that others need.
            partial.unlink(missing_ok=True)
            copy.unlink(missing_ok=True)
            raise
        if self.hooks.saved is not None:
            self.hooks.saved()


def reports_so_far(checkpoint: Path) -> list[EpochReport]:
    """Return every epoch that a run had validated when it saved the checkpoint."""
    state = read_checkpoint(checkpoint)["callbacks"][Reporter.__name__]
    return [EpochReport(**report) for report in state["reports"]]


def _scored_in(trainer: L.Trainer, model: L.LightningModule) -> str:
    """Return the type in which products are computed in a validation: float32 in a mixed precision."""
    if trainer.precision in ("bf16-true", "transformer-engine"):
        return "bfloat16"
    # On a GPU even float32 is TensorFloat-32 in a convolution: it has the digits of float16.
    exact = model.device.type == "cpu" and not str(trainer.precision).endswith("16-true")
    return "float32" if exact else "float16"


def _check_loss(outputs: Any, trainer: L.Trainer) -> None:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(loss, torch.Tensor) and not torch.isfinite(loss).all():
        raise TrainingError(
            f"the loss is {loss.mean().item()} after step {trainer.global_step}, in epoch "
            f"{trainer.current_epoch + 1}: the training diverged. A lower learning rate may help."
        )
