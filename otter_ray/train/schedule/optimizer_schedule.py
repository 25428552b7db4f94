"""`schedule:` of a config: options of the optimizer that change within a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from torch.optim import Optimizer

from otter_ray.config import Config
from otter_ray.train.torch_compat import scale_rates, scale_schedule


class OptimizerSchedule(L.Callback):
    """Gives the optimizer the values of the epoch that begins, if they differ from those of the epoch before.

    A run that starts from a checkpoint has that checkpoint's values, so this is also how a trial continues
    from another trial's checkpoint.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Change the values before the epoch's first step, but not if a run resumes within the epoch."""
        epoch = trainer.current_epoch
        # A new optimizer has the config's own values, which are those of the last phase.
        then = self.config.during(epoch) if epoch else self.config
        now = self.config.during(epoch + 1)
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        for optimizer in trainer.optimizers:
            change_options(optimizer, schedules, then.optimizer.options, now.optimizer.options)


def change_options(
    optimizer: Optimizer, schedules: list[Any], then: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Change an optimizer's options within a run.

    The learning rate changes by a factor, also in groups with other rates and in what the schedules start
    from. Any other number changes in the groups that have its old value, so that groups without weight decay
    stay without, unless it was 0 in all groups.

    Args:
        optimizer: The optimizer.
        schedules: Its learning rate schedules.
        then: Its options until now.
        now: Its options from now on.
    """
    for name, new in now.items():
        old = then.get(name)
        if new == old:
            continue
        if name == "lr":
            for group in optimizer.param_groups:
                scale_rates(group, new / old)
            for schedule in schedules:
                scale_schedule(schedule, new / old)
            continue
        for group in optimizer.param_groups:
            if name in group and group[name] == old:
                group[name] = new
