"""`--dry-run`: the plan and sampled configs, with nothing started."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from rich.console import Console
from rich.syntax import Syntax

from otter_ray.cli import tell
from otter_ray.config import Config, Space, to_yaml
from otter_ray.config.grid import grid_trials
from otter_ray.report.tables import shown
from otter_ray.train.builders import loader_workers
from otter_ray.tune.check import check_study, with_steady_scheduler
from otter_ray.tune.distributions import searched_together
from otter_ray.tune.figures import FigureBook
from otter_ray.tune.finals import finals_note
from otter_ray.tune.plan import Growth, Node, Plan, gpus_of, make_plan, whole_cpus
from otter_ray.tune.preflight import preflight
from otter_ray.tune.sampler import build_sampler


def plan_for(config: Config, space: Space, nodes: Sequence[Node], growth: Sequence[Growth]) -> Plan:
    """`make_plan` with what it asks of a config."""
    trainer = config.trainer
    return make_plan(
        space.study, nodes, growth, accelerator=trainer.accelerator, max_epochs=trainer.max_epochs
    )


def within_grid(space: Space, config: Config, console: Console) -> Space:
    """The space with no more trials than a grid search has points; tells what that comes to."""
    wanted = space.study.num_trials
    if space.study.sampler.name != "GridSampler":
        return space
    trials = grid_trials(space, config)
    if wanted < trials:
        console.print(
            f"GridSampler: {wanted} of the grid's {trials} trials, in an order shuffled by the seed"
        )
    elif wanted > trials:
        console.print(f"GridSampler: the grid is done after {trials} trials, not {wanted}")
    return space.with_trials(min(wanted, trials))


def tell_plan(plan: Plan, config: Config, console: Console, note: str = "") -> None:
    """Prints the plan, what comes beside it, and what of the machines or of the config it leaves unused."""
    console.print(f"plan: {plan}")
    if note:
        console.print(f"      {note}")
    if plan.gpu_note:
        tell(console, f"warning: {plan.gpu_note}", style="yellow")
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
    space = with_steady_scheduler(space, config)
    check_study(config, space, gpus_of(nodes, growth))
    space = within_grid(space, config, console)
    options = space.study
    looks_at = options.scheduler.metric or options.metric
    book = FigureBook(options.figures)
    preflight(config, space, book, console)
    note = finals_note(options, config.trainer.max_epochs)
    tell_plan(plan_for(config, space, nodes, growth), config, console, note)
    console.print(
        f"search: {options.sampler.name} + {options.scheduler.name} (on {looks_at}), best {options.metric} "
        f"({options.mode}), at most {config.trainer.max_epochs} epochs a trial"
    )
    for name, mode in options.objectives.items():
        console.print(f"  objective {name} ({mode})")
    for bound in options.bounds:
        console.print(f"  constraint {bound.text} (base {shown(book.of(config)[bound.figure])})")
    base = space.base_values(config)
    for parameter in space.parameters:
        own = f"base {base[parameter.name]}" if parameter.name in base else "not in the base config"
        console.print(f"  {parameter} ({own})")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=build_sampler(options, config.common.seed, searched_together(space, config))
    )
    for index in range(samples):
        merged = config.with_values(space.suggest(study.ask(), config))
        console.rule(f"sampled config {index + 1}")
        console.print(Syntax(to_yaml(merged), "yaml", background_color="default"))
