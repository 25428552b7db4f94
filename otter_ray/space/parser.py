"""Read a search space's file: each entry by its own rules, then the rules between parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from otter_ray.config.lookup import find_space
from otter_ray.config.overrides import SET_SPACE, Overrides, assign_overrides, parse_overrides
from otter_ray.config.paths import KeyPath, split
from otter_ray.config.types import Flag, Flaw, Names, Number, Rule, ScalarValue, Section, validate
from otter_ray.config.user_paths import PATH_KEY, with_home
from otter_ray.config.yaml_reader import Origin, Place, read_document
from otter_ray.errors import ConfigError
from otter_ray.formatting import short_repr
from otter_ray.space.parameter import Kind, Parameter, condition_label
from otter_ray.space.parameter_rules import in_order, problems_between
from otter_ray.space.space import Space
from otter_ray.space.study_options import StudyOptions

# Parameters are compared with each other in pairs, whatever aliases expand to.
MAX_PARAMETERS, MAX_CHOICES = 200, 1000
MAX_STEPS = 2**53  # a float cannot distinguish more
Choices = Annotated[
    list[ScalarValue],
    Field(min_length=1, max_length=MAX_CHOICES),
    Rule(
        f"a list of 1 to {MAX_CHOICES} texts, numbers, true, false or null: "
        "Optuna's categorical accepts nothing else"
    ),
]
Allowed = Annotated[list[ScalarValue], Field(max_length=MAX_CHOICES)]
Condition = Annotated[ScalarValue | Allowed, Rule(f"a value or a list of up to {MAX_CHOICES} values")]


# What Optuna calls its distributions.
DISTRIBUTIONS = {
    "FloatDistribution": "float",
    "IntDistribution": "int",
    "CategoricalDistribution": "categorical",
}


class _File(Section):
    parameters: Annotated[dict[str, Any], Rule("a mapping from config keys to what is searched there")]
    study: StudyOptions = Field(default_factory=StudyOptions)


class _Entry(Section):
    """One parameter as it is written."""

    type: Annotated[Kind, Rule("float, int or categorical")]
    low: Number | None = None  # smallest value of a number, included
    high: Number | None = None  # largest value of a number, included
    step: Number | None = None  # distance between a number's values, counted from `low`; not with `log`
    log: Flag = False  # whether a number is drawn evenly in its logarithm
    choices: Choices | None = None  # values of a categorical
    sets: Names | None = None  # config keys that are set to the value; absent: the key itself
    # Key: value or values that it must have for the parameter to exist.
    when: dict[str, Condition] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Written:
    """An entry's place in the file, the key it stands under and its raw value."""

    path: KeyPath
    key: str
    raw: Any
    is_alternative: bool


def load_space(name_or_path: str, sets: Overrides = ()) -> Space:
    """Load the search space of that name or path, changed by `key=value` texts or by keys and values.

    Args:
        name_or_path: As `find_space` takes it.
        sets: The changes. A key such as `parameters.optimizer.options.lr.low` may go through a searched key.

    Raises:
        ConfigError: Every problem of the file and of the changes.
    """
    return _built(*read_document(find_space(name_or_path)), sets)


def space_with_sets(space: Space, sets: Overrides) -> Space:
    """Return a space with these changes, which errors name `--set-space`. Raises ConfigError."""
    return _built(space.to_dict(), Origin(space.name), sets) if sets else space


def space_of(parameters: Mapping[str, Any], study: Mapping[str, Any]) -> Space:
    """Return the search space that a program gives.

    Args:
        parameters: Keys, each with an entry as in a file, a list of choices, or a distribution of Optuna.
        study: As in a file.

    Raises:
        ConfigError: Every problem.
    """
    return _built({"parameters": entries_of(parameters), "study": dict(study)}, Origin("space", "space"), ())


def entries_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a space as a file has them."""
    return {str(key): _entry_of(value) for key, value in parameters.items()}


def _entry_of(value: Any) -> Any:
    """Return the entry of a list of choices, or of a distribution of Optuna."""
    if isinstance(value, list | tuple | set | frozenset):
        return {"type": "categorical", "choices": [*value]}
    kind = DISTRIBUTIONS.get(type(value).__name__)
    if kind is None:
        return value
    names = ("choices",) if kind == "categorical" else ("low", "high", "log", "step")
    own = {name: getattr(value, name) for name in names}
    if kind == "int" and own["step"] == 1:
        del own["step"]
    if kind == "categorical":
        own["choices"] = [*own["choices"]]
    return {
        "type": kind,
        **{name: each for name, each in own.items() if each is not None and each is not False},
    }


def _built(data: dict[str, Any], origin: Origin, sets: Overrides) -> Space:
    values, problems = parse_overrides(sets, SET_SPACE, _not_of_the_space)
    data, origin, refused = assign_overrides(data, origin, values, Place(SET_SPACE), partial(_path, data))
    file, flaws = validate(_File, data)
    parameters: list[Parameter] = []
    entries = [*_entries(data.get("parameters"))]
    if len(entries) > MAX_PARAMETERS:
        message = f"has {len(entries)} entries, a search space at most {MAX_PARAMETERS}. Search fewer."
        entries, flaws = [], [*flaws, (("parameters",), message)]
    for written in entries:
        parameter, wrong = _parameter(written, origin)
        parameters += [parameter] if parameter else []
        flaws += wrong
    problems += [*refused, *(origin.problem(*flaw) for flaw in flaws)]
    problems += problems_between(parameters, {written.key for written in entries})
    if problems or file is None:
        raise ConfigError(problems)
    return Space(origin.name, tuple(in_order(parameters)), file.study, origin)


def _not_of_the_space(key: str) -> str | None:
    """Say that a key is none of a search space, if it is not."""
    if key.partition(".")[0] in _File.model_fields:
        return None
    return "is not a key of the search space, which has `parameters` and `study`. Use --set for the config."


def _path(data: dict[str, Any], key: str) -> KeyPath:
    """Return the path of a dotted key. A searched key, which has dots itself, is one part of it."""
    section, *rest = split(key)
    known = data.get("parameters")
    if section != "parameters" or not rest:
        return (section, *rest)
    for length in range(len(rest), 0, -1):
        if isinstance(known, dict) and (searched := ".".join(rest[:length])) in known:
            return (section, searched, *rest[length:])
    return (section, ".".join(rest))


def _entries(parameters: Any) -> Iterator[_Written]:
    if not isinstance(parameters, dict):
        return
    for key, raw in parameters.items():
        path = ("parameters", key)
        if isinstance(raw, list):
            yield from (_Written((*path, str(i)), key, item, True) for i, item in enumerate(raw))
        else:
            yield _Written(path, key, raw, False)


def _parameter(written: _Written, origin: Origin) -> tuple[Parameter | None, list[Flaw]]:
    entry, flaws = validate(_Entry, written.raw)
    if entry:
        flaws = [*_flaws(entry, written.is_alternative)]
    if flaws or entry is None:
        return None, [((*written.path, *path), message) for path, message in flaws]
    when = {key: _listed(value) for key, value in entry.when.items()}
    keys = tuple(entry.sets or [written.key])
    are_paths = any(PATH_KEY.fullmatch(key.rpartition(".")[2]) for key in keys)
    place = origin.problem(written.path, "")
    return Parameter(
        name=f"{written.key}[{condition_label(when)}]" if written.is_alternative else written.key,
        keys=keys,
        type=entry.type,
        low=entry.low,
        high=entry.high,
        step=entry.step,
        log=entry.log,
        choices=tuple(map(with_home, entry.choices or ()) if are_paths else entry.choices or ()),
        when=when,
        file=place.file,
        line=place.line,
    ), []


def _listed(value: ScalarValue | list[ScalarValue]) -> tuple[ScalarValue, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _flaws(entry: _Entry, is_alternative: bool) -> Iterator[Flaw]:
    yield from _categorical_flaws(entry) if entry.type == "categorical" else _number_flaws(entry)
    if is_alternative and not entry.when:
        yield ("when",), "is missing. Name the value of another parameter for which this alternative holds."
    for key, value in entry.when.items():
        if not _listed(value):
            yield ("when", key), "lists no value, so it never holds. Give at least one value."


def _categorical_flaws(entry: _Entry) -> Iterator[Flaw]:
    for field in sorted({"low", "high", "step", "log"} & entry.model_fields_set):
        yield (field,), "does not belong to a categorical. Remove it, or make it a float or int."
    if entry.choices is None:
        yield ("choices",), "is missing. Give the list of values to choose from."
    seen: set[ScalarValue] = set()
    for i, choice in enumerate(entry.choices or ()):
        if isinstance(choice, float) and not math.isfinite(choice):
            yield ("choices", str(i)), f"{choice} is not a finite number. Remove it."
        if choice in seen:
            yield ("choices", str(i)), f"{short_repr(choice)} is listed twice. Remove one of the two."
        seen.add(choice)


def _number_flaws(entry: _Entry) -> Iterator[Flaw]:
    if entry.choices is not None:
        yield ("choices",), f"does not belong to {entry.type}. Remove it, or make it a categorical."
    for field in ("low", "high"):
        if getattr(entry, field) is None:
            yield (field,), f"is missing. Give the {field}est value to try."
    for field in ("low", "high", "step"):
        value = getattr(entry, field)
        if entry.type == "int" and isinstance(value, float):
            yield (field,), f"{value} is not an integer. Give a whole number, or make it a float."
    yield from _range_flaws(entry)


def _range_flaws(entry: _Entry) -> Iterator[Flaw]:
    if entry.low is not None and entry.high is not None:
        yield from _width_flaws(entry.low, entry.high, entry.step)
    if entry.log and entry.low is not None and entry.low <= 0:
        yield ("low",), f"{entry.low} has no logarithm. Raise it above 0, or remove log."
    if entry.log and entry.step is not None:
        yield ("step",), "cannot be combined with log: Optuna accepts one of the two. Remove step or log."
    if entry.step is not None and entry.step <= 0:
        yield ("step",), f"{entry.step} is too small. Give a step > 0."


def _width_flaws(low: float, high: float, step: float | None) -> Iterator[Flaw]:
    if low > high:
        yield ("low",), f"{low} is above high ({high}). Swap them."
    if math.isinf(high - low):
        yield ("high",), f"{high} is further from low ({low}) than a float can tell. Narrow the range."
    elif step and (high - low) / step > MAX_STEPS:
        yield ("step",), f"{step} is too small for {low} to {high}. Give a larger one, or none."
