"""The `scheduler:` of a study: what stops bad trials early. Each kind has options of its own."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, exp
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from otter_ray.config.types import Count, Flaw, Name, Positive, Rule, Section, validate

SchedulerName = Annotated[
    Literal["ASHA", "Hyperband", "median", "PBT", "none"], Rule("ASHA, Hyperband, median, PBT or none")
]
Share = Annotated[int | float, Field(ge=0, le=1), Rule("a number from 0 to 1")]
OptionFlaw = tuple[str, str]  # an option's name, and what is wrong with it


class SchedulerOptions(Section):
    """Options of any scheduler."""

    # Whether a new trial takes the place of a trial that is stopped. Such a trial does not count as done.
    replaces_stopped: ClassVar[bool] = False

    grace_period: Count = 1  # epochs before a trial may be stopped

    @property
    def checkpoint_interval(self) -> int | None:
        """Epochs between two checkpoints that are kept for other trials to start from; None: none is."""
        return None

    def flaws(self, max_epochs: int) -> Iterator[OptionFlaw]:
        """Yield what cannot work with trials of so many epochs."""
        if self.grace_period > max_epochs:
            yield "grace_period", f"is {self.grace_period} but must be <= max_epochs ({max_epochs})."

    def rungs(self, max_epochs: int) -> list[int]:
        """Return the epochs after which some trials are stopped; none if trials share no such epochs."""
        return []

    def expected_epochs(self, trials: int, max_epochs: int) -> float:
        """Return the epochs of all trials together, as far as theory says how many are stopped early."""
        return float(trials * max_epochs)

    def parents(self, trials: int) -> int:
        """Return how many of the best trials' checkpoints are kept after an epoch, of so many trials."""
        return 0


class ASHA(SchedulerOptions):
    """Asynchronous successive halving, its `r` and `eta` (Li et al. 2020, arXiv 1810.05934)."""

    # One of so many trials continues after a rung.
    reduction_factor: Annotated[int, Field(ge=2), Rule("a whole number >= 2")] = 2

    def first_rungs(self) -> list[int]:
        """Return the epochs after which each bracket begins to stop trials."""
        return [self.grace_period]

    def rungs(self, max_epochs: int) -> list[int]:
        """Return the epochs after which some trials are stopped."""
        found, rung = [], self.grace_period
        while rung < max_epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return found

    def expected_epochs(self, trials: int, max_epochs: int) -> float:
        """Return the epochs of all trials if successive halving does what it does on paper.

        The baseline trial takes all of its own. The asynchronous kind lets some more trials continue, because
        the first ones at a rung pass it.
        """
        halved = [_halved(first, self.reduction_factor, max_epochs) for first in self.first_rungs()]
        # Ray draws a bracket with the softmax of how many rungs each has.
        weights = [exp(rungs) for rungs, _ in halved]
        each = sum(weight * epochs for weight, (_, epochs) in zip(weights, halved, strict=True))
        return max_epochs + (trials - 1) * each / sum(weights)


class Hyperband(ASHA):
    """Several ASHAs side by side, each with a later first rung (Li et al. 2018, arXiv 1603.06560).

    Bracket s = 0, 1, ... begins to stop after `grace_period * reduction_factor**s` epochs.
    """

    reduction_factor: Annotated[int, Field(ge=2), Rule("a whole number >= 2")] = 3
    brackets: Annotated[int, Field(ge=1, le=20), Rule("a whole number from 1 to 20")] = 3  # number of ASHAs

    def first_rungs(self) -> list[int]:
        """Return the epochs after which each bracket begins to stop trials."""
        return [self.grace_period * self.reduction_factor**bracket for bracket in range(self.brackets)]

    def rungs(self, max_epochs: int) -> list[int]:
        """Return none: the trials of different brackets share no rungs."""
        return []

    def flaws(self, max_epochs: int) -> Iterator[OptionFlaw]:
        """Yield what cannot work with trials of so many epochs."""
        flaws = [*super().flaws(max_epochs)]
        if not flaws and (last := self.first_rungs()[-1]) > max_epochs:
            message = (
                f"is {self.brackets}, and the last bracket's first rung lies at {last} epochs but must be"
            )
            flaws.append(("brackets", f"{message} <= max_epochs ({max_epochs})."))
        yield from flaws


class Median(SchedulerOptions):
    """The median stopping rule (Golovin et al. 2017, Google Vizier, section 3.2.2)."""

    min_samples_required: Count = 3  # other trials that have come as far before any trial is stopped


class NoEarlyStopping(ASHA):
    """No scheduler: one that is switched off by its name alone keeps ASHA's options."""

    def flaws(self, max_epochs: int) -> Iterator[OptionFlaw]:
        """Yield nothing: the options are not used."""
        yield from ()

    def rungs(self, max_epochs: int) -> list[int]:
        """Return none."""
        return []

    def expected_epochs(self, trials: int, max_epochs: int) -> float:
        """Return all epochs of all trials."""
        return float(trials * max_epochs)


class PBT(SchedulerOptions):
    """Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846). Names and defaults are Ray's."""

    replaces_stopped: ClassVar[bool] = True

    perturbation_interval: Count = 2  # epochs between two comparisons of the trials
    # Share of the trials: copies of the best take the place of the worst.
    quantile_fraction: Annotated[int | float, Field(gt=0, le=0.5), Rule("a number above 0, up to 0.5")] = 0.25
    resample_probability: Share = 0.25  # probability that a value of a copy is drawn again
    # Factors, one of which changes a value that is not drawn again.
    perturbation_factors: Annotated[
        list[Positive], Field(min_length=1), Rule("a list of numbers > 0 such as [1.2, 0.8]")
    ] = Field(default_factory=lambda: [1.2, 0.8])

    @property
    def checkpoint_interval(self) -> int:
        """Epochs between two comparisons, after each of which a trial may be copied."""
        return self.perturbation_interval

    def flaws(self, max_epochs: int) -> Iterator[OptionFlaw]:
        """Yield what cannot work with trials of so many epochs."""
        flaws, interval = [*super().flaws(max_epochs)], self.perturbation_interval
        if not flaws and not any(e >= self.grace_period for e in range(interval, max_epochs, interval)):
            message = f"is {interval}, and no multiple of it lies from grace_period ({self.grace_period}) to"
            flaws.append(
                ("perturbation_interval", f"{message} below max_epochs ({max_epochs}): nothing changes.")
            )
        yield from flaws

    def parents(self, trials: int) -> int:
        """Return how many trials the best quantile holds, of so many trials."""
        return ceil(trials * self.quantile_fraction)


OPTIONS: dict[str, type[SchedulerOptions]] = {
    "ASHA": ASHA,
    "Hyperband": Hyperband,
    "median": Median,
    "PBT": PBT,
    "none": NoEarlyStopping,
}


class Scheduler(Section):
    """What stops bad trials early."""

    name: SchedulerName = "ASHA"
    # The metric that the scheduler checks after each epoch, with the study's `mode`. null means the study's
    # metric. If no scheduler is named, the model's low-variance proxy (`STEADIER`) is used, which is more
    # reliable in early epochs.
    metric: Name | None = None
    options: SerializeAsAny[SchedulerOptions] = Field(default_factory=dict, validate_default=True)

    @field_validator("options", mode="wrap")
    @classmethod
    def _of_its_name(cls, value: Any, handler: Any, info: ValidationInfo) -> Any:
        section = OPTIONS.get(info.data.get("name", ""))
        if section is None or isinstance(value, section):
            return value  # a wrong name is reported alone
        options, flaws = validate(section, {} if value is None else value)
        if options is None:
            raise ValidationError.from_exception_data(cls.__name__, [*map(_as_pydantic_error, flaws)])
        return options


def _halved(rung: int, factor: int, max_epochs: int) -> tuple[int, float]:
    """Return (rungs, epochs of a trial) from a first rung r on.

    Rungs lie at r, r f, r f^2, ... < T, and one trial of f continues from each. A trial then takes
    r + sum over k >= 1 of (min(r f^k, T) - r f^(k-1)) / f^k epochs.
    """
    count, reached, share, epochs = 0, 0, 1.0, 0.0
    while reached < max_epochs:
        count += rung <= max_epochs
        epochs += share * (min(rung, max_epochs) - reached)
        reached, rung, share = min(rung, max_epochs), rung * factor, share / factor
    return count, epochs


def _as_pydantic_error(flaw: Flaw) -> InitErrorDetails:
    path, text = flaw
    return InitErrorDetails(type=PydanticCustomError("rule", "{text}", {"text": text}), loc=path, input=None)
