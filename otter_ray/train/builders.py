"""Build the objects of a run from a config. These are Otter's building blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    ProgressBar,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import HalfPrecision, MixedPrecision
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from otter_ray.checkpoints import callback_checkpoints_of
from otter_ray.config import Component, Config
from otter_ray.cpus import loader_workers
from otter_ray.errors import ConfigError, DataError, Problem
from otter_ray.isolation import keep_what_the_parent_had
from otter_ray.train.callbacks import EpochSeed, EpochSetter
from otter_ray.train.checkpoint.checkpoint_io import load_weights
from otter_ray.train.distributed import global_rank, world_size
from otter_ray.train.loader_options import sharing_flaw
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.registry import accepted, by_project, find_class
from otter_ray.train.schedule.optimizer_schedule import OptimizerSchedule
from otter_ray.train.schedule.schedule_building import whole_keys
from otter_ray.train.tracking.loggers import build_loggers
from otter_ray.train.tracking.tensorboard_hparams import HParams, HParamsWriter

WORKER_OPTIONS = ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")


def build_dataset(section: Component, project: str, offered: Mapping[str, Any]) -> Dataset[Any]:
    """Build the data set that a section names.

    Args:
        section: The section.
        project: The config's project.
        offered: Values from elsewhere in the config (`offered_settings`), or known only at run time
            (`valid_dataset`, `test_dataset`, `dataset_part`). The class gets those that it accepts by name,
            unless its own options give them.
    """
    cls = find_class(section.name, "dataset", project)
    try:
        dataset: Dataset[Any] = cls(**{**accepted(cls, offered), **section.options})
    except (TypeError, ValueError) as exc:
        raise DataError(f"{section.name} refuses its options in the config's dataset section: {exc}") from exc
    return dataset


def offered_settings(config: Config) -> dict[str, Any]:
    """Return settings from elsewhere in the config that a data set gets if it accepts them by name."""
    common = config.common
    return {
        "image_size": common.image_size,
        "use_imagenet": common.use_imagenet,
        "use_clip": common.use_clip,
    }


def _offered(config: Config, part: str) -> dict[str, Any]:
    """Return `offered_settings`, and which data set it is: messages name its key."""
    return {**offered_settings(config), "dataset_part": part}


@by_project
def build_datasets(config: Config) -> tuple[Dataset[Any], Dataset[Any]]:
    """Build (train, valid). The training set gets the other sets, so that it can leave out what they hold."""
    valid, test = build_held_out(config)
    offered = {**_offered(config, "train"), "valid_dataset": valid, "test_dataset": test}
    return build_dataset(config.dataset.train_options, config.project, offered), valid


def build_held_out(config: Config) -> tuple[Dataset[Any], Dataset[Any] | None]:
    """Build (valid, test); test is None if the config names no test set.

    The test set gets the validation set, so that it can leave out what that holds. Only the export's gate
    uses the test set's images.
    """
    valid = build_valid(config)
    return valid, build_test(config, valid)


@by_project
def build_valid(config: Config) -> Dataset[Any]:
    """Build the validation set. It comes first and does not depend on the others."""
    return build_dataset(config.dataset.valid_options, config.project, _offered(config, "valid"))


@by_project
def build_test(config: Config, valid: Dataset[Any]) -> Dataset[Any] | None:
    """Build the test set that goes with a validation set; None if the config names none."""
    section = config.dataset.test_options
    offered = {**_offered(config, "test"), "valid_dataset": valid}
    return None if section is None else build_dataset(section, config.project, offered)


def build_dataloader(
    dataset: Dataset[Any],
    options: Mapping[str, Any],
    batch_size: int,
    cpus: int,
    even: bool = False,
    seed: int = 0,
) -> DataLoader[Any]:
    """Build a loader with `batch_size: -1` filled in and no more workers than the run has CPUs to spare.

    If there are several ranks, each loads its share, in batches of `batch_size` of its own.

    Args:
        dataset: What to load.
        options: Arguments of torch's DataLoader, with the objects that a config names (`with_objects`).
        batch_size: What `batch_size: -1` means.
        cpus: CPUs that the run may use. One of them trains, and the workers get the rest. On a single CPU the
            run loads its own data.
        even: Give every rank the same number of items, as training needs: some items go to two ranks, or with
            `drop_last` the last ones to none. Otherwise each item goes to exactly one rank.
        seed: Seed of the order in which several ranks shuffle.

    Raises:
        ConfigError: DataLoader refuses the options.
    """
    filled = dict(options)
    if world_size() > 1:
        filled = _shared_out(filled, dataset, even, seed)
    if "batch_sampler" not in filled and filled.get("batch_size", -1) == -1:
        filled["batch_size"] = batch_size
    workers = loader_workers(int(filled.get("num_workers", 0)), cpus)
    filled["num_workers"] = workers
    if not workers:
        # DataLoader refuses these options if there are no workers.
        filled = {key: value for key, value in filled.items() if key not in WORKER_OPTIONS}
    filled.setdefault("pin_memory", torch.cuda.is_available())
    if workers:
        # Workers decode and augment: one thread each, or they fight with the training step for cores.
        filled.setdefault("worker_init_fn", _prepare_worker)
    try:
        return DataLoader(dataset, **filled)
    except (TypeError, ValueError) as exc:
        raise ConfigError([Problem("dataloader", f"the data loader refuses its options: {exc}")]) from exc


def _shared_out(options: dict[str, Any], dataset: Dataset[Any], even: bool, seed: int) -> dict[str, Any]:
    """Return the options with a sampler that gives this rank its share."""
    if flaw := sharing_flaw(options, world_size()):
        raise ConfigError([Problem(f"dataloader.train_options.{flaw[0]}", flaw[1])])
    filled = dict(options)
    shuffle = filled.pop("shuffle", False)
    filled["sampler"] = range(global_rank(), len(dataset), world_size())  # type: ignore[arg-type]
    if even:
        drop_last = filled.get("drop_last", False)
        filled["sampler"] = DistributedSampler(dataset, shuffle=shuffle, drop_last=drop_last, seed=seed)
    return filled


def _prepare_worker(worker: int) -> None:
    import cv2

    keep_what_the_parent_had()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def build_callback(section: Component, config: Config, folder: Path) -> Callback:
    """Build the callback that a section names, with -1 and the checkpoints' folder filled in."""
    cls = find_class(section.name, "callback", config.project)
    options = callback_options(cls, section.options)
    if options.get("unit_scale") == -1:
        options["unit_scale"] = config.common.batch_size
    if issubclass(cls, ModelCheckpoint):
        options.setdefault("dirpath", str(callback_checkpoints_of(folder)))
    callback: Callback = cls(**options)
    return callback


def callback_options(cls: type[Callback], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a callback's options as its class takes them."""
    if issubclass(cls, GradientAccumulationScheduler) and "scheduling" in options:
        return {**options, "scheduling": whole_keys(options["scheduling"])}
    return dict(options)


@by_project
def trainer_parts(
    config: Config, options: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], list[Callback]]:
    """Return the arguments for Lightning's Trainer, and the config's callbacks.

    Args:
        config: The config.
        options: Its `trainer:`, with the run's defaults.
        folder: The run's folder.
    """
    return options, [build_callback(section, config, folder) for section in config.callbacks]


def build_trainer(
    config: Config,
    folder: Path,
    reporter: Callback,
    standalone: bool = True,
    launcher: Mapping[str, Any] | None = None,
    hparams: HParams | None = None,
    loggers: Sequence[Logger] | None = None,
) -> L.Trainer:
    """Build Lightning's Trainer as the config asks.

    Args:
        config: The config.
        folder: The run's folder.
        reporter: The callback that reports epochs and keeps `best.ckpt` and `last.ckpt`.
        standalone: False inside a study, where progress bars, summaries and more checkpoints would only cost
            time and disk space.
        launcher: Trainer arguments of whoever started several processes for this run.
        hparams: What tells this run apart from others, for the loggers.
        loggers: What the run logs to; None for the config's loggers.
    """
    options = config.trainer.model_dump()
    if not standalone:
        options |= {"enable_progress_bar": False, "devices": 1}
    options.setdefault("enable_model_summary", False)
    # The first validation of an untrained model proves little, and costs a trial's start.
    options.setdefault("num_sanity_val_steps", 0)
    if launcher:
        # The config's own strategy, such as one that finds unused parameters, comes first.
        options = {**launcher, **options, "use_distributed_sampler": False}
        options |= {key: value for key, value in launcher.items() if key != "strategy"}
    elif options["devices"] == "auto" or options["accelerator"] == "cpu":
        # One process uses one device. `devices: [0]` names a GPU, but for a CPU it counts processes.
        options["devices"] = 1
    options, callbacks = trainer_parts(config, options, folder)
    if not standalone:
        callbacks = [callback for callback in callbacks if not _is_for_users(callback)]
    if config.schedule:
        callbacks.append(OptimizerSchedule(config))
    if hparams is not None:
        callbacks.append(HParamsWriter(hparams))
    try:
        trainer = L.Trainer(
            **options,
            default_root_dir=folder,
            logger=[*(build_loggers(config, folder, hparams) if loggers is None else loggers)] or False,
            callbacks=[*callbacks, EpochSetter(), EpochSeed(config.common.seed), reporter],
            enable_checkpointing=True,
            enable_autolog_hparams=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as exc:
        raise ConfigError([config.problem("trainer", f"Lightning's Trainer refuses it: {exc}")]) from exc
    plugin = trainer.precision_plugin
    if type(plugin) is MixedPrecision:  # a config may have a plugin of its own
        trainer.strategy.precision_plugin = MixedTraining(
            "bf16-mixed" if plugin.scaler is None else "16-mixed", plugin.device, plugin.scaler
        )
    if type(plugin) is HalfPrecision:
        trainer.strategy.precision_plugin = HalfTraining(plugin.precision)
    return trainer


class MixedTraining(MixedPrecision):
    """Train in mixed precision, and validate in float32, as the exported file computes.

    The outputs of a barely trained model lie so close together that bfloat16's rounding decides its metric.
    """

    @contextmanager
    def val_step_context(self) -> Iterator[None]:
        """Cast nothing."""
        yield

    def clip_gradients(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip a fused optimizer's gradients, too, where no scaler has to unscale them first."""
        clip = super().clip_gradients if self.scaler else super(MixedPrecision, self).clip_gradients
        clip(optimizer, *args, **kwargs)


class HalfTraining(HalfPrecision):
    """Train with weights of half precision, on labels of full precision if the model asks for that.

    bfloat16 has eight binary digits: a corner would move by up to half a pixel of 256.
    """

    _keeps_labels = False

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Convert the weights, and note what the model asks for (`BaseMixin.EXACT_LABELS`)."""
        self._keeps_labels = getattr(module, "EXACT_LABELS", False)
        return super().convert_module(module)

    def convert_input(self, data: Any) -> Any:
        """Convert a batch, `(images, labels)` if labels are kept."""
        if not self._keeps_labels:
            return super().convert_input(data)
        images, labels = data
        return super().convert_input(images), labels


def _is_for_users(callback: Callback) -> bool:
    from lightning.pytorch.callbacks import ModelSummary

    return isinstance(callback, ProgressBar | ModelSummary | ModelCheckpoint)


@by_project
def build_model(config: Config) -> BaseMixin:
    """Build the model that the config names, with new weights."""
    model: BaseMixin = find_class(config.model.name, "model", config.project)(config)
    return model


def backbone_options(config: Config) -> dict[str, object]:
    """Return the backbone's options, with the image size if the class accepts it.

    Raises:
        ConfigError: The backbone is to see other images than the data sets return.
    """
    section = config.model.backbone
    if (channels := section.options.get("in_chans", 3)) != 3:
        message = f"{channels} but the images of all data sets have 3 channels. Remove in_chans."
        raise ConfigError([config.problem("model.backbone.options.in_chans", message)])
    cls = find_class(section.name, "backbone", config.project)
    return accepted(cls, {"image_size": config.common.image_size}) | section.options


def build_part(config: Config, part: str, arguments: Mapping[str, object]) -> Any:
    """Build a part of the model, such as `head`, of the class that the config names.

    Raises:
        ConfigError: The class refuses its options.
    """
    name = getattr(config.model, part).name
    cls: Callable[..., Any] = find_class(name, part, config.project)
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as exc:
        message = f"{name} refuses them: {str(exc).rstrip('.')}."
        raise ConfigError([config.problem(f"model.{part}.options", message)]) from exc


def without_pretrained(config: Config) -> Config:
    """Return the config with new weights in every part of the model, for a check that downloads nothing."""
    parts = config.model.model_dump()
    asked = [
        name
        for name, part in parts.items()
        if isinstance(part, dict) and (part.get("options") or {}).get("pretrained")
    ]
    # Not with_values: a changed backbone would reset the sizes that are to be checked against it.
    return (
        config.with_sets({f"model.{name}.options.pretrained": False for name in asked}) if asked else config
    )


def load_model_from_config(config: Config, checkpoint: Path) -> BaseMixin:
    """Build the config's model with the weights of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        TrainingError: The weights belong to another architecture; the message names the first keys that
            differ.
    """
    model = build_model(config)
    load_weights(model, checkpoint)
    return model.eval()


def fill_classes(config: Config, train: Dataset[Any]) -> Config:
    """Replace `model.loss.num_classes: -1` by the data set's number of classes."""
    classes = getattr(train, "num_classes", None)
    if classes is None and config.model.loss.arguments.get("num_classes") == -1:
        message = f"-1 asks the data set, but {type(train).__name__} has no num_classes. Give the number."
        raise ConfigError([Problem("model.loss.num_classes", message)])
    return with_classes(config, classes or 0)


def with_classes(config: Config, count: int) -> Config:
    """Replace `model.loss.num_classes: -1` by `count`."""
    if config.model.loss.arguments.get("num_classes") != -1:
        return config
    return config.with_values({"model.loss.num_classes": count})
