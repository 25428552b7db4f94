"""`BaseMixin`: what every Otter model shares, beside being a LightningModule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm.optim
import torch
from torch.optim import Optimizer

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.train.components import find_class

if TYPE_CHECKING:
    import lightning as L

    _Base = L.LightningModule
else:
    _Base = object

WARMUP_SHARE = 0.1


class BaseMixin(_Base):
    """Optimizer and schedule from the config, for a LightningModule that keeps it as `self.config`.

    Class attributes:
        METRICS: names that the model logs, so that a monitor of anything else is refused before the
            start; empty: not known.
        SCORES: names that `score` gives: what a study can be about.
    """

    METRICS: tuple[str, ...] = ()
    SCORES: tuple[str, ...] = ()
    config: Config

    def configure_optimizers(self) -> Any:
        """The config's optimizer, without decay on biases and norms, and its schedule if it names one."""
        optimizer = self._build_optimizer()
        section = self.config.lr_scheduler
        if section is None:
            return optimizer
        cls = find_class(section.name, "lr_scheduler", self.config.project)
        options = self._schedule_options(section.options)
        try:
            schedule = cls(optimizer, **options)
        except (TypeError, ValueError) as exc:
            message = f"{section.name} refuses them: {exc}"
            raise ConfigError([self.config.problem("lr_scheduler.options", message)]) from exc
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **section.pl_options}}

    def _build_optimizer(self) -> Optimizer:
        section = self.config.optimizer
        cls = find_class(section.name, "optimizer", self.config.project)
        decay = float(section.options.get("weight_decay", 0.0))
        # timm leaves one-dimensional parameters (biases, norms) out of the decay.
        groups = timm.optim.param_groups_weight_decay(self, weight_decay=decay)
        optimizer: Optimizer = cls(groups, **section.options)
        return optimizer

    def _schedule_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The schedule's options with -1 filled in from the run's length."""
        filled = dict(options)
        steps = int(self.trainer.estimated_stepping_batches)
        if filled.get("total_iters") == -1:
            filled["total_iters"] = steps
        if filled.get("warmup_iters") == -1:
            filled["warmup_iters"] = int(filled.get("total_iters", steps) * WARMUP_SHARE)
        return filled

    def get_lr(self) -> float:
        """The learning rate of the first parameter group, now."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def score(self, outputs: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """Metrics of a whole validation set, from what the exported wrapper gives and the labels."""
        raise NotImplementedError(f"{type(self).__name__} must say how its outputs are scored")

    def score_details(self) -> dict[str, Any]:
        """What lies behind the last `score`, as plain data for a model's JSON; nothing by default."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the config, as plain data, beside the weights: a checkpoint is a model."""
        checkpoint["config"] = self.config.to_dict()
        checkpoint["config_name"] = self.config.name


def state_dict_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, on the CPU."""
    return dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
