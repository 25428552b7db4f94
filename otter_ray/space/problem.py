"""What a study is about: a base config, and the space that is searched around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from otter_ray.config.config import Config
from otter_ray.config.lightning_config import LightningConfig
from otter_ray.config.types import ScalarValue
from otter_ray.errors import ConfigError, did_you_mean
from otter_ray.formatting import short_repr
from otter_ray.space.grid import grid_size
from otter_ray.space.parameter import Parameter, Trial, same_value
from otter_ray.space.space import MISSING, Assignment, Space, by_key
from otter_ray.space.study_options import StudyOptions

MAX_KEPT_CONFIGS = 1_000  # of branches: some 20 MiB


class Branch:
    """One of the combinations that together reach every choice and every corner of a space.

    Attributes:
        assignment: Parameter -> value.
        values: Dotted key -> value.
    """

    def __init__(self, base: Config, assignment: Assignment, is_kept: bool) -> None:
        self.assignment, self.values = assignment, by_key(assignment)
        self._base, self._is_kept = base, is_kept
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        """The base config with the branch's values, built when it is first asked for.

        Raises:
            ConfigError: The values do not make a valid config.
        """
        if self._config is not None:
            return self._config
        config = self._base.with_values(self.values)
        self._config = config if self._is_kept else None
        return config


@dataclass(frozen=True)
class SearchProblem:
    """A base config and a search space; what follows from both is worked out once."""

    config: Config
    space: Space

    @property
    def options(self) -> StudyOptions:
        """The `study:` section of the space."""
        return self.space.study

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Every branch of the space, as `Space.assignments` lists them."""
        assignments = [*self.space.assignments(self.config)]
        is_kept = len(assignments) <= MAX_KEPT_CONFIGS
        return tuple(Branch(self.config, assignment, is_kept) for assignment in assignments)

    @cached_property
    def code(self) -> str:
        """The packages whose code runs in some trial (`Config.code`)."""
        own = self.config.code
        if not isinstance(self.config, LightningConfig):  # of which no other key names code
            return own
        every = [own, *(branch.config.code for branch in self.branches)]
        return ",".join(sorted({name for code in every for name in code.split(",")}))

    @cached_property
    def base_params(self) -> dict[str, Any]:
        """Parameter name -> the base config's own value, as `Space.base_values` finds them."""
        return self.space.base_values(self.config)

    @cached_property
    def enqueued(self) -> tuple[dict[str, Any], ...]:
        """What `study.enqueue` lists, as parameter name -> value.

        Raises:
            ConfigError: No trial could have these values.
        """
        trials, problems = [], []
        for number, given in enumerate(self.options.enqueue or ()):
            params, flaws = self._params_of(given)
            trials.append(params)
            problems += [
                self.space.origin.problem(("study", "enqueue", str(number), key), message)
                for key, message in flaws
            ]
        if problems:
            raise ConfigError(problems)
        return tuple(trials)

    def _params_of(self, given: Mapping[str, ScalarValue]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Return parameter name -> value of an enqueued trial, and what is wrong with which of its keys.

        Of alternatives, all that the other values leave possible get the value.
        """
        meant = {key: self.space.named(key) for key in given}
        sole = {key: groups[0] for key, groups in meant.items() if len(groups) == 1}
        chosen = {p: given[key] for key, group in sole.items() for p in group if p.contains(given[key])}
        params: dict[str, Any] = {}
        flaws: list[tuple[str, str]] = []
        for key, value in given.items():
            if key not in sole:
                flaws.append((key, self._unclear(key, meant[key])))
                continue
            possible = [p for p in sole[key] if self._can_exist(p, chosen)]
            if not possible:
                only = " or ".join(p.conditions for p in sole[key])
                flaws.append((key, f"is only searched when {only}. Remove it, or change the other value."))
            for parameter in possible:
                if message := _misfit(parameter, value, params.setdefault(parameter.name, value)):
                    flaws.append((key, message))
        return params, flaws

    def _unclear(self, key: str, meanings: Sequence[tuple[Parameter, ...]]) -> str:
        """Say why a key names no parameter, or several."""
        if meanings:
            which = ", ".join(group[0].entry[0] for group in meanings)
            return f"could be any of {which}. Write the whole key."
        names = dict.fromkeys(name for p in self.space.parameters for name in p.all_names)
        hint = did_you_mean(key, {**names, **dict.fromkeys(name.rpartition(".")[2] for name in names)})
        return f"is not searched.{hint} Searched: {', '.join(p.name for p in self.space.parameters)}."

    def _can_exist(self, parameter: Parameter, chosen: Assignment) -> bool:
        """Tell whether a parameter's conditions hold, or may hold if what they ask for is not chosen yet."""
        for key, allowed in parameter.when.items():
            if self.space.searches(key):
                values = [value for other, value in chosen.items() if other.answers_to(key)]
            else:
                values = [self.config.get(key) if self.config.has(key) else MISSING]
            if values and not any(same_value(value, one) for value in values for one in allowed):
                return False
        return True

    @cached_property
    def unconditional(self) -> tuple[Parameter, ...]:
        """The parameters that every trial has."""
        return tuple(self.space.unconditional(self.config))

    @cached_property
    def grid_trials(self) -> int:
        """Trials of a whole grid search: its points, and the base config if it is not one of them."""
        is_point = {parameter.name for parameter in self.unconditional} <= self.base_params.keys()
        return (grid_size(self.unconditional) or 0) + (not is_point)

    def has_more_branches_than(self, count: int) -> bool:
        """Tell whether there are more branches, without listing them all."""
        return any(islice(self.space.assignments(self.config), count, None))

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Ask an Optuna trial for the value of every parameter that exists; dotted key -> value."""
        return self.space.suggest(trial, self.config)

    def with_options(self, **changes: Any) -> SearchProblem:
        """Return the same problem with other options of the study.

        Args:
            changes: Key of the `study:` section -> value.
        """
        study = self.options.model_copy(update=changes)
        changed = replace(self, space=replace(self.space, study=study))
        # They follow from the config and the parameters alone.
        for name in ("branches", "base_params", "unconditional", "grid_trials"):
            if name in self.__dict__:
                changed.__dict__[name] = self.__dict__[name]
        return changed

    def with_trials(self, num_trials: int) -> SearchProblem:
        """Return the same problem with another number of trials."""
        return self.with_options(num_trials=num_trials)

    def resolved(self, proxy_metrics: Mapping[str, str], first_score: str = "") -> SearchProblem:
        """Return the problem as it is searched.

        If no scheduler is named, it compares trials by the metric's low-variance proxy. A grid search gets no
        more trials than there are.

        Args:
            proxy_metrics: Metric -> the model's low-variance proxy of it in early epochs.
            first_score: The metric if the space names none.
        """
        metric = self.options.metric or first_score
        scheduler, num_trials = self.options.scheduler, self.options.num_trials
        if "name" not in scheduler.model_fields_set and scheduler.metric is None:
            proxy = proxy_metrics.get(metric)
            scheduler = scheduler.model_copy(update={"metric": proxy})
        if self.options.sampler.capabilities.exhaustive:
            num_trials = min(num_trials, self.grid_trials)
        return self.with_options(metric=metric, scheduler=scheduler, num_trials=num_trials)

    @property
    def grid_note(self) -> str:
        """What becomes of the number of trials in a grid search; empty if nothing does."""
        wanted, trials = self.options.num_trials, self.grid_trials
        if not self.options.sampler.capabilities.exhaustive or wanted == trials:
            return ""
        if wanted < trials:
            return f"GridSampler: {wanted} of the grid's {trials} trials, in an order shuffled by the seed"
        return f"GridSampler: the grid is done after {trials} trials, not {wanted}"


def _misfit(parameter: Parameter, value: ScalarValue, other: ScalarValue) -> str:
    """Say why an enqueued trial cannot have a parameter's value; empty if it can.

    Args:
        parameter: That is searched.
        value: Of the parameter.
        other: The value that another key of the trial gives to the same parameter, or the same value.
    """
    if not parameter.contains(value):
        hint = did_you_mean(value, map(str, parameter.choices)) if isinstance(value, str) else ""
        return f"{short_repr(value)} is not searched.{hint} Searched: {parameter}."
    if not same_value(value, other):
        return f"{short_repr(value)} is also given as {short_repr(other)}. Remove one of the two."
    return ""
