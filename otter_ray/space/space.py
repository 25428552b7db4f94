"""A search space: which values a trial may try."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from otter_ray.config.config import Config
from otter_ray.config.paths import overlap
from otter_ray.config.yaml_reader import Origin
from otter_ray.config.yaml_writer import to_text
from otter_ray.errors import Problem
from otter_ray.space.parameter import Parameter, Trial, same_value
from otter_ray.space.study_options import StudyOptions

MISSING = object()  # no value: the parameter is as if it did not exist
Assignment = dict[Parameter, Any]
Choose = Callable[[Parameter], Any]


@dataclass(frozen=True)
class Space:
    """Parameters in the order of their conditions, and how the study is run. Made by `load_space`.

    A condition on a searched parameter holds if that parameter exists and has one of the values. A condition
    on any other key refers to the base config.

    Attributes:
        name: Of the file.
        parameters: What is searched.
        study: How.
        origin: Where each key was written.
    """

    name: str
    parameters: tuple[Parameter, ...]
    study: StudyOptions = field(default_factory=StudyOptions)
    origin: Origin = field(default_factory=Origin, repr=False, compare=False)

    def suggest(self, trial: Trial, config: Config, names: Container[str] | None = None) -> dict[str, Any]:
        """Ask an Optuna trial for the value of every parameter that exists.

        Args:
            trial: That is asked.
            config: The base config.
            names: Parameters to ask for; the others count as having the base config's value. None: all.

        Returns:
            Dotted key -> value.
        """

        def choose(parameter: Parameter) -> Any:
            is_asked = names is None or parameter.name in names
            return parameter.suggest(trial) if is_asked else base_value(parameter, config)

        values = self._active(config, choose)
        return by_key({p: v for p, v in values.items() if names is None or p.name in names})

    def base_values(self, config: Config) -> dict[str, Any]:
        """Return the base config's own values, as far as parameters could have them.

        Left out are parameters that do not exist in the base config's branch, whose keys are absent or
        disagree, or whose range does not contain the value.

        Returns:
            Parameter name -> value.
        """
        values = self._active(config, lambda parameter: base_value(parameter, config))
        return {p.name: value for p, value in values.items() if p.contains(value)}

    def assignments(self, config: Config) -> Iterator[Assignment]:
        """Yield assignments that together reach every branch, its corners and every choice.

        These are all combinations of the categoricals that conditions depend on. Within each: all parameters
        at their first corner, each one alone at its other corners, and all at their last. There are no
        duplicates, and the order is always the same.
        """
        controls = self._controls()
        for chosen in self._combinations(controls, {}, config):
            free = [p for p in self.parameters if p not in controls and self._exists(p, chosen, config)]
            for corner in _corners(free):
                yield {**chosen, **corner}

    def combinations(self, config: Config, sections: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the combinations of all categoricals that conditions depend on, or that set certain sections.

        Other parameters are as in the base config.

        Args:
            config: The base config.
            sections: Dotted keys of the config.

        Returns:
            Dotted key -> value, of each combination.
        """
        controls = self._controls()
        chosen = [
            p
            for p in self.parameters
            if p in controls
            or (p.type == "categorical" and any(overlap(k, s) for k in p.keys for s in sections))
        ]
        return map(by_key, self._combinations(chosen, {}, config))

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that are searched, each once."""
        return tuple(dict.fromkeys(key for parameter in self.parameters for key in parameter.keys))

    def allows(self, name: str, value: object) -> bool:
        """Tell whether there is a parameter of that name that could have the value."""
        return any(parameter.name == name and parameter.contains(value) for parameter in self.parameters)

    def named(self, key: str) -> list[tuple[Parameter, ...]]:
        """Return the parameters that a key names, as `Parameter.all_names` has it or shorter, as tables do.

        Args:
            key: `optimizer.options.lr`, or an end of it without its `options`: `lr`, `optimizer.lr`.

        Returns:
            One entry for each meaning of the key: none if nothing is called so, several if it is ambiguous.
            The parameters of one meaning are alternatives.
        """
        names = dict.fromkeys(name for parameter in self.parameters for name in parameter.all_names)
        words = _words(key)
        meant = [key] if key in names else [name for name in names if _words(name)[-len(words) :] == words]
        groups = (tuple(p for p in self.parameters if name in p.all_names) for name in meant)
        return [*dict.fromkeys(groups)]

    def problem(self, key: str, message: str) -> Problem:
        """Return a Problem at a dotted key of the space's file, such as `study.metric`."""
        return self.origin.problem(tuple(key.split(".")), message)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data as a space's file holds it; `load_space` reads it back from a file."""
        written: dict[str, Any] = {}
        for parameter in self.parameters:
            key, entry = parameter.entry
            if parameter.is_alternative:
                written.setdefault(key, []).append(entry)
            else:
                written[key] = entry
        return {"parameters": written, "study": self.study.model_dump()}

    def with_trials(self, num_trials: int) -> Space:
        """Return the same space with another number of trials."""
        return replace(self, study=self.study.model_copy(update={"num_trials": num_trials}))

    def unconditional(self, config: Config) -> list[Parameter]:
        """Return the parameters that exist whatever is chosen for the others."""
        return [parameter for parameter in self.parameters if self._exists(parameter, {}, config)]

    def conditional(self) -> list[Parameter]:
        """Return the parameters that depend on what is chosen for others."""
        return [p for p in self.parameters if any(map(self.searches, p.when))]

    def searches(self, key: str) -> bool:
        """Tell whether a condition on `key` refers to a parameter, not to the base config."""
        return any(parameter.answers_to(key) for parameter in self.parameters)

    def _active(self, config: Config, choose: Choose) -> Assignment:
        """Return the parameters that exist, each with the value that `choose` returns."""
        values: Assignment = {}
        for parameter in self.parameters:
            if self._exists(parameter, values, config):
                value = choose(parameter)
                if value is not MISSING:
                    values[parameter] = value
        return values

    def _exists(self, parameter: Parameter, values: Assignment, config: Config) -> bool:
        return all(
            any(same_value(self._value_of(key, values, config), allowed) for allowed in condition)
            for key, condition in parameter.when.items()
        )

    def _value_of(self, key: str, values: Assignment, config: Config) -> Any:
        if self.searches(key):
            return next((value for p, value in values.items() if p.answers_to(key)), MISSING)
        return config.get(key) if config.has(key) else MISSING

    def _controls(self) -> list[Parameter]:
        """Return the parameters that conditions depend on."""
        asked = {key for parameter in self.parameters for key in parameter.when}
        return [p for p in self.parameters if any(p.answers_to(key) for key in asked)]

    def _combinations(
        self, controls: Sequence[Parameter], chosen: Assignment, config: Config
    ) -> Iterator[Assignment]:
        undecided = (p for p in controls if p not in chosen and self._exists(p, chosen, config))
        control = next(undecided, None)
        if control is None:
            yield chosen
            return
        for choice in control.choices:
            yield from self._combinations(controls, {**chosen, control: choice}, config)


def _words(key: str) -> list[str]:
    return [word for word in key.split(".") if word != "options"]


def base_value(parameter: Parameter, config: Config) -> Any:
    """Return the base config's value of the parameter's keys; MISSING if one is absent or they disagree."""
    if not all(config.has(key) for key in parameter.keys):
        return MISSING
    first, *others = (config.get(key) for key in parameter.keys)
    return first if all(same_value(first, other) for other in others) else MISSING


def _corners(parameters: Sequence[Parameter]) -> Iterator[Assignment]:
    corners = {parameter: parameter.corners() for parameter in parameters}
    lows = {parameter: values[0] for parameter, values in corners.items()}
    yield lows
    for parameter, values in corners.items():
        for value in values[1:]:
            yield {**lows, parameter: value}
    if sum(len(values) > 1 for values in corners.values()) > 1:
        yield {parameter: values[-1] for parameter, values in corners.items()}


def by_key(values: Assignment) -> dict[str, Any]:
    """Convert an assignment to dotted key -> value."""
    return {key: value for parameter, value in values.items() for key in parameter.keys}


def space_to_yaml(space: Space) -> str:
    """Write the search space as YAML; `load_space` reads it back."""
    return to_text(space.to_dict())
