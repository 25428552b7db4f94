"""What has changed since a study began: its config, its search space and its options."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from otter_ray.config import Config, load_config, to_yaml
from otter_ray.errors import StudyError
from otter_ray.files import atomic_write
from otter_ray.space import Parameter, SearchProblem, Space, StudyOptions, load_space, space_to_yaml
from otter_ray.study.layout import StudyFolder, require_file

# The options in a space's `study:` that may always change: they only say how long the search goes on and on
# which resources, or what a new study begins with.
FREE = {"num_trials", "resources", "retries", "keep_best", "finalists", "enqueue"}

# Sections of a config that only concern what is made of an exported model.
UNTRAINED = ("quantize",)


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        key: dotted.
        then, now: as text.
        is_harmless: whether it only lets the search go further.
    """

    key: str
    then: str
    now: str
    is_harmless: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.then} -> {self.now}"


@dataclass(frozen=True)
class Changes:
    """The differences between what a study began with and what it is to go on with.

    Attributes:
        began: the config that it began with.
        config, space: the differences.
    """

    began: Config
    config: tuple[Change, ...] = ()
    space: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.config or self.space)

    def __str__(self) -> str:
        listed = {"config": self.config, "space": self.space}
        return "\n".join(f"  {what}  {change}" for what, found in listed.items() for change in found)

    @property
    def are_harmless(self) -> bool:
        """Whether nobody has to accept them."""
        return not self.config and all(change.is_harmless for change in self.space)


def check_or_record(folder: StudyFolder, problem: SearchProblem, accept: bool = False) -> Changes:
    """Record config and space in the folder of a new study; return what has changed in a resumed one.

    Args:
        folder: the study's.
        problem: what it is to go on with.
        accept: whether to accept changes that make earlier and later trials hard to compare.

    Raises:
        StudyError: there are such changes, and nobody accepts them; lists them.
    """
    if not folder.space_file.exists():
        record(folder, problem)
        return Changes(problem.config)
    changes = compare(folder, problem)
    if not (changes.are_harmless or accept):
        raise StudyError(
            "The config or search space differs from the one that study "
            f"{folder.name} started with (old -> new):\n{changes}\n"
            "To continue it and keep its trials as they are, add --accept-changes. To start a new study "
            f"from its best trials, use --name NEW --warm-start {folder.name}. To continue it as it was: "
            f"python -m otter_ray.tune --resume {shlex.quote(str(folder.path))}"
        )
    if not changes:
        record(folder, problem)  # what may always change, such as the number of trials
    return changes


def record(folder: StudyFolder, problem: SearchProblem) -> None:
    """Write config and space into the study's folder."""
    texts = {folder.config_file: to_yaml(problem.config), folder.space_file: space_to_yaml(problem.space)}
    for file, text in texts.items():
        with atomic_write(file) as partial:
            partial.write_text(text, encoding="utf-8")


def compare(folder: StudyFolder, problem: SearchProblem) -> Changes:
    """Compare config and space with those in the study's folder.

    Raises:
        FileError: one of the files cannot be read.
        StudyError: they are about another metric, objective or constraint.
    """
    began = load_config(require_file(folder.config_file))
    searched = load_space(require_file(folder.space_file))
    then, now = searched.study, problem.options
    if (about := _about(then)) != _about(now):
        raise StudyError(
            f"study {folder.name} is about {about}, not {_about(now)}: their "
            "values cannot be compared. Start a study with another --name, from the best of this one with "
            f"--warm-start {folder.name}."
        )
    differences = _differences(then.model_dump(exclude=FREE), now.model_dump(exclude=FREE), "study.")
    return Changes(
        began,
        config_changes(began, problem.config),
        (*_parameter_changes(searched, problem.space), *differences),
    )


def config_changes(then: Config, now: Config) -> tuple[Change, ...]:
    """Return the differences between two configs, without those that no trial knows of."""
    one, other = ({**config.to_dict(), **dict.fromkeys(UNTRAINED)} for config in (then, now))
    return tuple(_differences(one, other))


def _about(options: StudyOptions) -> str:
    objectives = {options.metric: options.mode, **options.objectives}
    named = ", ".join(f"{name} ({mode})" for name, mode in objectives.items())
    return named + (f" under {', '.join(options.constraints)}" if options.constraints else "")


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    for key in {**then, **now}:
        one, other = then.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other or (key in then) != (key in now):
            old, new = (str(part[key]) if key in part else "-" for part in (then, now))
            yield Change(prefix + key, old, new)


def _parameter_changes(then: Space, now: Space) -> Iterator[Change]:
    """Yield how parameters changed; a wider range is harmless, as all earlier trials stay within it."""
    before, after = ({p.name: replace(p, file=None, line=None) for p in s.parameters} for s in (then, now))
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old != new:
            is_wider = old is None or (new is not None and new.covers(old))
            yield Change(name, _range(old), _range(new), is_wider)


def _range(parameter: Parameter | None) -> str:
    return str(parameter).removeprefix(f"{parameter.name}: ") if parameter else "-"
