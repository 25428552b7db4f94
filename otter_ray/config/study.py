"""The `study:` section of a search space: how the search is run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from otter_ray.config.rules import Count, Name, Options, Positive, Rule, Section

SamplerName = Annotated[Literal["TPESampler", "RandomSampler"], Rule("TPESampler or RandomSampler")]


class Sampler(Section):
    """Optuna's sampler and its arguments."""

    name: SamplerName = "TPESampler"
    options: Options = Field(default_factory=dict)


class SchedulerOptions(Section):
    """ASHA's `r` and `eta` (Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning)."""

    grace_period: Count = 1  # epochs before a trial may be stopped
    reduction_factor: Annotated[int, Field(ge=2), Rule("a whole number >= 2")] = 3


class Scheduler(Section):
    """What stops bad trials early."""

    name: Annotated[Literal["ASHA", "none"], Rule("ASHA or none")] = "ASHA"
    options: SchedulerOptions = Field(default_factory=SchedulerOptions)


# Ray knows shares of one GPU and whole GPUs, and a worker is one process on one device.
GpuShare = Annotated[
    int | float,
    Field(ge=0, le=1),
    Rule("a number from 0 to 1: a worker uses one GPU or a share of one; for more, raise workers_per_trial"),
]


class Resources(Section):
    """What one trial occupies."""

    workers_per_trial: Count = 1
    cpus_per_worker: Positive = 1
    gpus_per_worker: GpuShare = 0  # 0.5: two trials share a GPU


class StudyOptions(Section):
    """The whole section; every key has a default."""

    metric: Name = "valid_fpr@4"
    mode: Annotated[Literal["max", "min"], Rule("max or min")] = "max"
    num_trials: Count = 32
    sampler: Sampler = Field(default_factory=Sampler)
    scheduler: Scheduler = Field(default_factory=Scheduler)
    resources: Resources = Field(default_factory=Resources)
