"""Check a search space against its base config: every branch must be a valid config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otter_ray.config.config import CHANGEABLE
from otter_ray.config.paths import overlap
from otter_ray.config.types import is_number
from otter_ray.errors import ConfigError, Problem
from otter_ray.space.parameter import Parameter, same_value
from otter_ray.space.problem import SearchProblem
from otter_ray.space.sampler_rules import sampler_problems
from otter_ray.space.samplers import samplers_with
from otter_ray.space.space import Assignment, Space

EPOCHS = "trainer.max_epochs"
SEED = "common.seed"
MAX_BRANCHES = 10_000  # each is checked as a whole config: some seconds


def check_space(problem: SearchProblem) -> list[Problem]:
    """Return everything in the space that cannot work with the base config.

    Each fault is listed once, at its parameter's line, however many branches show it. Whether a class accepts
    an option is not checked here.
    """
    space = problem.space
    if not space.parameters:
        return [space.origin.problem(("parameters",), "is empty. Name at least one key to search.")]
    if problem.has_more_branches_than(MAX_BRANCHES):
        message = (
            f"make more than {MAX_BRANCHES} combinations of choices and conditions. Remove some of them."
        )
        return [space.origin.problem(("parameters",), message)]
    return [
        *_unknown_conditions(problem),
        *_invalid_branches(problem),
        *_scheduler_problems(problem),
        *sampler_problems(problem),
        *_finalists(space),
        *_enqueued(problem),
    ]


def idle_parameters(problem: SearchProblem) -> Iterator[Problem]:
    """Yield the parameters that are searched without any effect, with the reason."""
    reached = {parameter for branch in problem.branches for parameter in branch.assignment}
    for parameter in problem.space.parameters:
        if parameter not in reached:
            reason = _unmet(parameter, problem)
            yield parameter.problem(f"is never searched: {reason}. Correct its `when`, or remove it.")
        elif parameter.step is not None and len(parameter.corners()) == 1 and parameter.low != parameter.high:
            yield parameter.problem(
                f"is always {parameter.low}: step {parameter.step:g} is larger than its range, up to "
                f"{parameter.high}. Lower the step, or remove the parameter."
            )


def _unmet(parameter: Parameter, problem: SearchProblem) -> str:
    """Say which of a parameter's conditions never holds."""
    for key, values in parameter.when.items():
        if not problem.space.searches(key) and problem.config.has(key):
            own = problem.config.get(key)
            if not any(same_value(own, value) for value in values):
                return f"`when` asks for {key} {' or '.join(map(str, values))}, and the config has {own}"
    return "its conditions never hold together"


def _unknown_conditions(problem: SearchProblem) -> Iterator[Problem]:
    space, config = problem.space, problem.config
    for parameter in space.parameters:
        for key in parameter.when:
            if not space.searches(key) and not config.has(key):
                message = f"`when` asks for {key}, which is neither searched nor in the config. Correct it."
                yield parameter.problem(message)


def _invalid_branches(problem: SearchProblem) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for branch in problem.branches:
        try:
            _ = branch.config
        except ConfigError as exc:
            for fault in exc.problems:
                moved = _at_its_parameter(fault, branch.assignment, problem.space)
                found.setdefault((str(moved.line), moved.key), moved)
    return list(found.values())


def _at_its_parameter(fault: Problem, assignment: Assignment, space: Space) -> Problem:
    owner = next((p for p in assignment if _sets(p, fault)), None)
    place = owner.problem("") if owner else space.origin.problem(("parameters",), "")
    return Problem(fault.key, fault.message, place.file, place.line)


def _sets(parameter: Parameter, fault: Problem) -> bool:
    """Tell whether the fault is at one of the parameter's keys, or its message names the key's parent."""
    return any(
        overlap(key, fault.key) or key.rpartition(".")[0] in fault.message.split() for key in parameter.keys
    )


def _scheduler_problems(problem: SearchProblem) -> Iterator[Problem]:
    space, options = problem.space, problem.options.scheduler.options
    own = problem.config.trainer.max_epochs
    tried = [branch.values.get(EPOCHS, own) for branch in problem.branches]
    epochs = min((value for value in tried if type(value) is int), default=options.grace_period)
    for name, message in options.flaws(epochs):
        path = ("study", "scheduler", "options", name)
        yield space.origin.problem(path, f"scheduler.{name} {message} Lower it, or raise {EPOCHS}.")
    if options.replaces_stopped:
        yield from _population_problems(problem)


def retunable(space: Space) -> list[Parameter]:
    """Return the parameters that may change within a run: numbers that set options of the optimizer only."""
    return [
        parameter
        for parameter in space.parameters
        if all(overlap(key, CHANGEABLE) for key in parameter.keys)
        and all(map(is_number, parameter.corners()))
    ]


def _population_problems(problem: SearchProblem) -> Iterator[Problem]:
    space, config = problem.space, problem.config
    if not retunable(space):
        message = f"is PBT, which changes numbers below {CHANGEABLE}, and none of them is searched."
        remedy = f"Search one ({CHANGEABLE}.lr, say), or choose ASHA."
        yield space.problem("study.scheduler.name", f"{message} {remedy}")
    if config.schedule:
        message = (
            "is PBT, which makes a schedule of its own, but the config has one. Remove `schedule` there."
        )
        yield space.problem("study.scheduler.name", message)
    able = samplers_with(learns=False, exhaustive=False)
    if (name := space.study.sampler.name) not in able:
        whose = "" if "sampler" in space.study.model_fields_set else " (the default)"
        yield space.problem(
            "study.sampler.name",
            f"Choose {' or '.join(able)} for PBT. {name}{whose} cannot learn from a trial that starts from "
            "another trial's weights: its value says little about its own parameters.",
        )


def _enqueued(problem: SearchProblem) -> Sequence[Problem]:
    try:
        _ = problem.enqueued
    except ConfigError as exc:
        return exc.problems
    return ()


def _finalists(space: Space) -> Iterator[Problem]:
    if not space.study.finalists:
        return
    if space.study.objectives:
        message = "needs a single objective, because finalists are ranked by its mean."
        message += " Remove it or study.objectives."
        yield space.problem("study.finalists", message)
    for parameter in space.parameters:
        if SEED in parameter.keys:
            message = "cannot be searched together with study.finalists, which averages over seeds."
            yield parameter.problem(f"{message} Remove one of the two.")
