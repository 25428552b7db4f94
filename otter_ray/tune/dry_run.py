"""`--dry-run`: the plan and sampled configs, with nothing started."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from rich.console import Console
from rich.syntax import Syntax

from otter_ray.config import Config, Space, to_yaml
from otter_ray.train.builders import loader_workers
from otter_ray.tune.check import check_study
from otter_ray.tune.plan import Growth, Node, Plan, gpus_of, make_plan, whole_cpus
from otter_ray.tune.sampler import build_sampler


def plan_for(config: Config, space: Space, nodes: Sequence[Node], growth: Sequence[Growth]) -> Plan:
    """`make_plan` with what it asks of a config."""
    trainer = config.trainer
    return make_plan(
        space.study, nodes, growth, accelerator=trainer.accelerator, max_epochs=trainer.max_epochs
    )


def tell_plan(plan: Plan, config: Config, console: Console) -> None:
    """Prints the plan, and what of the machines or of the config it leaves unused."""
    console.print(f"plan: {plan}")
    if plan.idle_gpus:
        console.print(f"warning: {plan.idle_gpus}", style="yellow")
    if note := loader_note(config, plan.cpus):
        console.print(note)


def loader_note(config: Config, cpus: float) -> str:
    """Which loaders get fewer workers than the config says, on `cpus` CPUs; empty for none."""
    cuts = []
    for part in ("train_options", "valid_options"):
        wanted = int(getattr(config.dataloader, part).get("num_workers", 0))
        if (given := loader_workers(wanted, whole_cpus(cpus))) < wanted:
            cuts.append(f"dataloader.{part}.num_workers {wanted} becomes {given}")
    if not cuts:
        return ""
    return f"{', '.join(cuts)}: a worker has {cpus:g} CPU{'s' * (cpus != 1)}, and one of them trains"


def show_plan(
    config: Config,
    space: Space,
    nodes: Sequence[Node],
    growth: Sequence[Growth],
    samples: int,
    console: Console,
) -> None:
    """Prints trials, slots and resources on the nodes, the space, and sampled, merged configs."""
    check_study(config, space, gpus_of(nodes, growth))
    options = space.study
    tell_plan(plan_for(config, space, nodes, growth), config, console)
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
