"""The second depth of checking: does every class take the options that the config gives it?

The schema (`otter_ray.config`) needs no import; this needs torch and the project. Both run before
anything starts.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from otter_ray.config import Component, Config
from otter_ray.errors import ConfigError, OtterError, Problem, did_you_mean
from otter_ray.train.builders import dataset_facts, with_classes
from otter_ray.train.components import accepted, find_class, load_project, unknown_arguments
from otter_ray.train.distributed import torchrun_ranks
from otter_ray.train.quiet import quiet
from otter_ray.train.restore import STATES, find_restore, restore_problems

ACCELERATORS_WITH_GPU = ("gpu", "cuda")
# Arguments of Lightning's Trainer that `build_trainer` gives.
TRAINER_GIVEN = ("callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing", "logger")


class Checker:
    """Checks configs that differ little, such as the branches of a search space.

    A section that was looked at once is not looked at again: a model is built once for each
    architecture, not for each learning rate.

    Args:
        gpus: GPUs that the run could use, on this machine or in its cluster.
        starts: False for what goes on: where it once began (`common.is_restore`) may be gone.
    """

    def __init__(self, gpus: float, starts: bool = True) -> None:
        self.gpus, self.starts = gpus, starts
        self._seen: dict[str, list[tuple[str, str]]] = {}

    def problems(self, config: Config) -> list[Problem]:
        """Everything wrong with a config that the schema cannot see."""
        precision = config.trainer.precision
        try:
            load_project(config.project)
        except ConfigError as exc:
            return [config.problem(problem.key, problem.message) for problem in exc.problems]
        found = [
            *self._components(config),
            *_accelerator(config, self.gpus),
            *_quantize(config),
            *(_restore(config) if self.starts else []),
            *_facts_that_differ(config),
            *_not_kept_apart(config),
            *_trainer(config),
            *self._told(config, ("precision", precision), partial(_precision, precision)),
            *_plain(config, "trainer", L.Trainer, config.trainer.model_dump(), TRAINER_GIVEN),
            *_plain(
                config, "dataloader.train_options", DataLoader, config.dataloader.train_options, ["dataset"]
            ),
            *_plain(
                config, "dataloader.valid_options", DataLoader, config.dataloader.valid_options, ["dataset"]
            ),
        ]
        if not found:
            found = self._model(config)
        if not found:
            found = _monitors(config)
        return found

    def _components(self, config: Config) -> Iterator[Problem]:
        for key, kind, section in _sections(config):
            for below, message in self._once(
                (config.project, kind, section.name, section.arguments),
                partial(_component, kind, section, config.project),
            ):
                yield config.problem(f"{key}.{below}", message)

    def _model(self, config: Config) -> list[Problem]:
        identity = (
            config.project,
            config.model.model_dump(),
            config.common.image_size,
            config.common.use_clip,
            self._restored(config),
        )
        return self._told(config, identity, partial(_build, config, self.starts))

    def _restored(self, config: Config) -> Any:
        """What decides whether a checkpoint is one to start from."""
        common = config.common
        if not (self.starts and common.is_restore):
            return None
        states = [config.to_dict().get(section) for section in (*STATES, "trainer")]
        return common.model_dump(), states if common.restore_all_states else None

    def _told(
        self, config: Config, identity: Any, check: Callable[[], list[tuple[str, str]]]
    ) -> list[Problem]:
        return [config.problem(key, message) for key, message in self._once(identity, check)]

    def _once(self, identity: Any, check: Callable[[], list[tuple[str, str]]]) -> list[tuple[str, str]]:
        key = json.dumps(identity, sort_keys=True, default=str)
        if key not in self._seen:
            self._seen[key] = check()
        return self._seen[key]


def check_config(config: Config, metric: str | None = None, starts: bool = True) -> None:
    """Raises ConfigError with every problem found, for a run on this machine that waits for `metric`."""
    problems = Checker(torch.cuda.device_count(), starts).problems(config)
    if not problems and metric is not None and (message := unlogged(config, metric)):
        problems = [Problem("--metric", message)]
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
    if config.logger is not None:
        yield "logger", "logger", config.logger


def _component(kind: str, section: Component, project: str) -> list[tuple[str, str]]:
    """(key below the section, message) for a name that is not found and options that are not taken."""
    try:
        cls = find_class(section.name, kind, project)
    except LookupError as exc:
        return [("name", str(exc.args[0]))]
    wrong = [
        (f"options.{name}" if name in section.options else name, message)
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


def _quantize(config: Config) -> list[Problem]:
    """Otter's own configs have the section, switched off."""
    if not (config.quantize or {}).get("do_quant"):
        return []
    return [config.problem("quantize.do_quant", "is not supported yet. Set it to false.")]


def _restore(config: Config) -> list[Problem]:
    try:
        find_restore(config)
    except ConfigError as exc:
        return exc.problems
    return []


def _facts_that_differ(config: Config) -> Iterator[Problem]:
    """What Otter's training set is told once more, where that is not what the rest of the run goes by."""
    options = config.dataset.train_options.options
    for name, shared in dataset_facts(config).items():
        own = options.get(name)
        if own not in (None, shared) and [own, own] != shared:  # a side of a square is a size, too
            message = f"{own} but common.{name} is {shared}. Make them the same, or leave this one out."
            yield config.problem(f"dataset.train_options.options.{name}", message)


def _not_kept_apart(config: Config) -> Iterator[Problem]:
    """Data sets that cannot leave out the documents of another, where a test asks them to."""
    data = config.dataset
    if data.test_options is None:
        return
    for key, section, other in (
        ("train_options", data.train_options, "test_dataset"),
        ("test_options", data.test_options, "valid_dataset"),
    ):
        with suppress(LookupError):  # told already
            cls = find_class(section.name, "dataset", config.project)
            if not accepted(cls, {other: None}):
                message = (
                    f"{section.name} takes no {other}, to leave out what is held out beside it. "
                    "Take a data set that does, or remove dataset.test_options."
                )
                yield config.problem(f"dataset.{key}.name", message)


def _trainer(config: Config) -> list[Problem]:
    """Values that Lightning's Trainer, or the run itself, cannot work with."""
    found = []
    devices, interval = config.trainer.devices, config.trainer.val_check_interval
    several = len(devices) > 1 if isinstance(devices, list) else isinstance(devices, int) and devices > 1
    if several and torchrun_ranks() == 1:
        message = (
            f"{devices} but a process uses one device. Start several (torchrun --nproc-per-node N "
            "-m otter_ray.train ...), or give a study's trials several (resources.workers_per_trial), and "
            "name one device here."
        )
        found.append(config.problem("trainer.devices", message))
    if isinstance(interval, float) and interval and abs(1 / interval - round(1 / interval)) > 1e-6:
        message = f"{interval} does not divide an epoch, which must end with a validation. Take 1 / n."
        found.append(config.problem("trainer.val_check_interval", message))
    return found


def _precision(precision: Any) -> list[tuple[str, str]]:
    """A precision that Lightning does not know; its Trainer alone can tell."""
    try:
        # What Lightning makes of it on a CPU is of no interest on a GPU.
        with quiet(), warnings.catch_warnings(action="ignore"):
            L.Trainer(
                precision=precision, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False
            )
    except ValueError as exc:
        return [("trainer.precision", str(exc))]
    except MisconfigurationException:
        return []  # one that only a GPU has
    return []


def _build(config: Config, starts: bool) -> list[tuple[str, str]]:
    """Builds the model without memory for its weights; holds it against the checkpoint that it starts from.

    The loss has two classes where it asks the data.
    """
    asks = config.model.loss.arguments.get("num_classes") == -1
    config = with_classes(config, 2)
    if "pretrained" in config.model.backbone.options:
        # Not with_values: a changed backbone would reset the sizes that are to be checked against it.
        config = config.with_sets(["model.backbone.options.pretrained=false"])
    try:
        cls = find_class(config.model.name, "model", config.project)
    except LookupError as exc:
        return [("model.name", str(exc.args[0]))]
    try:
        with torch.device("meta"), torch.no_grad():
            model = cls(config)
            if config.onnx is not None:
                model(*(torch.rand(2, *shape.shape[1:]) for shape in config.onnx.input_shape.values()))
        if starts and (source := find_restore(config)):
            problems = restore_problems(config, model, source, unknown=("loss.",) if asks else ())
            return [(problem.key, problem.message) for problem in problems]
    except ConfigError as exc:
        return [(problem.key, problem.message) for problem in exc.problems]
    except (LookupError, OtterError, ValueError, TypeError, RuntimeError) as exc:
        return [("model", f"cannot be built: {exc}")]
    return []


def metric_problem(config: Config, metric: str) -> str:
    """Why a study cannot be about `metric`, empty if it can: the gate must be able to measure it again."""
    rule = _undeclared(config, "SCORES", metric, "scores")
    return rule and f"{metric!r} cannot be measured on an exported model. {config.model.name} {rule}"


def first_score(config: Config) -> str:
    """The metric that its model names first: what a run is about where nobody says. Raises ConfigError."""
    scores = getattr(find_class(config.model.name, "model", config.project), "SCORES", ())
    if not scores:
        message = f"is not given, and {config.model.name} declares no SCORES. Name a metric that it logs."
        raise ConfigError([Problem("--metric", message)])
    return str(scores[0])


def unlogged(config: Config, name: str) -> str:
    """Why nothing can wait for the metric `name`, empty if the model logs it or does not say what it logs."""
    rule = _undeclared(config, "METRICS", name, "logs")
    return rule and f"{config.model.name} never logs {name!r}. It {rule}"


def _undeclared(config: Config, attribute: str, name: str, verb: str) -> str:
    """What the model's class declares instead of `name`; empty where it declares it, or nothing at all."""
    declared = getattr(find_class(config.model.name, "model", config.project), attribute, ())
    if not declared or name in declared:
        return ""
    return f"{verb} {', '.join(declared)}.{did_you_mean(name, declared)}"


def _monitors(config: Config) -> list[Problem]:
    """Callbacks that wait for a metric which is never logged."""
    monitored = {
        f"callbacks.{index}.options.monitor": callback.options.get("monitor")
        for index, callback in enumerate(config.callbacks)
    }
    wrong = {key: unlogged(config, name) for key, name in monitored.items() if isinstance(name, str)}
    return [config.problem(key, message) for key, message in wrong.items() if message]
