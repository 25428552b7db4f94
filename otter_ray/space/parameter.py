"""One searched parameter: its range, the keys it sets and the conditions under which it exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from otter_ray.config.types import ScalarValue
from otter_ray.errors import Problem

Kind = Literal["float", "int", "categorical"]


class Trial(Protocol):
    """The part of `optuna.Trial` that a search space needs."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[ScalarValue]) -> ScalarValue:
        """Return one of the choices."""
        ...


@dataclass(frozen=True)
class Parameter:
    """A parameter under one condition. Every rule of the search space already holds for it.

    Attributes:
        name: The key it is written under in the file, with its condition if it is an alternative.
        keys: The dotted config keys that it sets.
        type: `float`, `int` or `categorical`.
        low: Of a number.
        high: Of a number.
        step: Of a number; None: none.
        log: Of a number: whether it is drawn evenly in its logarithm.
        choices: Of a categorical.
        when: Names or keys of other parameters, or keys of the base config -> values under which it exists.
        file: Where it is written.
        line: Where it is written.
    """

    name: str
    keys: tuple[str, ...]
    type: Kind
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[ScalarValue, ...] = ()
    when: Mapping[str, tuple[ScalarValue, ...]] = field(default_factory=dict, hash=False)
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Return one line for a plan: `optimizer.options.lr: float 0.001 to 0.1, log`."""
        if self.type == "categorical":
            text = f"one of {', '.join(map(str, self.choices))}"
        else:
            extra = ", log" if self.log else f", step {self.step:g}" if self.step else ""
            text = f"{self.type} {self.low:g} to {self.high:g}{extra}"
        conditions = self.conditions
        targets = "" if self.keys == (self.name,) or self.when else f" -> {', '.join(self.keys)}"
        return f"{self.name}: {text}{f' when {conditions}' if conditions else ''}{targets}"

    @property
    def start(self) -> Any:
        """The first value of its range."""
        return self.choices[0] if self.type == "categorical" else self.low

    @property
    def conditions(self) -> str:
        """Its conditions in words; empty without any."""
        return " and ".join(f"{key} is {' or '.join(map(str, values))}" for key, values in self.when.items())

    @property
    def all_names(self) -> tuple[str, ...]:
        """What it can be called: its name, the key that it is written under, and the keys that it sets."""
        return tuple(dict.fromkeys((self.name, self.entry[0], *self.keys)))

    @property
    def is_alternative(self) -> bool:
        """Whether it is one of several parameters with conditions that are written under the same key."""
        return bool(self.when) and self.name.endswith(f"[{condition_label(self.when)}]")

    @property
    def entry(self) -> tuple[str, dict[str, Any]]:
        """The key that it is written under in a file, and what is written there."""
        key = self.name.removesuffix(f"[{condition_label(self.when)}]") if self.is_alternative else self.name
        fields = {
            name: getattr(self, name) for name in ("low", "high", "step") if getattr(self, name) is not None
        }
        fields |= {"log": True} if self.log else {}
        fields |= {"choices": list(self.choices)} if self.choices else {}
        fields |= {"sets": list(self.keys)} if self.keys != (key,) else {}
        fields |= {"when": {asked: list(values) for asked, values in self.when.items()}} if self.when else {}
        return key, {"type": self.type, **fields}

    def suggest(self, trial: Trial) -> ScalarValue:
        """Ask the trial for its value."""
        if self.type == "categorical":
            return trial.suggest_categorical(self.name, self.choices)
        low, high = self.bounds()
        if self.type == "int":
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.name, int(low), int(high), step=step, log=self.log)
        return trial.suggest_float(self.name, low, high, step=self.step, log=self.log)

    def contains(self, value: object) -> bool:
        """Tell whether a trial could have this value."""
        if self.type == "categorical":
            return any(same_value(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.type == "int" else int | float):
            return False
        low, high = self.bounds()
        return low <= value <= high and self._on_grid(value)

    def covers(self, other: Parameter) -> bool:
        """Tell whether it exists wherever `other` does, and could have each value that `other` could."""
        equal = ("name", "keys", "type", "step", "log")
        return (
            all(getattr(self, name) == getattr(other, name) for name in equal)
            and all(map(self.contains, other.corners()))
            and all(
                key in other.when and all(any(same_value(a, b) for b in values) for a in other.when[key])
                for key, values in self.when.items()
            )
        )

    def corners(self) -> list[ScalarValue]:
        """Return low and high, or every choice."""
        if self.type == "categorical":
            return list(self.choices)
        low, high = self.bounds()
        return [low] if low == high else [low, high]

    def bounds(self) -> tuple[float, float]:
        """Return low, and the highest value that a whole number of steps reaches."""
        assert self.low is not None
        assert self.high is not None
        if self.step is None:
            return self.low, self.high
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        top = low + (high - low) // step * step
        return self.low, int(top) if self.type == "int" else float(top)

    def answers_to(self, key: str) -> bool:
        """Tell whether a condition on `key` means this parameter."""
        return key in self.keys or key == self.name

    def problem(self, message: str) -> Problem:
        """Return a Problem at the parameter's line."""
        return Problem(self.name, message, self.file, self.line)

    def _on_grid(self, value: float) -> bool:
        if self.step is None:
            return True
        steps = (Decimal(str(value)) - Decimal(str(self.low))) / Decimal(str(self.step))
        return abs(steps - round(steps)) < Decimal("1e-8")


def condition_label(when: Mapping[str, Sequence[ScalarValue]]) -> str:
    """Return what distinguishes the alternatives under one key: `CosFace`, `1|2,true`."""
    return ",".join("|".join(str(value) for value in values) for values in when.values())


def same_value(one: object, other: object) -> bool:
    """Tell whether values are equal, and both or neither a truth value: `1` is not `true`."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
