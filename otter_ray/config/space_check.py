"""A search space against its base config: every branch must be a valid config."""

from __future__ import annotations

from collections.abc import Iterator

from otter_ray.config.model import Config
from otter_ray.config.parameter import Parameter
from otter_ray.config.paths import overlap
from otter_ray.config.space import Space, Values, by_key
from otter_ray.errors import ConfigError, Problem

EPOCHS = "trainer.max_epochs"


def check_space(space: Space, config: Config) -> list[Problem]:
    """Everything in the space that cannot work with this base config; empty when all is well.

    Each problem stands once, at its parameter's line, however many branches show it. Whether a
    class accepts an option is not looked at here.
    """
    if not space.parameters:
        return [space.origin.problem(("parameters",), "is empty. Name at least one key to search.")]
    return [
        *_unknown_conditions(space, config),
        *_invalid_branches(space, config),
        *_late_scheduler(space, config),
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
    grace = scheduler.options.grace_period
    epochs = min(
        by_key(values).get(EPOCHS, config.trainer.max_epochs) for values in space.assignments(config)
    )
    if scheduler.name == "ASHA" and grace > epochs:
        message = f"scheduler.grace_period is {grace} but must be <= max_epochs ({epochs})."
        path = ("study", "scheduler", "options", "grace_period")
        yield space.origin.problem(path, f"{message} Lower it, or raise {EPOCHS}.")
