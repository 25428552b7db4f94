"""The `scheduler:` of a study: what stops bad trials early, each kind with its own options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from otter_ray.config.rules import Count, Flaw, Name, Positive, Rule, Section, validate

SchedulerName = Annotated[
    Literal["ASHA", "Hyperband", "median", "PBT", "none"], Rule("ASHA, Hyperband, median, PBT or none")
]
Share = Annotated[int | float, Field(ge=0, le=1), Rule("a number from 0 to 1")]


class SchedulerOptions(Section):
    """Options of any scheduler."""

    grace_period: Count = 1  # epochs before a trial may be stopped


class ASHA(SchedulerOptions):
    """Asynchronous successive halving, its `r` and `eta` (Li et al. 2020, arXiv 1810.05934)."""

    reduction_factor: Annotated[int, Field(ge=2), Rule("a whole number >= 2")] = 2  # one of so many goes on


class Hyperband(ASHA):
    """Several ASHAs side by side, each with a later first rung (Li et al. 2018, arXiv 1603.06560).

    Bracket s = 0, 1, ... begins to stop after `grace_period * reduction_factor**s` epochs.
    """

    reduction_factor: Annotated[int, Field(ge=2), Rule("a whole number >= 2")] = 3
    brackets: Annotated[int, Field(ge=1, le=20), Rule("a whole number from 1 to 20")] = 3  # ASHAs

    def first_rungs(self) -> list[int]:
        """Epochs after which each bracket begins to stop trials."""
        return [self.grace_period * self.reduction_factor**bracket for bracket in range(self.brackets)]


class Median(SchedulerOptions):
    """The median stopping rule (Golovin et al. 2017, Google Vizier, section 3.2.2)."""

    min_samples_required: Count = 3  # other trials that have come as far, before any is stopped


class PBT(SchedulerOptions):
    """Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846). Names and defaults are Ray's."""

    perturbation_interval: Count = 2  # epochs between two comparisons with the others
    quantile_fraction: Annotated[int | float, Field(gt=0, le=0.5), Rule("a number above 0, up to 0.5")] = (
        0.25  # of the trials: the worst give way to copies of the best
    )
    resample_probability: Share = 0.25  # that a copy's value is drawn anew; else it is...
    perturbation_factors: Annotated[
        list[Positive], Field(min_length=1), Rule("a list of numbers > 0 such as [1.2, 0.8]")
    ] = Field(default_factory=lambda: [1.2, 0.8])  # ...multiplied by one of these


# One that is switched off by its name alone keeps ASHA's options.
OPTIONS: dict[str, type[SchedulerOptions]] = {
    "ASHA": ASHA,
    "Hyperband": Hyperband,
    "median": Median,
    "PBT": PBT,
    "none": ASHA,
}


class Scheduler(Section):
    """What stops bad trials early."""

    name: SchedulerName = "ASHA"
    # That it looks at after each epoch, in the study's mode; null: the study's. Where no scheduler is named,
    # it is the one that the model knows to be steadier in early epochs (`STEADIER`).
    metric: Name | None = None
    options: SerializeAsAny[SchedulerOptions] = Field(default_factory=dict, validate_default=True)

    @field_validator("options", mode="wrap")
    @classmethod
    def _of_its_name(cls, value: Any, handler: Any, info: ValidationInfo) -> Any:
        section = OPTIONS.get(info.data.get("name", ""))
        if section is None or isinstance(value, section):
            return value  # a wrong name is told alone
        options, flaws = validate(section, {} if value is None else value)
        if options is None:
            raise ValidationError.from_exception_data(cls.__name__, [*map(_told, flaws)])
        return options


def _told(flaw: Flaw) -> InitErrorDetails:
    path, text = flaw
    return InitErrorDetails(type=PydanticCustomError("rule", "{text}", {"text": text}), loc=path, input=None)
