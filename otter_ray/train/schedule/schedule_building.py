"""Build the learning rate schedule that a config names, and check what can be wrong with it.

The classes are torch's, timm's and those of `otter_ray.train.schedules`. A schedule of several parts
(`SequentialLR`, `ChainedScheduler`) has them in its options, each with a name and options of its own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities.types import LRSchedulerConfig
from timm.scheduler import PlateauLRScheduler
from timm.scheduler.scheduler import Scheduler as TimmScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, ReduceLROnPlateau, SequentialLR

from otter_ray.config import Config
from otter_ray.config.schema import LrScheduler
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.train.checks.trainer_checks import Flaw
from otter_ray.train.registry import accepted, find_callable, find_class, unknown_arguments

WARMUP_SHARE = 0.1
# Arguments for which -1 means: as long as the run, or the part of it that the schedule has.
LENGTHS = ("total_iters", "T_max", "T_0", "total_steps", "t_initial")
# The same, but for WARMUP_SHARE of it.
WARMUPS = ("warmup_iters", "warmup_t")
# Arguments that are functions, which a config names.
FUNCTIONS = ("lr_lambda", "scale_fn")
OF_PARTS = (SequentialLR, ChainedScheduler)


@dataclass(frozen=True)
class RunLength:
    """How long a run is.

    Attributes:
        epochs: Its epochs.
        steps: Steps of the optimizer in all of them.
        ticks: How often the config's schedule is stepped, at least once. Of timm's schedules that is the
            number that they are given at the end, whatever the frequency.
    """

    epochs: int
    steps: int
    ticks: int

    @classmethod
    def of(cls, config: Config, batches: int) -> RunLength:
        """Return the length of the config's run with so many batches in an epoch.

        Lightning's own estimate knows nothing of an accumulation that changes.
        """
        epochs, accumulation = config.trainer.max_epochs, accumulation_of(config)
        most = (config.trainer.model_extra or {}).get("max_steps", -1)
        by_steps, frequency = _rhythm(config)
        steps, ticks, count = 0, 0, 1
        for epoch in range(epochs):
            count = accumulation.get(epoch, count)
            # The batches, from 1, after which the optimizer steps; it always does after the last one.
            ends = range(count, batches + count, count)
            ends = ends if most == -1 else ends[: most - steps]
            steps += len(ends)
            # Of these steps, Lightning passes on those whose batch the frequency divides.
            ticks += sum(min(end, batches) % frequency == 0 for end in ends)
        return cls(epochs, steps, max(1, ticks if by_steps else epochs // frequency))


def _rhythm(config: Config) -> tuple[bool, int]:
    """Return whether the schedule goes by steps, not by epochs, and how many of them move it by one."""
    section = config.lr_scheduler
    if section is None:
        return False, 1
    # timm's schedules are given the number of the step or epoch, however often they are asked.
    is_timm = issubclass(find_class(section.name, "lr_scheduler", config.project), TimmScheduler)
    frequency = 1 if is_timm else int(section.pl_options.get("frequency", 1))
    return section.pl_options.get("interval") == "step", frequency


def accumulation_of(config: Config) -> dict[int, int]:
    """Return how many batches make a step, by the epoch, from 0, in which that begins."""
    for section in config.callbacks:
        with suppress(LookupError):
            cls = find_class(section.name, "callback", config.project)
            if issubclass(cls, GradientAccumulationScheduler):
                return whole_keys(section.options["scheduling"])
    return {0: config.trainer.accumulate_grad_batches}


def whole_keys(scheduling: Mapping[str, int]) -> dict[int, int]:
    """Return a mapping of epochs with numbers as keys: in a config, they are text."""
    return {int(epoch): count for epoch, count in scheduling.items()}


@dataclass(frozen=True)
class _Builder:
    """Builds a schedule, or a part of one.

    Attributes:
        optimizer: What it is for.
        project: Where names are looked up first.
        length: The run's.
        ticks: How often the schedule is stepped.
        in_epochs: Whether it is stepped after epochs, not after steps.
    """

    optimizer: Optimizer
    project: str
    length: RunLength
    ticks: int
    in_epochs: bool

    def build(self, name: str, options: Mapping[str, Any]) -> Any:
        cls = find_class(name, "lr_scheduler", self.project)
        filled = {**accepted(cls, {"t_in_epochs": self.in_epochs}), **self._filled(options)}
        for key in FUNCTIONS:
            if isinstance(filled.get(key), str):
                filled[key] = find_callable(filled[key], "lr_scheduler", self.project)
        if issubclass(cls, OF_PARTS):
            filled["schedulers"] = [*self._parts(filled)]
            # ChainedScheduler takes the optimizer second.
            return cls(optimizer=self.optimizer, **filled)
        return cls(self.optimizer, **filled)

    def _filled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Replace every -1 that means a length."""
        filled = dict(options)
        lengths = dict.fromkeys(LENGTHS, self.ticks)
        per_epoch = math.ceil(self.length.steps / self.length.epochs)
        lengths |= {"epochs": self.length.epochs, "steps_per_epoch": per_epoch}
        filled |= {key: length for key, length in lengths.items() if filled.get(key) == -1}
        whole = next((filled[key] for key in LENGTHS if key in filled), self.ticks)
        filled |= {key: int(whole * WARMUP_SHARE) for key in WARMUPS if filled.get(key) == -1}
        return filled

    def _parts(self, options: Mapping[str, Any]) -> Iterator[Any]:
        """Build the parts. Those of a sequence share its length out by the milestones."""
        sections: list[Mapping[str, Any]] = options["schedulers"]
        ends = [0, *options.get("milestones", []), self.ticks]
        shares = [max(1, end - start) for start, end in pairwise(ends)]
        # The parts of a chain all last for the whole run.
        shares += [self.ticks] * (len(sections) - len(shares))
        for section, share in zip(sections, shares, strict=False):
            part = replace(self, ticks=share)
            yield part.build(section["name"], section.get("options") or {})


def build_schedule(config: Config, optimizer: Optimizer, length: RunLength) -> dict[str, Any] | None:
    """Build the config's schedule as Lightning takes it; None if the config has none.

    Raises:
        ConfigError: The class refuses its options.
    """
    section = config.lr_scheduler
    if section is None:
        return None
    in_epochs = section.pl_options.get("interval") != "step"
    builder = _Builder(optimizer, config.project, length, length.ticks, in_epochs)
    try:
        schedule = builder.build(section.name, section.options)
    except (TypeError, ValueError, AssertionError, LookupError) as exc:
        message = f"{section.name} refuses them: {exc.args[0] if exc.args else type(exc).__name__}"
        raise ConfigError([config.problem("lr_scheduler.options", message)]) from exc
    return {"scheduler": schedule, **section.pl_options}


def step_timm(schedule: TimmScheduler, epochs: int, steps: int, metric: Any) -> None:
    """Step one of timm's schedules, which count neither epochs nor steps themselves."""
    if schedule.t_in_epochs:
        schedule.step(epochs, metric)
    else:
        schedule.step_update(steps, metric)


def schedule_problems(config: Config) -> list[Problem]:
    """Return what is wrong with the schedule whatever the run's length is."""
    section = config.lr_scheduler
    if section is None:
        return []
    flaws = [
        *_option_flaws(section.name, section.options, config.project, "options"),
        *_lightning_flaws(config, section),
    ]
    return [config.problem(f"lr_scheduler.{key}", message) for key, message in flaws]


def _option_flaws(name: str, options: Mapping[str, Any], project: str, key: str) -> Iterator[Flaw]:
    """Yield the flaws of a schedule's options, and of its parts'."""
    try:
        cls = find_class(name, "lr_scheduler", project)
    except LookupError:
        return  # reported already
    parameters = inspect.signature(cls).parameters
    for option, value in options.items():
        known = (*LENGTHS, *WARMUPS, "epochs", "steps_per_epoch")
        is_default = option in parameters and parameters[option].default == value
        has_one = -1 in value if isinstance(value, list) else value == -1
        if has_one and option not in known and not is_default:
            message = (
                f"is {value}, but -1 means the run's length only for {', '.join(known)}. Give the number."
            )
            yield f"{key}.{option}", message
    if "t_in_epochs" in options:
        yield f"{key}.t_in_epochs", "follows from lr_scheduler.pl_options.interval. Remove it."
    if issubclass(cls, OF_PARTS):
        yield from _part_flaws(options.get("schedulers"), project, f"{key}.schedulers")


def _part_flaws(sections: Any, project: str, key: str) -> Iterator[Flaw]:
    shape = "{name: LinearLR, options: {total_iters: 100}}"
    if not isinstance(sections, list) or not sections:
        yield key, f"must be a list of schedules, each such as {shape}."
        return
    for index, section in enumerate(sections):
        place = f"{key}.{index}"
        if not isinstance(section, Mapping) or not {"name"} <= section.keys() <= {"name", "options"}:
            yield place, f"must be a schedule, such as {shape}."
            continue
        options = section.get("options") or {}
        try:
            cls = find_class(section["name"], "lr_scheduler", project)
        except LookupError as exc:
            yield f"{place}.name", str(exc.args[0])
            continue
        if issubclass(cls, TimmScheduler):
            yield f"{place}.name", f"{section['name']} is timm's, and torch's schedules cannot step it."
        for name, message in unknown_arguments(cls, options).items():
            yield f"{place}.options.{name}", message
        yield from _option_flaws(section["name"], options, project, f"{place}.options")


def _lightning_flaws(config: Config, section: LrScheduler) -> Iterator[Flaw]:
    """Yield what Lightning would ignore, or refuse in the first epoch."""
    known = [field.name for field in fields(LRSchedulerConfig) if field.name != "scheduler"]
    for name in section.pl_options:
        if name not in known:
            rule = f"is not an option of Lightning's.{did_you_mean(name, known)}"
            yield f"pl_options.{name}", f"{rule} They are {', '.join(known)}."
    options = {"interval": "epoch", "frequency": 1, "strict": True, **section.pl_options}
    interval, frequency, monitor = options["interval"], options["frequency"], options.get("monitor")
    if interval not in ("step", "epoch"):
        yield "pl_options.interval", f"is {interval!r}. Give step or epoch."
    if not isinstance(frequency, int) or frequency < 1:
        yield "pl_options.frequency", f"is {frequency!r}. Give a whole number >= 1."
    try:
        cls = find_class(section.name, "lr_scheduler", config.project)
    except LookupError:
        return  # reported already
    if issubclass(cls, PlateauLRScheduler):
        yield "name", "PlateauLRScheduler cannot be saved in a checkpoint. Use torch's ReduceLROnPlateau."
    if not issubclass(cls, ReduceLROnPlateau):
        return
    if monitor is None:
        message = f"is missing: {section.name} waits for a metric. Name one that the model logs."
        yield "pl_options.monitor", message
    elif interval == "step" and options["strict"] and monitor in _validated_metrics(config):
        message = f"is step, but {monitor} is known only after an epoch's validation. Set it to epoch."
        yield "pl_options.interval", message


def _validated_metrics(config: Config) -> tuple[str, ...]:
    try:
        return tuple(getattr(find_class(config.model.name, "model", config.project), "SCORES", ()))
    except LookupError:
        return ()  # reported already
