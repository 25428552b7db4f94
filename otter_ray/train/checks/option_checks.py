"""Check the options of a config, section by section, against the classes and libraries that get them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from otter_ray.config import Component, Config
from otter_ray.config.schema import GPU_ACCELERATORS
from otter_ray.errors import Problem
from otter_ray.train.builders import callback_options, offered_settings
from otter_ray.train.checks.trainer_checks import TRAINER_GIVEN, Flaw, trainer_problems
from otter_ray.train.loader_options import named_flaws
from otter_ray.train.registry import accepted, find_class, unknown_arguments
from otter_ray.train.schedule.schedule_building import schedule_problems
from otter_ray.train.tracking.loggers import missing_package

# Lightning's callback -> why a run cannot have it, and what to do.
REFUSED_CALLBACKS = {
    "LearningRateFinder": "tries learning rates for itself, and no report or config would have the one that "
    "it takes. Search the learning rate instead.",
    "BatchSizeFinder": "tries batch sizes for itself, and no report or config would have the one that it "
    "takes. Search the batch size instead.",
    "StochasticWeightAveraging": "averages the weights after the last validation: no checkpoint would have "
    "them. Use WeightAveraging or EMAWeightAveraging.",
}


def components_of(config: Config) -> Iterator[tuple[str, str, Component]]:
    """Yield (key, kind, section) of every component in the config."""
    model, data = config.model, config.dataset
    yield "model.backbone", "backbone", model.backbone
    if model.neck is not None:
        yield "model.neck", "neck", model.neck
    yield "model.head", "head", model.head
    yield "model.loss", "loss", model.loss
    if model.teacher is not None:
        yield "model.teacher", "teacher", model.teacher
    yield "dataset.train_options", "dataset", data.train_options
    yield "dataset.valid_options", "dataset", data.valid_options
    if data.test_options is not None:
        yield "dataset.test_options", "dataset", data.test_options
    yield "optimizer", "optimizer", config.optimizer
    if config.lr_scheduler is not None:
        yield "lr_scheduler", "lr_scheduler", config.lr_scheduler
    for index, callback in enumerate(config.callbacks):
        yield f"callbacks.{index}", "callback", callback
    for key, logger in config.logger_sections():
        yield key, "logger", logger


def component_flaws(kind: str, section: Component, project: str) -> list[Flaw]:
    """Return the flaws, keyed below the section, of a name that is not found or options that do not fit."""
    try:
        cls = find_class(section.name, kind, project)
    except LookupError as exc:
        return [("name", str(exc.args[0]))]
    wrong = [
        (f"options.{name}" if name in section.options else name, message)
        for name, message in unknown_arguments(cls, section.arguments).items()
    ]
    return wrong or _construct(kind, cls, section)


def _construct(kind: str, cls: type[Any], section: Component) -> list[Flaw]:
    """Build what is cheap to build: a class knows best which values it refuses."""
    leading: list[Any] = []
    match kind:
        case "logger":
            message = missing_package(cls)
            return [("name", message)] if message else []
        case "callback":
            if refused := [base.__name__ for base in cls.mro() if base.__name__ in REFUSED_CALLBACKS]:
                return [("name", f"{section.name} {REFUSED_CALLBACKS[refused[0]]}")]
        case "optimizer":
            leading = [[torch.nn.Parameter(torch.zeros(1))]]
        case _:
            return []
    try:
        options = callback_options(cls, section.options) if kind == "callback" else section.options
        cls(*leading, **options)
    except Exception as exc:
        return [("options", f"{section.name} refuses them: {exc}")]
    return []


def settings_problems(config: Config, gpus: float) -> list[Problem]:
    """Return the problems of everything that is no component: trainer, loaders, and what must agree.

    Args:
        config: The config to check.
        gpus: GPUs that the run could use.
    """
    return [
        *trainer_section_problems(config, gpus),
        *quantize_problems(config),
        *_contradictions(config),
        *_unused(config),
        *_splits_that_overlap(config),
        *schedule_problems(config),
        *_accumulation(config),
        *_loader(config, "train_options"),
        *_loader(config, "valid_options"),
    ]


def trainer_section_problems(
    config: Config, gpus: float, given: Collection[str] = TRAINER_GIVEN
) -> list[Problem]:
    """Return the problems of `trainer:`.

    Args:
        config: The config to check.
        gpus: GPUs that the run could use.
        given: The arguments that the run itself gives.
    """
    return [
        *_accelerator(config, gpus),
        *trainer_problems(config),
        *_library_problems(config, "trainer", L.Trainer, config.trainer.model_dump(), given),
    ]


def _library_problems(
    config: Config, key: str, cls: type[Any], options: Mapping[str, Any], given: Collection[str]
) -> list[Problem]:
    """Return the problems of options for a library's class; the run itself gives those in `given`."""
    ours = {name: "is given by the run itself. Remove it." for name in options if name in given}
    wrong = {**unknown_arguments(cls, options), **ours}
    return [config.problem(f"{key}.{name}", message) for name, message in wrong.items()]


def _loader(config: Config, part: str) -> list[Problem]:
    options, key = getattr(config.dataloader, part), f"dataloader.{part}"
    return [
        *_library_problems(config, key, DataLoader, options, ["dataset"]),
        *(config.problem(f"{key}.{name}", message) for name, message in named_flaws(options, config.project)),
    ]


def _accelerator(config: Config, gpus: float) -> list[Problem]:
    if config.trainer.accelerator not in GPU_ACCELERATORS or gpus:
        return []
    message = (
        f"{config.trainer.accelerator!r} but no GPU is visible. Set it to 'auto' or 'cpu' "
        "(--set trainer.accelerator=cpu), or run where there is one."
    )
    return [config.problem("trainer.accelerator", message)]


def quantize_problems(config: Config) -> list[Problem]:
    """Return what an int8 file lacks: its ranges are found on training items without augmentation."""
    if config.quantize is None or "int8" not in config.quantize.wanted:
        return []
    section = config.dataset.train_options
    with suppress(LookupError):  # reported already
        cls = find_class(section.name, "dataset", config.project)
        if not hasattr(cls, "without_augmentation"):
            message = (
                "includes int8, whose ranges are found on training items without augmentation, and "
                f"{section.name} has no without_augmentation(). Write one that returns a data set of such "
                "items, or set quantize.precisions to [fp16]."
            )
            return [config.problem("quantize.precisions", message)]
    return []


def _accumulation(config: Config) -> Iterator[Problem]:
    """Yield an accumulation of gradients that is given twice."""
    key = "trainer.accumulate_grad_batches"
    if config.get(key) == 1:
        return
    for section in config.callbacks:
        with suppress(LookupError):  # reported already
            cls = find_class(section.name, "callback", config.project)
            if issubclass(cls, GradientAccumulationScheduler):
                message = f"is decided by the callback {section.name}. Remove one of the two."
                yield config.problem(key, message)


def _contradictions(config: Config) -> Iterator[Problem]:
    """Yield settings that the training set repeats, with another value than the rest of the run uses."""
    options = config.dataset.train_options.options
    for name, shared in offered_settings(config).items():
        own = options.get(name)
        if own not in (None, shared) and [own, own] != shared:  # a side of a square is a size, too
            message = f"{own} but common.{name} is {shared}. Make them the same, or remove this one."
            yield config.problem(f"dataset.train_options.options.{name}", message)


def _unused(config: Config) -> Iterator[Problem]:
    """Yield settings of other projects, which nothing of this one asks for."""
    with suppress(LookupError):  # reported already
        cls = find_class(config.dataset.train_options.name, "dataset", config.project)
        for name in ("use_imagenet", "use_clip"):
            if offered_settings(config)[name] and not accepted(cls, {name: True}):
                message = f"is true, but {cls.__name__} has no argument `{name}`. Remove this key."
                yield config.problem(f"common.{name}", message)
        if config.model.teacher is not None and not accepted(cls, {"use_clip": True}):
            message = f"is given, but {cls.__name__} has no argument `use_clip`: nothing uses it. Remove it."
            yield config.problem("model.teacher", message)


def _splits_that_overlap(config: Config) -> Iterator[Problem]:
    """Yield data sets that cannot be kept apart: two that draw the same, or one that leaves nothing out.

    A data set that is drawn has nothing to leave out. Its class names the option that tells two of them
    apart: `disjoint_by = "seed"`.
    """
    data = config.dataset
    # The later one is to differ, or to leave out what the earlier one holds.
    for (first, earlier), (second, later), argument in (
        (("train_options", data.train_options), ("valid_options", data.valid_options), None),
        (("test_options", data.test_options), ("train_options", data.train_options), "test_dataset"),
        (("valid_options", data.valid_options), ("test_options", data.test_options), "valid_dataset"),
    ):
        if earlier is None or later is None:
            continue
        with suppress(LookupError):  # reported already
            drawn = [_drawn_by(section, config.project) for section in (earlier, later)]
            if drawn[0] and drawn[0] == drawn[1]:
                option, value = drawn[0]
                message = f"{value} is also that of dataset.{first}: both draw the same. Give another one."
                yield config.problem(f"dataset.{second}.options.{option}", message)
            cls = find_class(later.name, "dataset", config.project)
            if argument and not any(drawn) and not accepted(cls, {argument: None}):
                message = (
                    f"{later.name} has no argument `{argument}`, so it cannot leave out those documents. "
                    "Use a data set that has one, or remove dataset.test_options."
                )
                yield config.problem(f"dataset.{second}.name", message)


def _drawn_by(section: Component, project: str) -> tuple[str, Any] | None:
    """Return (option, value) of what tells a drawn data set apart from others; None if it is not drawn."""
    cls = find_class(section.name, "dataset", project)
    if (option := getattr(cls, "disjoint_by", None)) is None:
        return None
    known = inspect.signature(cls).parameters.get(option)
    return option, section.options.get(option, None if known is None else known.default)
