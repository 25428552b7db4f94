"""A search space against its base config: every branch must be a valid config."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from otter_ray.config.model import RETUNED, Config
from otter_ray.config.parameter import Parameter
from otter_ray.config.paths import overlap
from otter_ray.config.rules import is_number
from otter_ray.config.sampler_rules import sampler_problems
from otter_ray.config.scheduler import PBT, Hyperband
from otter_ray.config.space import Space, Values, by_key
from otter_ray.errors import ConfigError, Problem

EPOCHS = "trainer.max_epochs"
SEED = "common.seed"
UNLEARNED = ("RandomSampler", "QMCSampler")  # what they draw does not depend on any trial's value
MAX_BRANCHES = 10_000  # each is checked as a whole config: some seconds


def check_space(space: Space, config: Config) -> list[Problem]:
    """Everything in the space that cannot work with this base config; empty when all is well.

    Each problem stands once, at its parameter's line, however many branches show it. Whether a
    class accepts an option is not looked at here.
    """
    if not space.parameters:
        return [space.origin.problem(("parameters",), "is empty. Name at least one key to search.")]
    if any(islice(space.assignments(config), MAX_BRANCHES, None)):
        message = f"has more than {MAX_BRANCHES} branches. Give it fewer conditions or choices."
        return [space.origin.problem(("parameters",), message)]
    return [
        *_unknown_conditions(space, config),
        *_invalid_branches(space, config),
        *_late_scheduler(space, config),
        *sampler_problems(space, config),
        *_finalists(space),
    ]


def _unknown_conditions(space: Space, config: Config) -> Iterator[Problem]:
    for parameter in space.parameters:
        for key in parameter.when:
            if not space.searches(key) and not config.has(key):
                message = f"`when` asks for {key}, which is neither searched nor in the config. Correct it."
                yield parameter.problem(message)


def _invalid_branches(space: Space, config: Config) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for values in space.assignments(config):
        try:
            config.with_values(by_key(values))
        except ConfigError as exc:
            for problem in exc.problems:
                moved = _at_its_parameter(problem, values, space)
                found.setdefault((str(moved.line), moved.key), moved)
    return list(found.values())


def _at_its_parameter(problem: Problem, values: Values, space: Space) -> Problem:
    owner = next((p for p in values if _sets(p, problem)), None)
    place = owner.problem("") if owner else space.origin.problem(("parameters",), "")
    return Problem(problem.key, problem.message, place.file, place.line)


def _sets(parameter: Parameter, problem: Problem) -> bool:
    """Whether the problem is at one of the parameter's keys, or its message names the key's parent."""
    return any(
        overlap(key, problem.key) or key.rpartition(".")[0] in problem.message.split()
        for key in parameter.keys
    )


def _late_scheduler(space: Space, config: Config) -> Iterator[Problem]:
    scheduler = space.study.scheduler
    options = scheduler.options
    tried = [by_key(values).get(EPOCHS, config.trainer.max_epochs) for values in space.assignments(config)]
    epochs = min((value for value in tried if type(value) is int), default=options.grace_period)
    if scheduler.name == "none":
        return
    if options.grace_period > epochs:
        message = f"scheduler.grace_period is {options.grace_period} but must be <= max_epochs ({epochs})."
        yield _at_option(space, "grace_period", f"{message} Lower it, or raise {EPOCHS}.")
    elif isinstance(options, Hyperband) and (last := options.first_rungs()[-1]) > epochs:
        message = (
            f"scheduler.brackets is {options.brackets}, and the last bracket's first rung lies at {last}"
        )
        rule = f"epochs but must be <= max_epochs ({epochs})"
        yield _at_option(space, "brackets", f"{message} {rule}. Lower it, or raise {EPOCHS}.")
    elif isinstance(options, PBT):
        yield from _population(space, config, options, epochs)


def retuned_in(space: Space) -> list[Parameter]:
    """The parameters that may change within a run: numbers that set nothing but options of the optimizer."""
    return [
        parameter
        for parameter in space.parameters
        if all(overlap(key, RETUNED) for key in parameter.keys) and all(map(is_number, parameter.corners()))
    ]


def _population(space: Space, config: Config, options: PBT, epochs: int) -> Iterator[Problem]:
    interval = options.perturbation_interval
    if not any(epoch >= options.grace_period for epoch in range(interval, epochs, interval)):
        message = f"scheduler.perturbation_interval is {interval}, and no multiple of it lies from"
        rule = f"grace_period ({options.grace_period}) to below max_epochs ({epochs}): nothing changes."
        yield _at_option(space, "perturbation_interval", f"{message} {rule} Lower it, or raise {EPOCHS}.")
    if not retuned_in(space):
        message = f"is PBT, which changes numbers below {RETUNED}, and none of them is searched."
        remedy = f"Search one ({RETUNED}.lr, say), or choose ASHA."
        yield space.problem("study.scheduler.name", f"{message} {remedy}")
    if config.schedule:
        message = "is PBT, which makes a schedule of its own, and the config has one. Remove that."
        yield space.problem("study.scheduler.name", message)
    if (name := space.study.sampler.name) not in UNLEARNED:
        whose = "" if "sampler" in space.study.model_fields_set else " (the default)"
        message = f"is {name}{whose}, but under PBT the value of a trial that begins at another one's weights"
        remedy = f"says little about its own parameters. Choose {' or '.join(UNLEARNED)}."
        yield space.problem("study.sampler.name", f"{message} {remedy}")


def _at_option(space: Space, name: str, message: str) -> Problem:
    return space.origin.problem(("study", "scheduler", "options", name), message)


def _finalists(space: Space) -> Iterator[Problem]:
    if not space.study.finalists:
        return
    if space.study.objectives:
        message = "goes with one objective: finalists are ranked by a mean. Leave it or study.objectives out."
        yield space.problem("study.finalists", message)
    for parameter in space.parameters:
        if SEED in parameter.keys:
            yield parameter.problem(
                f"searches {SEED}, over which study.finalists takes its mean. Search something else, or "
                "leave finalists out."
            )
