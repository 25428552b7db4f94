"""The `study:` section of a search space: how the search is run."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from otter_ray.config.constraint import FIGURES, Constraint
from otter_ray.config.rules import Count, Name, Options, Positive, Rule, Section, Text
from otter_ray.config.scheduler import Scheduler

# Optuna's classes; `tune/sampler.py` makes them.
_Sampler = Literal[
    "TPESampler",
    "GPSampler",
    "CmaEsSampler",
    "QMCSampler",
    "RandomSampler",
    "GridSampler",
    "NSGAIISampler",
]
*_FIRST, _LAST = get_args(_Sampler)
SamplerName = Annotated[_Sampler, Rule(f"{', '.join(_FIRST)} or {_LAST}")]


class Sampler(Section):
    """Optuna's sampler and its arguments."""

    name: SamplerName = "TPESampler"
    options: Options = Field(default_factory=dict)


# Ray knows shares of one GPU and whole GPUs, and a worker is one process on one device.
GpuShare = Annotated[
    int | float,
    Field(ge=0, le=1),
    Rule("a number from 0 to 1: a worker uses one GPU or a share of one; for more, raise workers_per_trial"),
]


NotNegative = Annotated[int, Field(ge=0), Rule("a whole number >= 0")]


class Resources(Section):
    """What one trial occupies."""

    workers_per_trial: Count = 1  # processes that train it together (DDP)
    cpus_per_worker: Positive = 1  # for its training and its loader's processes together
    gpus_per_worker: GpuShare | None = None  # 0.5: two trials share a GPU; null: 1, where there are GPUs


Mode = Annotated[Literal["max", "min"], Rule("max or min")]


def _constraint(text: str) -> str:
    try:
        Constraint.of(text)
    except ValueError as exc:
        raise PydanticCustomError("rule", "{text}", {"text": str(exc)}) from exc
    return text


class Finalists(Section):
    """The search's best trials, trained again to their end: the winner is the best mean over fresh seeds."""

    top: Annotated[int, Field(ge=1), Rule("a whole number >= 1, of trials (3, say), or leave finalists out")]
    # Runs of each, with the seeds common.seed + 1 and so on. One run would only be lucky once more.
    seeds: Annotated[
        int,
        Field(ge=2),
        Rule("a whole number >= 2, of runs of each finalist (seeds: 3, say), or leave finalists out"),
    ]


class StudyOptions(Section):
    """The whole section; every key has a default."""

    metric: Name = "valid_fpr@4"  # that the winner is best in, as the model logs it after validation
    mode: Mode = "max"  # which of its values are good
    objectives: dict[str, Mode] = Field(default_factory=dict)  # beside the metric: {figure or logged: mode}
    # On figures of the model, known before a training: "macs <= 50e6".
    constraints: list[Annotated[Text, AfterValidator(_constraint)]] = Field(default_factory=list)
    num_trials: Count = 32  # the base config's among them
    sampler: Sampler = Field(default_factory=Sampler)  # what proposes
    scheduler: Scheduler = Field(default_factory=Scheduler)  # what stops early
    retries: NotNegative = 3  # of a trial that failed or whose process died
    keep_best: Count = 5  # trials whose best checkpoint is kept
    resources: Resources = Field(default_factory=Resources)
    finalists: Finalists | None = None  # null: the best value of a single run wins

    @property
    def bounds(self) -> list[Constraint]:
        """The constraints, parsed."""
        return [Constraint.of(text) for text in self.constraints]

    @property
    def figures(self) -> list[str]:
        """Figures of a model that an objective or a constraint asks for, each once."""
        asked = [*self.objectives, *(bound.figure for bound in self.bounds)]
        return [name for name in FIGURES if name in asked]
