"""`--dry-run`: the plan and sampled configs, with nothing started."""

from __future__ import annotations

import optuna
from rich.console import Console
from rich.syntax import Syntax

from otter_ray.config import Config, Space, to_yaml
from otter_ray.tune.check import check_study, local_node
from otter_ray.tune.plan import make_plan
from otter_ray.tune.sampler import build_sampler


def show_plan(config: Config, space: Space, samples: int, console: Console) -> None:
    """Prints trials, slots and resources on this machine, the space, and sampled, merged configs."""
    node = local_node()
    check_study(config, space, node.gpus)
    options = space.study
    plan = make_plan(options, [node], config.trainer.accelerator)
    console.print(f"plan: {plan}")
    console.print(
        f"search: {options.sampler.name} + {options.scheduler.name} on {options.metric} ({options.mode}), "
        f"at most {config.trainer.max_epochs} epochs a trial"
    )
    base = space.base_values(config)
    for parameter in space.parameters:
        own = f"base {base[parameter.name]}" if parameter.name in base else "not in the base config"
        console.print(f"  {parameter} ({own})")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=build_sampler(options, config.common.seed))
    for index in range(samples):
        merged = config.with_values(space.suggest(study.ask(), config))
        console.rule(f"sampled config {index + 1}")
        console.print(Syntax(to_yaml(merged), "yaml", background_color="default"))
