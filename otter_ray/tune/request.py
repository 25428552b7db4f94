"""What a command or a program asks for, read and checked before torch, ray and optuna are imported."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from numbers import Real
from pathlib import Path
from typing import Any

from otter_ray.config import Config, is_trusted, load_config, project_here
from otter_ray.config.overrides import Overrides
from otter_ray.config.types import validate
from otter_ray.config.yaml_reader import Place
from otter_ray.errors import ConfigError, Problem, StudyError
from otter_ray.files import NAME_RULE, is_name
from otter_ray.space import SearchProblem, Space, check_space, load_space, space_with_sets
from otter_ray.space.study_options import StudyOptions
from otter_ray.study.layout import StudyFolder, require_file

SECONDS_PER_UNIT = {"d": 86400, "h": 3600, "m": 60, "s": 1}
# Possessive: a long option that is no duration takes no longer to read than one that is.
_PART = r"(\d++(?:\.\d++)?)([dhms])"
_DURATION = re.compile(f"(?:{_PART})++")


@dataclass(frozen=True)
class StopCriteria:
    """When a search ends before all its trials have; None: no limit.

    Attributes:
        seconds: For this command's search.
        epochs: Of all trials of the study together, those of earlier commands included.
        patience: Trials in a row that may end without a new best value.
    """

    seconds: float | None = None
    epochs: int | None = None
    patience: int | None = None


@dataclass(frozen=True)
class ExportSelection:
    """The trials whose models a study exports at its end, as `--export` names them.

    Attributes:
        is_front: Every trial on the Pareto front.
        count: Without `is_front`, the number of best trials, the winner included.
    """

    is_front: bool = False
    count: int = 1

    @classmethod
    def of(cls, text: str, options: StudyOptions) -> ExportSelection:
        """Read `best`, `pareto` or `top3`.

        Args:
            text: Of the option.
            options: Of the study.

        Raises:
            StudyError: The text names no selection, or none that the study's options allow.
        """
        if text == "best":
            return cls()
        if text == "pareto" and not options.objectives:
            raise StudyError(
                f"--export pareto, but the study has one objective, {options.metric}. Name others in the "
                "space's study.objectives (objectives: {macs: min}), or use --export top3."
            )
        number = re.fullmatch(r"top([1-9]\d{0,3})", text) if isinstance(text, str) else None
        if text != "pareto" and number is None:
            raise StudyError(
                f"--export: {text!r} is not a selection of trials. Give best, pareto, or top with a number, "
                "for example top3."
            )
        return cls(True) if number is None else cls(count=int(number[1]))

    def __str__(self) -> str:
        return "pareto" if self.is_front else f"top{self.count}" if self.count > 1 else "best"

    @property
    def are_several(self) -> bool:
        """Whether the exported files are named after their trials."""
        return self.is_front or self.count > 1


THE_BEST = ExportSelection()


@dataclass(frozen=True)
class StudyRequest:
    """A study to run: what to search, where to keep it, and on which machines.

    Attributes:
        problem: The base config and its search space.
        runs: The folder of all studies.
        name: Of the study; None for the date and time, or on `resume` for the newest study.
        resume: Whether the study exists already.
        accept_changes: Whether it may be resumed with another config or a narrower space.
        warm_start: The name or folder of a study whose best trials a new one begins with.
        storage: Where a copy of the study is kept.
        address: Of a running Ray; None to start one on this machine.
        is_connected: Whether the caller has connected this process to the Ray at the address.
        criteria: When the search ends early.
        exports: The trials whose models are exported.
    """

    problem: SearchProblem
    runs: Path = Path("runs")
    name: str | None = None
    resume: bool = False
    accept_changes: bool = False
    warm_start: str | None = None
    storage: str | None = None
    address: str | None = None
    is_connected: bool = False
    criteria: StopCriteria = StopCriteria()
    exports: ExportSelection = THE_BEST

    @property
    def needs_ray_at_once(self) -> bool:
        """Whether trials will run for certain, or the machines are only known to a Ray."""
        return self.address is not None or not self.resume


def load_problem(
    config: str | Config,
    space: str | Space | None,
    sets: Overrides,
    space_sets: Overrides = (),
    name: str | None = None,
) -> SearchProblem:
    """Load a config and its search space.

    Args:
        config: Its name or path, or the config itself.
        space: Its name or path, or the space itself; None for the config's name.
        sets: Overrides of the config.
        space_sets: Overrides of the space.
        name: What the config is called; None for the file's stem.

    Raises:
        ConfigError: Every fault in either file, or between the two.
    """
    faults: list[Problem] = []
    loaded, searched = None, None
    try:
        loaded = config.with_sets(sets) if isinstance(config, Config) else load_config(config, sets, name)
    except ConfigError as exc:
        faults += exc.problems
    try:
        own = config.name if isinstance(config, Config) else Path(config).stem
        if isinstance(space, Space):
            searched = space_with_sets(space, space_sets)
        else:
            searched = load_space(space or own, space_sets)
    except ConfigError as exc:
        faults += exc.problems
    if loaded is None or searched is None:
        raise ConfigError(faults)
    problem = SearchProblem(loaded, searched)
    if faults := check_space(problem):
        raise ConfigError(faults)
    return problem


def with_enqueued(problem: SearchProblem, trials: Sequence[Mapping[str, Any]]) -> SearchProblem:
    """Return the problem with trials after those that the search space enqueues.

    Args:
        problem: What is searched.
        trials: Searched keys and their values, of each trial. One without any is the base config, which comes
            first anyway, and is left out.

    Raises:
        ConfigError: They are not trials of the space.
    """
    space, origin = problem.space, problem.space.origin
    before = space.study.enqueue or []
    trials = [trial for trial in trials if trial != {}]
    for number in range(len(before), len(before) + len(trials)):
        origin = origin.with_place(("study", "enqueue", str(number)), Place("enqueue"))
    every = [*before, *(dict(one) if isinstance(one, Mapping) else one for one in trials)]
    checked, flaws = validate(StudyOptions, {"enqueue": every})
    if checked is None:
        raise ConfigError([origin.problem(("study", *path), message) for path, message in flaws])
    study = space.study.model_copy(update={"enqueue": checked.enqueue})
    found = SearchProblem(problem.config, replace(space, study=study, origin=origin))
    _ = found.enqueued
    return found


def find_study(path: Path) -> StudyFolder | None:
    """Return the study's folder at a path; None if there is no study."""
    folder = StudyFolder(Path(os.path.abspath(path)))  # `..` names no study
    return folder if folder.holds_study() else None


def load_study(
    folder: StudyFolder, space: str | Space | None, sets: Overrides, space_sets: Overrides = ()
) -> SearchProblem:
    """Load what a study's folder says that the study is about.

    The code of the project that the folder names is run. It must therefore come with otter_ray, or be named
    by the config that the study is called after, or by `--set`.

    Args:
        folder: The study's.
        space: Name or path of another search space, or that space; None for the study's own.
        sets: Changes of the study's config.
        space_sets: Changes of the space.

    Raises:
        ConfigError: The files cannot be used.
        StudyError: The study ended before it had recorded what it is about, or names an unknown project.
    """
    for file in (folder.config_file, folder.space_file):
        if not os.path.lexists(file):
            raise StudyError(
                f"{file}: there is no such file, so what the study is about is not known. Give the config in "
                f"place of the folder: CFG --name {folder.name} --resume."
            )
        require_file(file)
    own = space or str(folder.space_file)
    problem = load_problem(str(folder.config_file), own, sets, space_sets, folder.config_name)
    # Choices of the folder's space may name code as well.
    code = problem.config.code if space else problem.code
    if not (is_known_project(code, folder.config_name) or "project" in _keys(sets)):
        raise StudyError(
            f"{folder.config_file}: project: {code!r} does not come with otter_ray, and configs/"
            f"{folder.config_name}.yaml does not name it. Its code would be run. If you trust it, add "
            f"--set project={problem.config.project}."
        )
    return problem


def is_known_project(code: str, config: str) -> bool:
    """Return whether a project comes with otter_ray, or is that of the config of this name.

    Args:
        code: That something else than the user's own config and search space names (`SearchProblem.code`).
        config: Name of the user's own config and search space.
    """
    here = project_here(config)
    if here is None or is_trusted(code, here):
        return is_trusted(code, here)
    try:
        here = load_problem(f"./configs/{config}.yaml", f"./search_spaces/{config}.yaml", ()).code
    except ConfigError:
        return False
    return is_trusted(code, here)


def _keys(sets: Overrides) -> set[str]:
    """Return the keys that are overridden."""
    return {*sets} if isinstance(sets, Mapping) else {text.partition("=")[0].strip() for text in sets}


def _seconds(number: object) -> float:
    """Return a program's number of seconds, NaN if it is none."""
    if isinstance(number, bool) or not isinstance(number, Real):
        return math.nan
    try:
        return float(number)
    except OverflowError:
        return math.inf


def check_name(name: str) -> None:
    """Check the name of a study, which becomes the name of its folder.

    Args:
        name: Of the option.

    Raises:
        StudyError: The name is not one component of a path.
    """
    if not (isinstance(name, str) and is_name(name)):
        raise StudyError(f"--name: {name!r} cannot be the name of a study. {NAME_RULE}")


def parse_duration(given: str | float | timedelta) -> float:
    """Return the seconds of `90s`, `45m`, `2h`, `1h30m`, `1.5h` or `1d`, of a number of them or a timedelta.

    Args:
        given: Of the option; a text, except in a program.

    Raises:
        StudyError: It is not a duration, or it is zero or not finite.
    """
    if isinstance(given, str):
        parts = re.findall(_PART, given) if _DURATION.fullmatch(given) else []
        seconds = sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in parts)
    elif isinstance(given, timedelta):
        seconds = given.total_seconds()
    else:
        seconds = _seconds(given)
    if not 0 < seconds < math.inf:
        raise StudyError(
            f"--time-budget: {given!r} is not a duration. Use numbers with d, h, m or s, for example 90s, "
            "45m or 1h30m."
        )
    return seconds
