"""`schedule:` of a config: options of the optimizer that change within a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from torch.optim import Optimizer

from otter_ray.config import Config


class Retune(L.Callback):
    """Gives the optimizer the values of the epoch that begins, where they are not those of the one before.

    A run that goes on from a checkpoint has that one's values, so this is also how a trial goes on from
    another trial's checkpoint.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the epoch's first step, not where a run goes on within the epoch."""
        epoch = trainer.current_epoch
        # A new optimizer has the config's own values, which hold last.
        then = self.config.during(epoch) if epoch else self.config
        now = self.config.during(epoch + 1)
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        for optimizer in trainer.optimizers:
            retune(optimizer, schedules, then.optimizer.options, now.optimizer.options)


def retune(
    optimizer: Optimizer, schedules: list[Any], then: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Changes an optimizer's options within a run.

    The learning rate changes by a factor, in groups of other rates, too, and in what `schedules` begin
    from. Any other number changes in the groups that have its value: those without decay stay so, but where
    it was 0 in all of them.
    """
    for name, new in now.items():
        old = then.get(name)
        if new == old:
            continue
        if name == "lr":
            for rates in [*optimizer.param_groups, *(vars(schedule) for schedule in schedules)]:
                _scale(rates, new / old)
            continue
        for group in optimizer.param_groups:
            if name in group and group[name] == old:
                group[name] = new


# Where torch keeps rates: in a parameter group and in a schedule.
RATES = ("lr", "initial_lr", "max_lr", "min_lr", "base_lrs", "_last_lr")


def _scale(rates: dict[str, Any], factor: float) -> None:
    for name in RATES:
        if isinstance(value := rates.get(name), list):
            rates[name] = [rate * factor for rate in value]
        elif value is not None:
            rates[name] = value * factor
