"""What this project does in its own way: see `otter_ray.train.registry.by_project`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from otter_ray.checkpoints import callback_checkpoints_of, checkpoints_of
from otter_ray.config.given import GIVEN, LOADERS, ON_CHANGE
from otter_ray.config.lightning_config import LightningConfig, NetworkOptions
from otter_ray.config.schema import InputShape, Onnx
from otter_ray.errors import (
    ConfigError,
    ExportError,
    OtterError,
    Problem,
    TrainingError,
    did_you_mean,
    in_one_line,
)
from otter_ray.projects.lightning.adapter import Adapter, Evaluation, exported_call
from otter_ray.projects.lightning.classes import (
    build_callbacks,
    build_optimizers,
    callback_flaws,
    class_flaws,
    find_class_path,
    optimizer_flaws,
)
from otter_ray.projects.lightning.data import (
    LIMIT,
    Split,
    new_data_module,
    new_module,
    read_splits,
    read_test,
    seed,
)
from otter_ray.train.checks.option_checks import component_flaws, trainer_section_problems
from otter_ray.train.checks.trainer_checks import TRAINER_GIVEN, Flaw
from otter_ray.train.checks.validation import Checker
from otter_ray.train.distributed import torchrun_world_size
from otter_ray.train.model.complexity import model_stats
from otter_ray.train.torch_compat import uncompile

logger = logging.getLogger(__name__)

REHEARSED = 2  # batches of the validation set, as in Lightning's own sanity check
OPSET = 17
# Arguments of the Trainer that a config may have, although the run gives its own.
REPLACED = ("callbacks", "enable_autolog_hparams")
# They refuse a Trainer without a logger; LightningCLI gives every run one.
FOR_LOGGERS = (LearningRateMonitor, DeviceStatsMonitor)
# Entries of a checkpoint that may be more than plain data.
HYPER_PARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")


class PlainCheckpointIO(TorchCheckpointIO):
    """Saves no objects: a file with one could only be read by running code."""

    is_checked = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save the rest; the config describes the objects of the hyperparameters.

        Raises:
            TrainingError: There are others, of `on_save_checkpoint` or `state_dict`.
        """
        for key in HYPER_PARAMETERS:
            if not _is_plain(checkpoint.get(key)):
                del checkpoint[key]
        super().save_checkpoint(checkpoint, path, storage_options)
        if self.is_checked or not Path(path).is_file():
            return
        if not _is_readable(path):
            Path(path).unlink()
            raise TrainingError(
                f"a checkpoint of this module could not be read again: {_unreadable(checkpoint)} holds "
                "an object, which only running code could load. Save tensors, numbers, text, and lists "
                "and dicts of them in on_save_checkpoint and state_dict."
            )
        self.is_checked = True


def _is_readable(file: str | Path | BytesIO) -> bool:
    """Tell whether what torch has written can be read without running code."""
    try:
        torch.load(file, map_location="cpu", weights_only=True, mmap=not isinstance(file, BytesIO))
    except OSError:
        raise
    except Exception:  # the unpickler's own errors, and whatever torch makes of them
        return False
    return True


def _unreadable(checkpoint: Mapping[str, Any]) -> str:
    """Return the keys of a checkpoint that hold objects."""
    found = []
    for key, value in checkpoint.items():
        file = BytesIO()
        torch.save(value, file)
        file.seek(0)
        if not _is_readable(file):
            found.append(key)
    return ", ".join(map(repr, found))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return type(value) is dict and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


class OWN:
    """The functions, each called as the one that it stands for."""

    # Where a logger's name is a class path.
    find_class_path = staticmethod(find_class_path)

    @staticmethod
    def build_model(config: LightningConfig) -> Adapter:
        """Build the module, and seed again: what Lightning sets up next is the same in every process."""
        module = new_module(config)
        module.configure_model()
        if config.optimizer is not None:
            vars(module)["configure_optimizers"] = lambda: build_optimizers(config, module)
        seed(config)
        return Adapter(config, module)

    @staticmethod
    def prepare_loaders(config: LightningConfig, cpus: int) -> tuple[LightningConfig, Any, None]:
        """Return what `Trainer.fit` takes: the data module, which makes the loaders."""
        torch.set_num_threads(cpus)
        return config, new_data_module(config), None

    @staticmethod
    def trainer_parts(
        config: LightningConfig, options: dict[str, Any], folder: Path
    ) -> tuple[dict[str, Any], list[Callback]]:
        """Return the Trainer's arguments, and the callbacks that they list."""
        rest = {key: value for key, value in options.items() if key not in REPLACED}
        callbacks = build_callbacks(options.get("callbacks", []))
        if not config.logger_sections():  # which these would ask for
            callbacks = [each for each in callbacks if not isinstance(each, FOR_LOGGERS)]
        own = checkpoints_of(folder)
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback.dirpath = callback.dirpath or str(callback_checkpoints_of(folder))
                if Path(callback.dirpath).resolve() == own.resolve():
                    message = f"a dirpath is {own}, where the run keeps its own checkpoints. Name another."
                    raise ConfigError([config.problem("trainer.callbacks", message)])
        return {**rest, "plugins": [PlainCheckpointIO()]}, callbacks

    @staticmethod
    def build_datasets(config: LightningConfig) -> tuple[Split, Split]:
        """Return the training set and the validation set."""
        return read_splits(config)

    @staticmethod
    def build_valid(config: LightningConfig) -> Split:
        """Return the validation set."""
        return read_splits(config)[1]

    @staticmethod
    def build_test(config: LightningConfig, valid: Split) -> Split | None:
        """Return the test split, if there is one and its test logs the study's metric."""
        return read_test(config) if has_test(config) else None

    @staticmethod
    def evaluation_loader(config: LightningConfig, dataset: Split) -> Iterable[Any]:
        """Return what the author's loaders are to the exported network."""
        return Evaluation(config, dataset)

    @staticmethod
    def section_problems(config: LightningConfig, checker: Checker) -> list[Problem]:
        """Return everything that is wrong with the config, short of running it."""
        flaws = [*_class_flaws(config)]
        found = [config.problem(key, message) for key, message in flaws or _validation_flaws(config)]
        given = ["plugins", *(key for key in TRAINER_GIVEN if key not in REPLACED)]
        section = trainer_section_problems(config, checker.gpus, given)
        # The export's validation has the same limit.
        limit = (config.trainer.model_extra or {}).get(LIMIT)
        found += [problem for problem in section if problem.key != f"trainer.{LIMIT}"]
        if limit == 0:
            message = f"is {limit}: nothing is validated, so there is no best epoch. Remove it, or give more."
            found.append(config.problem(f"trainer.{LIMIT}", message))
        found += checker.precision(config)
        return found or checker.trainer(config)

    @staticmethod
    def check_epochs(config: LightningConfig, train: Split, workers: int = 1) -> None:
        """Refuse workers that would share the data out: the loaders are the author's."""
        if workers > 1:
            message = f"is {workers}, but project: lightning trains a trial in one process. Set it to 1."
            raise ConfigError([Problem("study.resources.workers_per_trial", message)])

    @staticmethod
    def metric_problem(config: LightningConfig, metric: str) -> str:
        """Return why a study cannot optimize `metric`; what is logged is known after a rehearsal."""
        if metric == config.metric:
            return ""
        return f"is {metric!r}, and the config's metric is {config.metric!r}. Make them the same."

    @staticmethod
    def first_score(config: LightningConfig) -> str:
        """Return the config's metric."""
        return config.metric

    @staticmethod
    def best_direction(config: LightningConfig, metric: str) -> None:
        """Return nothing: a module does not declare it."""

    @staticmethod
    def unlogged(config: LightningConfig, name: str) -> str:
        """Return nothing: a module does not declare what it logs."""
        return ""

    @staticmethod
    def rehearse_measurement(config: LightningConfig, valid: Split, metric: str) -> None:
        """Validate an untrained module on the first batches.

        Raises:
            ConfigError: It fails, or never logs the metric.
        """
        model = OWN.build_model(config)
        try:
            logged, _ = model.validated(model.outputs, REHEARSED)
        except OtterError:
            raise
        except Exception as exc:  # the author's code
            message = (
                f"{config.model.name} fails on the validation set: {in_one_line(exc).rstrip('.')}. Fix it."
            )
            raise ConfigError([config.problem("model", message)]) from exc
        if metric not in logged:
            message = never_logged(config.model.name, metric, logged)
            raise ConfigError([config.problem("metric", message)])

    @staticmethod
    def exported_channels(config: LightningConfig) -> None:
        """Return no order of colour channels: it is the author's."""

    @staticmethod
    def onnx_section(config: LightningConfig) -> Onnx:
        """Return what is exported: names, and the shapes of a batch of the validation loader."""
        return _onnx_section(json.dumps(config.to_dict(), sort_keys=True), config.name)

    @staticmethod
    def wrap(config: LightningConfig, model: Adapter) -> nn.Module:
        """Return the module's `forward`, in evaluation mode."""
        uncompile(model)
        return model.network.eval()

    @staticmethod
    def model_inputs(config: LightningConfig, batch: int) -> list[Tensor]:
        """Return items of the validation set: no others are certain to be what the network takes."""
        return exported_call(config).rows(batch)

    @staticmethod
    def write_model_stats(config: LightningConfig, model: Adapter, folder: Path) -> None:
        """Write `model.json`. A module without a `forward` that can be run alone has parameters only."""
        stats = {"parameters": sum(each.numel() for each in model.parameters())}
        try:
            stats |= model_stats(model, OWN.model_inputs(config, 1))
        except Exception as exc:  # the author's code; it concerns the export, which says it
            stats = {**stats, "note": in_one_line(exc)}  # type: ignore[dict-item]
        (folder / "model.json").write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
        seed(config)


def never_logged(name: str, metric: str, logged: Mapping[str, float]) -> str:
    """Return what to say of a metric that a validation does not log."""
    there = f"It logs {', '.join(sorted(logged))}." if logged else "It logs nothing."
    remedy = f"Name one of them, or self.log({metric!r}, ...) in its validation_step."
    return f"{name} never logs {metric!r} in its validation.{did_you_mean(metric, logged)} {there} {remedy}"


def _class_flaws(config: LightningConfig) -> Iterator[Flaw]:
    yield from class_flaws(config.model, L.LightningModule, "model")
    if config.data is not None:
        yield from class_flaws(config.data, L.LightningDataModule, "data")
    yield from optimizer_flaws(config)
    for key, section in config.logger_sections():
        flaws = component_flaws("logger", section, config.project)
        yield from ((f"{key}.{below}", message) for below, message in flaws)
    if strategy := (config.trainer.model_extra or {}).get("strategy"):
        message = (
            f"is {strategy}, and a trial is one process, which needs none. Remove it, or set it to auto."
        )
        yield "trainer.strategy", message
    yield from callback_flaws((config.trainer.model_extra or {}).get("callbacks", []))
    if torchrun_world_size() > 1:
        yield (
            "project",
            "is lightning, whose loaders are the author's: a run is one process. Leave out torchrun.",
        )


def _validation_flaws(config: LightningConfig) -> Iterator[Flaw]:
    """Yield what a validation lacks, without which there is no best epoch."""
    module = find_class_path(config.model.class_path)
    if module.validation_step is L.LightningModule.validation_step:
        message = (
            f"{config.model.name} has no validation_step, so there is no best epoch. Write one that logs "
        )
        yield "model.class_path", f"{message}{config.metric}."
    source = find_class_path(config.data.class_path) if config.data else module
    if source.val_dataloader in (L.LightningModule.val_dataloader, L.LightningDataModule.val_dataloader):
        key = "data.class_path" if config.data else "data"
        yield key, f"{source.__name__} has no val_dataloader, so nothing can be validated. Write one."


def has_test(config: LightningConfig) -> bool:
    """Say whether the winner can be tested: there is a test, with data, that logs the study's metric."""
    module = find_class_path(config.model.class_path)
    source = find_class_path(config.data.class_path) if config.data else module
    own = (L.LightningModule.test_dataloader, L.LightningDataModule.test_dataloader)
    if module.test_step is L.LightningModule.test_step or source.test_dataloader in own:
        return False
    if config.data and config.data.class_path == LOADERS and len(GIVEN.get(LOADERS, ())) < 3:
        return False
    return _logs_in_test(json.dumps(config.to_dict(), sort_keys=True), config.name)


@lru_cache(maxsize=16)
def _logs_in_test(text: str, name: str) -> bool:
    """Test an untrained module on the first batches, and say whether it logs the study's metric."""
    config = LightningConfig.from_dict(json.loads(text), name)
    assert isinstance(config, LightningConfig)
    model = OWN.build_model(config)
    try:
        logged, _ = model.validated(model.outputs, REHEARSED, is_test=True)
    except Exception as exc:  # the author's code
        message = f"its test fails, and the winner is not tested: {in_one_line(exc).rstrip('.')}."
        logger.warning(f"{config.model.name}: {message}")
        return False
    if config.metric in logged:
        return True
    there = f"It logs {', '.join(sorted(logged))}." if logged else "It logs nothing."
    message = f"its test logs nothing called as {config.metric}, and the winner is not tested. {there}"
    logger.warning(f"{config.model.name}: {message} Name one of them: test_metric.")
    return False


@lru_cache(maxsize=16)
def _onnx_section(text: str, name: str) -> Onnx:
    """Return what the config of this JSON text exports, of which one batch is run."""
    config = LightningConfig.from_dict(json.loads(text), name)
    assert isinstance(config, LightningConfig)
    own = config.onnx or NetworkOptions()
    call = exported_call(config)
    inputs = [tensor.cpu() for tensor in call.tensors]
    if not inputs or any(tensor.shape[:1] != inputs[0].shape[:1] or not tensor.dim() for tensor in inputs):
        shapes = [list(tensor.shape) for tensor in inputs]
        message = f"is called with tensors of {shapes}: the first axis of each must be the batch"
        raise ExportError(f"{config.model.name}.forward {message}.")
    network = OWN.build_model(config).network.eval()
    try:
        with torch.inference_mode():
            outputs = network(*inputs)
    except OtterError:
        raise
    except Exception as exc:  # the author's code
        message = (
            f"{config.model.name}.forward fails on a batch of the validation loader: "
            f"{in_one_line(exc).rstrip('.')}. Name what it takes of a batch."
        )
        raise ConfigError([config.problem("onnx.inputs", message)]) from exc
    if any(output.shape[:1] != inputs[0].shape[:1] for output in outputs):
        message = f"gives outputs of {[list(output.shape) for output in outputs]} for {len(inputs[0])} items"
        raise ExportError(f"{config.model.name}.forward {message}: the first axis must be the batch.")
    input_names = own.input_names or _names("input", call.structure.names, own.output_names or ())
    section = Onnx(
        name=config.model.name,
        input_shape={},
        input_names=input_names,
        output_names=own.output_names or _names("output", network.structure().names, input_names),
        options={"opset_version": own.opset_version or OPSET},
    )
    for key, count, names in (
        ("input_names", len(inputs), section.input_names),
        ("output_names", len(outputs), section.output_names),
    ):
        if len(names) != count:
            message = f"has {len(names)} names, and there are {count}. Name each."
            raise ConfigError([config.problem(f"onnx.{key}", message)])
    if both := sorted({*section.input_names} & {*section.output_names}):
        key = "input_names" if own.output_names is None else "output_names"
        message = f"has {', '.join(both)}, the name of an input and of an output. Name each in its own way."
        raise ConfigError([config.problem(f"onnx.{key}", message)])
    for each, tensor in zip(section.input_names, inputs, strict=True):
        dtype = str(tensor.dtype).removeprefix("torch.")
        section.input_shape[each] = InputShape(shape=[1, *tensor.shape[1:]], dtype=dtype)
    return section


ON_CHANGE += [_onnx_section.cache_clear, _logs_in_test.cache_clear]


def _names(what: str, names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return names for the file: those of arguments and keys, if each has one of its own.

    Args:
        what: input or output.
        names: Of arguments or keys.
        taken: Names that the others have.
    """
    if len(names) == 1 and (what == "input" or not names[0]) and what not in taken:
        return [what]
    if len({*names, *taken}) == len(names) + len({*taken}) and all(
        name and not name.isdecimal() for name in names
    ):
        return [*names]
    return [f"{what}_{index}" for index in range(len(names))]
