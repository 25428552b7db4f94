"""Check the rules between a search space's parameters: names, conditions, order, shared keys."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import combinations

from otter_ray.config.paths import overlap
from otter_ray.config.schema import Sections
from otter_ray.config.types import ScalarValue
from otter_ray.errors import Problem, did_you_mean
from otter_ray.formatting import short_repr
from otter_ray.space.parameter import Parameter, same_value

Requirements = dict[str, tuple[ScalarValue, ...]]


def problems_between(parameters: Sequence[Parameter], written: Container[str]) -> list[Problem]:
    """Return what is wrong between parameters that are right one by one.

    Args:
        parameters: Of the file.
        written: The file's names, those of faulty entries included, to which conditions may refer.
    """
    problems = [*_names_used_twice(parameters)]
    for parameter in parameters:
        for key, values in parameter.when.items():
            problems += _condition_problems(parameter, key, values, parameters, written)
    ordered = in_order(parameters)
    stuck = [parameter for parameter in parameters if parameter not in ordered]
    if stuck:
        names = ", ".join(parameter.name for parameter in stuck)
        message = f"its conditions are circular: {names} wait for each other. Remove one condition."
        return [*problems, stuck[0].problem(message)]
    return [*problems, *_keys_set_twice(parameters)]


def in_order(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Sort each after those that its conditions ask for, else as written; circular ones are left out."""
    ordered: list[Parameter] = []
    waiting = list(parameters)
    while ready := next((p for p in waiting if not any(_asks(p, other) for other in waiting)), None):
        ordered.append(ready)
        waiting = [parameter for parameter in waiting if parameter is not ready]
    return ordered


def _asks(parameter: Parameter, other: Parameter) -> bool:
    return any(other.answers_to(key) for key in parameter.when)


def _names_used_twice(parameters: Sequence[Parameter]) -> Iterator[Problem]:
    first: dict[str, Parameter] = {}
    for parameter in parameters:
        earlier = first.setdefault(parameter.name, parameter)
        if earlier is not parameter:
            message = f"has the name and condition of line {earlier.line}. Remove one, or change its `when`."
            yield parameter.problem(message)


def _condition_problems(
    parameter: Parameter,
    key: str,
    values: Sequence[ScalarValue],
    parameters: Sequence[Parameter],
    written: Container[str],
) -> Iterator[Problem]:
    asked = [other for other in parameters if other.answers_to(key)]
    if not asked and key not in written and key.partition(".")[0] not in Sections.model_fields:
        known = sorted({name for other in parameters for name in (*other.keys, other.name)})
        hint = did_you_mean(key, known)
        yield parameter.problem(f"`when` asks for {key!r}, which is neither searched nor a config key.{hint}")
    if any(other.type != "categorical" for other in asked):
        message = f"`when` can only refer to a categorical parameter, but {key!r} is a number."
        yield parameter.problem(f"{message} Make {key!r} categorical.")
        return
    choices = [choice for other in asked for choice in other.choices]
    for value in values:
        if asked and not any(same_value(value, choice) for choice in choices):
            hint = did_you_mean(str(value), map(str, choices))
            listed = ", ".join(map(short_repr, choices))
            message = (
                f"`when` asks for {short_repr(value)}, which is not one of the choices of {key} ({listed})."
            )
            yield parameter.problem(f"{message}{hint}")


def _keys_set_twice(parameters: Sequence[Parameter]) -> Iterator[Problem]:
    for one, other in combinations(parameters, 2):
        shared = [a for a in one.keys for b in other.keys if overlap(a, b)]
        if shared and one.name != other.name and not _exclusive(one, other, parameters):
            clash = f"sets {shared[0]}, as {one.name} in line {one.line} does."
            yield other.problem(f"{clash} Give them conditions that exclude each other.")


def _exclusive(one: Parameter, other: Parameter, parameters: Sequence[Parameter]) -> bool:
    """Tell whether no branch has both."""
    first, second = _requirements(one, parameters), _requirements(other, parameters)
    shared = first.keys() & second.keys()
    return any(not any(same_value(a, b) for a in first[key] for b in second[key]) for key in shared)


def _requirements(parameter: Parameter, parameters: Sequence[Parameter]) -> Requirements:
    """Return what must hold for the parameter to exist: its conditions, and those of the ones it asks for."""
    needs: Requirements = {}
    for key, values in parameter.when.items():
        asked = [other for other in parameters if other.answers_to(key)]
        if len(asked) == 1:
            needs |= _requirements(asked[0], parameters)
        needs[asked[0].name if len(asked) == 1 else key] = values
    return needs
