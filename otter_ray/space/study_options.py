"""The `study:` section of a search space: how the search is run."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from otter_ray.config.types import Count, Options, Positive, Rule, ScalarValue, Section, Text
from otter_ray.direction import Direction
from otter_ray.space.constraint import MODEL_STATS, Constraint
from otter_ray.space.samplers import CAPABILITIES, Capabilities, SamplerClass
from otter_ray.space.scheduler_options import Scheduler

*_FIRST, _LAST = get_args(SamplerClass)
SamplerName = Annotated[SamplerClass, Rule(f"{', '.join(_FIRST)} or {_LAST}")]


class Sampler(Section):
    """Optuna's sampler and its arguments."""

    name: SamplerName = "TPESampler"  # Optuna's class
    options: Options = Field(default_factory=dict)  # arguments of that class

    @property
    def capabilities(self) -> Capabilities:
        """What the sampler can search."""
        return CAPABILITIES[self.name]


# Ray knows shares of one GPU and whole GPUs, and a worker is one process on one device.
GpuShare = Annotated[
    int | float,
    Field(ge=0, le=1),
    Rule("a number from 0 to 1: a worker uses one GPU or a share of one; for more, raise workers_per_trial"),
]


NotNegative = Annotated[int, Field(ge=0), Rule("a whole number >= 0")]


class Resources(Section):
    """What one trial gets of the machines."""

    workers_per_trial: Count = 1  # processes that train a trial together (DDP)
    cpus_per_worker: Positive = 1  # CPUs for a worker's training and its data loader's processes together
    gpus_per_worker: GpuShare | None = None  # GPUs of a worker: 0.5 runs two on one GPU; null means 1 if any


Mode = Annotated[Literal["max", "min"], Rule("max or min")]


def _constraint(text: str) -> str:
    try:
        Constraint.of(text)
    except ValueError as exc:
        raise PydanticCustomError("rule", "{text}", {"text": str(exc)}) from exc
    return text


class Finalists(Section):
    """The search's best trials are trained again with new seeds. The best mean wins."""

    # Number of finalists.
    top: Annotated[int, Field(ge=1), Rule("a whole number >= 1, of trials (3, say), or leave finalists out")]
    # Runs of each finalist, with the seeds common.seed + 1, + 2 and so on. A mean needs at least two.
    seeds: Annotated[
        int,
        Field(ge=2),
        Rule("a whole number >= 2, of runs of each finalist (seeds: 3, say), or leave finalists out"),
    ]


EnqueuedTrial = Annotated[
    dict[str, ScalarValue],
    Field(min_length=1),
    Rule("a mapping from searched keys to values, {lr: 0.001} say"),
]


class StudyOptions(Section):
    """How a study is run. Every key has a default."""

    # Metric that decides the winner, as the model logs it after validation; empty means the model's first.
    metric: Text = ""
    mode: Mode = "max"  # whether larger or smaller values of the metric are better
    # Further objectives: {name of a model statistic or of a logged metric: max or min}.
    objectives: dict[str, Mode] = Field(default_factory=dict)
    # Bounds on model statistics that are known before training, for example "macs <= 50e6".
    constraints: list[Annotated[Text, AfterValidator(_constraint)]] = Field(default_factory=list)
    num_trials: Count = 32  # trials, the base config's included
    # Trials that come right after the base config's: [{lr: 0.001}]. The sampler proposes what one leaves out.
    enqueue: list[EnqueuedTrial] | None = None
    sampler: Sampler = Field(default_factory=Sampler)  # proposes the trials' values
    scheduler: Scheduler = Field(default_factory=Scheduler)  # stops bad trials early
    retries: NotNegative = 3  # attempts after the first of a trial that failed or whose process died
    keep_best: Count = 5  # number of trials whose best checkpoint is kept
    resources: Resources = Field(default_factory=Resources)  # what one trial gets of the machines
    finalists: Finalists | None = None  # null: the trial with the best value of its single run wins

    @property
    def direction(self) -> Direction:
        """Which values of the metric are better."""
        return Direction(self.mode)

    @property
    def other_directions(self) -> dict[str, Direction]:
        """The further objectives, each with which of its values are better."""
        return {name: Direction(mode) for name, mode in self.objectives.items()}

    @property
    def scheduler_metric(self) -> str:
        """The metric by which the scheduler compares trials."""
        return self.scheduler.metric or self.metric

    @property
    def bounds(self) -> list[Constraint]:
        """The constraints, parsed."""
        return [Constraint.of(text) for text in self.constraints]

    @property
    def model_stats(self) -> list[str]:
        """The model statistics that an objective or a constraint asks for, each once."""
        asked = [*self.objectives, *(bound.stat for bound in self.bounds)]
        return [name for name in MODEL_STATS if name in asked]
