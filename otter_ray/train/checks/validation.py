"""Check a config as deeply as is possible without its data, before anything starts.

The schema (`otter_ray.config`) imports nothing of what a config names; this imports torch and the project.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor

from otter_ray.config import Config
from otter_ray.config.config import DERIVED
from otter_ray.errors import ConfigError, OtterError, Problem, in_one_line
from otter_ray.train.builders import with_classes, without_pretrained
from otter_ray.train.checkpoint.restore import STATEFUL_SECTIONS, find_restore, restore_problems
from otter_ray.train.checks.option_checks import component_flaws, components_of, settings_problems
from otter_ray.train.checks.trainer_checks import Flaw, precision_flaws, refused_by_lightning
from otter_ray.train.model.declared_metrics import monitor_problems, unlogged
from otter_ray.train.model.example_inputs import model_inputs
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.registry import by_project, find_class, load_project


class Checker:
    """Checks configs that differ little, such as the branches of a search space.

    A section that was checked once is not checked again: a model is built once for each architecture, not
    for each learning rate.

    Args:
        gpus: GPUs that the run could use, on this machine or in its cluster.
        starts: False for a run that resumes: the checkpoint it once started from (`common.is_restore`) may
            be gone.
    """

    def __init__(self, gpus: float, starts: bool = True) -> None:
        self.gpus, self.starts = gpus, starts
        self._seen: dict[str, list[Flaw]] = {}

    def problems(self, config: Config) -> list[Problem]:
        """Return everything that is wrong with a config and that the schema cannot see."""
        try:
            load_project(config.project)
        except ConfigError as exc:
            return [config.problem(problem.key, problem.message) for problem in exc.problems]
        return section_problems(config, self)

    def components(self, config: Config) -> Iterator[Problem]:
        """Return the problems of the classes that the sections name, and of their options."""
        for key, kind, section in components_of(config):
            identity = (config.project, kind, section.name, section.arguments)
            check = partial(component_flaws, kind, section, config.project)
            for below, message in self._once(identity, check):
                yield config.problem(f"{key}.{below}", message)

    def precision(self, config: Config) -> list[Problem]:
        """Return the problems of a precision that Lightning does not know."""
        precision = config.trainer.precision
        flaws = self._once(("precision", precision), partial(precision_flaws, precision))
        return [config.problem(key, message) for key, message in flaws]

    def trainer(self, config: Config) -> list[Problem]:
        """Return what Lightning's Trainer refuses."""
        options = config.trainer.model_dump()
        flaws = self._once(("trainer", options), partial(refused_by_lightning, options))
        return [config.problem(key, message) for key, message in flaws]

    def model(self, config: Config) -> list[Problem]:
        """Return the problems of the model as a whole."""
        identity = (
            config.project,
            config.model.model_dump(),
            config.common.image_size,
            config.common.use_clip,
            self._restored(config),
            config.data_section.model_dump(),  # a model may refuse what its data sets return
        )
        flaws = self._once(identity, partial(_model_flaws, config, self.starts))
        return [config.problem(key, message) for key, message in flaws]

    def _restored(self, config: Config) -> Any:
        """Return what decides whether a checkpoint is one to start from."""
        common = config.common
        if not (self.starts and common.is_restore):
            return None
        states = [config.to_dict().get(section) for section in (*STATEFUL_SECTIONS, "trainer")]
        return common.model_dump(), states if common.restore_all_states else None

    def _once(self, identity: Any, check: Callable[[], list[Flaw]]) -> list[Flaw]:
        key = json.dumps(identity, sort_keys=True, default=str)
        if key not in self._seen:
            self._seen[key] = check()
        return self._seen[key]


@by_project
def section_problems(config: Config, checker: Checker) -> list[Problem]:
    """Return everything that is wrong with a config's sections and that the schema cannot see.

    Args:
        config: The config, whose project can be imported.
        checker: Remembers what it has checked.
    """
    found = [
        *checker.components(config),
        *settings_problems(config, checker.gpus),
        *(_restore_problems(config) if checker.starts else []),
        *checker.precision(config),
    ]
    return found or [
        *checker.trainer(config),
        *(checker.model(config) or monitor_problems(config)),
    ]


def check_config(config: Config, metric: str | None = None, starts: bool = True) -> None:
    """Raise ConfigError with every problem found, for a run on this machine that waits for `metric`."""
    problems = Checker(torch.cuda.device_count(), starts).problems(config)
    if not problems and metric is not None and (message := unlogged(config, metric)):
        problems = [Problem("--metric", message)]
    if problems:
        raise ConfigError(problems)


def _restore_problems(config: Config) -> list[Problem]:
    try:
        find_restore(config)
    except ConfigError as exc:
        return exc.problems
    return []


def _model_flaws(config: Config, starts: bool) -> list[Flaw]:
    """Build the model without memory for its weights, and compare it with the checkpoint it starts from."""
    asks = config.model.loss.arguments.get("num_classes") == -1
    try:
        model = build_without_memory(config)
        if starts and (source := find_restore(config)):
            problems = restore_problems(config, model, source, unknown=("loss.",) if asks else ())
            return [(problem.key, problem.message) for problem in problems]
    except ConfigError as exc:
        return [(problem.key, problem.message) for problem in exc.problems]
    except OtterError as exc:
        return [("model", str(exc))]
    return []


def build_without_memory(config: Config) -> BaseMixin:
    """Build the model on the meta device, and run it on inputs of the export's shapes.

    A loss that asks the data for its number of classes gets two.

    Raises:
        OtterError: The model cannot be built or run.
    """
    config = without_pretrained(with_classes(config, 2))
    name, cls = config.model.name, _model_class(config)
    doing = f"{name}(config) failed"
    remedy = (
        " otter_ray builds a model from the whole config, its only argument: see docs/reference/project.md."
    )
    try:
        with torch.device("meta"), torch.no_grad():
            model = cls(config)
            if not isinstance(getattr(model, "config", None), Config):
                message = f"{name} must keep its only argument as self.config. See docs/reference/project.md."
                raise ConfigError([config.problem("model.name", message)])
            doing, remedy = f"{name} cannot be run on the inputs of onnx.input_shape", ""
            if config.onnx is not None:
                model(*on_meta(model_inputs(config, 2)))
    except OtterError:
        raise
    except Exception as exc:  # the project's own code
        reason = in_one_line(exc).rstrip(".")
        if reset := [key for key in DERIVED if config.has(key) and config.get(key) == -1]:
            remedy += f" {', '.join(reset)}: -1 is for the model to fill in. If it does not, remove the key."
        raise ConfigError([config.problem("model", f"{doing}: {reason}.{remedy}")]) from exc
    return model


def on_meta(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of the same shapes and types without memory."""
    return [tensor.to("meta") for tensor in inputs]


def _model_class(config: Config) -> type[BaseMixin]:
    """Return the class that `model.name` names.

    Raises:
        ConfigError: There is none, or it is none that otter_ray can train.
    """
    name = config.model.name
    try:
        cls = find_class(name, "model", config.project)
    except LookupError as exc:
        raise ConfigError([config.problem("model.name", str(exc.args[0]))]) from exc
    if not (issubclass(cls, BaseMixin) and issubclass(cls, L.LightningModule)):
        missing = "LightningModule" if issubclass(cls, BaseMixin) else "otter_ray.BaseMixin"
        message = f"{name} must be a child of {missing}. See docs/reference/project.md."
        raise ConfigError([config.problem("model.name", message)])
    order = cls.mro()
    if order.index(L.LightningModule) < order.index(BaseMixin):
        bases = [base.__name__ for base in cls.__bases__ if base is not BaseMixin]
        message = (
            f"{name} has BaseMixin after a LightningModule, whose methods then hide BaseMixin's, such as the "
            f"config's optimizer. Put it first: class {name}(BaseMixin, {', '.join(bases)})."
        )
        raise ConfigError([config.problem("model.name", message)])
    return cls
