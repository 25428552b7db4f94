"""The second depth of checking: does every class take the options that the config gives it?

The schema (`otter_ray.config`) needs no import; this needs torch and the project. Both run before
anything starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from otter_ray.config import Component, Config
from otter_ray.errors import ConfigError, OtterError, Problem, did_you_mean
from otter_ray.train.components import find_class, load_project, unknown_arguments

ACCELERATORS_WITH_GPU = ("gpu", "cuda")
# Arguments of Lightning's Trainer that `build_trainer` gives.
TRAINER_GIVEN = ("callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing", "logger")


class Checker:
    """Checks configs that differ little, such as the branches of a search space.

    A section that was looked at once is not looked at again: a model is built once for each
    architecture, not for each learning rate.

    Args:
        gpus: GPUs that the run could use, on this machine or in its cluster.
    """

    def __init__(self, gpus: float) -> None:
        self.gpus = gpus
        self._seen: dict[str, list[tuple[str, str]]] = {}

    def problems(self, config: Config, metric: str | None = None) -> list[Problem]:
        """Everything wrong with a config that the schema cannot see; `metric` is the study's."""
        try:
            load_project(config.project)
        except ConfigError as exc:
            return [config.problem(problem.key, problem.message) for problem in exc.problems]
        found = [
            *self._components(config),
            *_accelerator(config, self.gpus),
            *_plain(config, "trainer", L.Trainer, config.trainer.model_dump(), TRAINER_GIVEN),
            *_plain(
                config, "dataloader.train_options", DataLoader, config.dataloader.train_options, ["dataset"]
            ),
            *_plain(
                config, "dataloader.valid_options", DataLoader, config.dataloader.valid_options, ["dataset"]
            ),
        ]
        if not found:
            found = [*self._model(config), *_monitors(config, metric)]
        return found

    def _components(self, config: Config) -> Iterator[Problem]:
        for key, kind, section in _sections(config):
            for below, message in self._once(
                (config.project, kind, section.name, section.arguments),
                partial(_component, kind, section, config.project),
            ):
                yield config.problem(f"{key}.{below}", message)

    def _model(self, config: Config) -> Iterator[Problem]:
        model = config.model.model_dump()
        identity = (config.project, model, config.common.image_size)
        for key, message in self._once(identity, partial(_build, config)):
            yield config.problem(key, message)

    def _once(self, identity: Any, check: Callable[[], list[tuple[str, str]]]) -> list[tuple[str, str]]:
        key = json.dumps(identity, sort_keys=True, default=str)
        if key not in self._seen:
            self._seen[key] = check()
        return self._seen[key]


def check_config(config: Config, gpus: float | None = None, metric: str | None = None) -> None:
    """Raises ConfigError with every problem found; `gpus` is this machine's number by default."""
    problems = Checker(torch.cuda.device_count() if gpus is None else gpus).problems(config, metric)
    if problems:
        raise ConfigError(problems)


def _sections(config: Config) -> Iterator[tuple[str, str, Component]]:
    """(key, kind, section) of every component that stands in the config."""
    model, data = config.model, config.dataset
    yield "model.backbone", "backbone", model.backbone
    if model.neck is not None:
        yield "model.neck", "neck", model.neck
    yield "model.head", "head", model.head
    yield "model.loss", "loss", model.loss
    yield "dataset.train_options", "dataset", data.train_options
    yield "dataset.valid_options", "dataset", data.valid_options
    yield "optimizer", "optimizer", config.optimizer
    if config.lr_scheduler is not None:
        yield "lr_scheduler", "lr_scheduler", config.lr_scheduler
    for index, callback in enumerate(config.callbacks):
        yield f"callbacks.{index}", "callback", callback
    if config.logger is not None:
        yield "logger", "logger", config.logger


def _component(kind: str, section: Component, project: str) -> list[tuple[str, str]]:
    """(key below the section, message) for a name that is not found and options that are not taken."""
    try:
        cls = find_class(section.name, kind, project)
    except LookupError as exc:
        return [("name", str(exc.args[0]))]
    below = "" if section.arguments != section.options else "options."
    wrong = [
        (f"options.{name}" if name in section.options else below + name, message)
        for name, message in unknown_arguments(cls, section.arguments).items()
    ]
    return wrong or _construct(kind, cls, section)


def _construct(kind: str, cls: type[Any], section: Component) -> list[tuple[str, str]]:
    """Builds what is cheap to build: a class knows best which values it refuses."""
    leading: dict[str, list[Any]] = {"optimizer": [[torch.nn.Parameter(torch.zeros(1))]], "callback": []}
    if kind not in leading:
        return []
    try:
        cls(*leading[kind], **section.options)
    except Exception as exc:
        return [("options", f"{section.name} refuses them: {exc}")]
    return []


def _plain(
    config: Config, key: str, cls: type[Any], options: Mapping[str, Any], given: Collection[str]
) -> list[Problem]:
    """Problems of options that go to a library's class; the run itself gives those in `given`."""
    ours = {name: "is given by the run itself. Remove it." for name in options if name in given}
    wrong = {**unknown_arguments(cls, options), **ours}
    return [config.problem(f"{key}.{name}", message) for name, message in wrong.items()]


def _accelerator(config: Config, gpus: float) -> list[Problem]:
    if config.trainer.accelerator not in ACCELERATORS_WITH_GPU or gpus:
        return []
    message = (
        f"{config.trainer.accelerator!r} but no GPU is visible. Set it to 'auto' or 'cpu' "
        "(--set trainer.accelerator=cpu), or run where there is one."
    )
    return [config.problem("trainer.accelerator", message)]


def _build(config: Config) -> list[tuple[str, str]]:
    """Builds the model without memory for its weights; the loss with two classes where it asks the data."""
    if config.model.loss.arguments.get("num_classes") == -1:
        config = config.with_values({"model.loss.num_classes": 2})
    if "pretrained" in config.model.backbone.options:
        # Not with_values: a changed backbone would reset the sizes that are to be checked against it.
        config = config.with_sets(["model.backbone.options.pretrained=false"])
    try:
        cls = find_class(config.model.name, "model", config.project)
    except LookupError as exc:
        return [("model.name", str(exc.args[0]))]
    try:
        with torch.device("meta"):
            cls(config)
    except ConfigError as exc:
        return [(problem.key, problem.message) for problem in exc.problems]
    except (LookupError, OtterError, ValueError, TypeError, RuntimeError) as exc:
        return [("model", f"cannot be built: {exc}")]
    return []


def _monitors(config: Config, metric: str | None) -> list[Problem]:
    """Metrics that are waited for but never logged, where the model's class says what it logs."""
    try:
        logged = getattr(find_class(config.model.name, "model", config.project), "METRICS", ())
    except LookupError:  # told by `_build`
        return []
    monitored = {
        f"callbacks.{index}.options.monitor": callback.options.get("monitor")
        for index, callback in enumerate(config.callbacks)
    }
    if metric is not None:
        monitored["study.metric"] = metric
    rule = f"It logs {', '.join(logged)}."
    return [
        config.problem(key, f"{config.model.name} never logs {name!r}. {rule}{did_you_mean(name, logged)}")
        for key, name in monitored.items()
        if logged and isinstance(name, str) and name not in logged
    ]
