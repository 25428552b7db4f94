"""From a config to the objects of a run. Otter's building blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from otter_ray.config import Component, Config
from otter_ray.errors import ConfigError, DataError, Problem
from otter_ray.train.callbacks import EpochSeed, EpochSetter
from otter_ray.train.components import accepted, find_class
from otter_ray.train.distributed import rank, ranks
from otter_ray.train.hparams import HParams, HParamsWriter
from otter_ray.train.mixin import BaseMixin
from otter_ray.train.restore import load_weights
from otter_ray.train.retune import Retune

WORKER_OPTIONS = ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")


def build_dataset(section: Component, project: str, facts: Mapping[str, Any]) -> Dataset[Any]:
    """The data set that the section names.

    Args:
        facts: what stands elsewhere (`dataset_facts`) or is known at run time only (`valid_dataset`,
            `test_dataset`); those that the class takes by name and its own options do not give are passed on.
    """
    cls = find_class(section.name, "dataset", project)
    try:
        dataset: Dataset[Any] = cls(**{**accepted(cls, facts), **section.options})
    except (TypeError, ValueError) as exc:
        raise DataError(f"{section.name} refuses its options in the config's dataset section: {exc}") from exc
    return dataset


def dataset_facts(config: Config) -> dict[str, Any]:
    """What a data set may ask for that stands elsewhere in the config."""
    common = config.common
    return {
        "image_size": common.image_size,
        "use_imagenet": common.use_imagenet,
        "use_clip": common.use_clip,
    }


def build_datasets(config: Config) -> tuple[Dataset[Any], Dataset[Any]]:
    """(train, valid). The training set is told of all others, to keep their documents out."""
    valid, test = build_held_out(config)
    facts = {**dataset_facts(config), "valid_dataset": valid, "test_dataset": test}
    return build_dataset(config.dataset.train_options, config.project, facts), valid


def build_held_out(config: Config) -> tuple[Dataset[Any], Dataset[Any] | None]:
    """(valid, test). The test set, if the config asks for one, is told of the other, to keep its documents
    out; nobody but the export's gate looks at its images."""
    valid = build_valid(config)
    return valid, build_test(config, valid)


def build_valid(config: Config) -> Dataset[Any]:
    """What is validated with. It is chosen first: neither of the others has a say in it."""
    return build_dataset(config.dataset.valid_options, config.project, dataset_facts(config))


def build_test(config: Config, valid: Dataset[Any]) -> Dataset[Any] | None:
    """The test set beside that validation set, None where the config asks for none."""
    section = config.dataset.test_options
    facts = {**dataset_facts(config), "valid_dataset": valid}
    return None if section is None else build_dataset(section, config.project, facts)


def build_dataloader(
    dataset: Dataset[Any],
    options: Mapping[str, Any],
    batch_size: int,
    cpus: int,
    even: bool = False,
    seed: int = 0,
) -> DataLoader[Any]:
    """A loader with `batch_size: -1` filled in and no more workers than the run has CPUs to spare.

    Of several ranks each loads its share, in batches of `batch_size` of its own.

    Args:
        cpus: that the run may use. One of them trains: the workers get the rest, so on a single CPU
            the run loads its own data.
        even: ranks get equally many items, some of them twice (or none of the last, with `drop_last`), as
            training needs it; else each item goes to one rank, once.
        seed: of the order in which several ranks shuffle.
    """
    filled = dict(options)
    if ranks() > 1:
        shuffle = filled.pop("shuffle", False)
        filled["sampler"] = range(rank(), len(dataset), ranks())  # type: ignore[arg-type]
        if even:
            drop_last = filled.get("drop_last", False)
            filled["sampler"] = DistributedSampler(dataset, shuffle=shuffle, drop_last=drop_last, seed=seed)
    if filled.get("batch_size", -1) == -1:
        filled["batch_size"] = batch_size
    workers = loader_workers(int(filled.get("num_workers", 0)), cpus)
    filled["num_workers"] = workers
    if not workers:
        # They speak of workers, and DataLoader refuses them without any.
        filled = {key: value for key, value in filled.items() if key not in WORKER_OPTIONS}
    filled.setdefault("pin_memory", torch.cuda.is_available())
    if workers:
        # Workers decode and augment: one thread each, or they fight with the training step for cores.
        filled.setdefault("worker_init_fn", _single_thread)
    return DataLoader(dataset, **filled)


def loader_workers(wanted: int, cpus: int) -> int:
    """Workers of a loader that asks for `wanted` of them in a run on `cpus` CPUs, one of which trains."""
    return min(wanted, max(cpus - 1, 0))


def _single_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def build_callback(section: Component, config: Config, folder: Path) -> Callback:
    """The callback that the section names; -1 and the checkpoints' folder are filled in."""
    cls = find_class(section.name, "callback", config.project)
    options = dict(section.options)
    if options.get("unit_scale") == -1:
        options["unit_scale"] = config.common.batch_size
    if issubclass(cls, ModelCheckpoint):
        # Apart from `best.ckpt` and `last.ckpt`, which the run itself keeps.
        options.setdefault("dirpath", str(folder / "checkpoints" / "callback"))
    callback: Callback = cls(**options)
    return callback


def build_logger(config: Config, folder: Path) -> Logger | bool:
    """The config's logger, or False for none. A relative `save_dir` lies in the run's folder."""
    if config.logger is None:
        return False
    cls = find_class(config.logger.name, "logger", config.project)
    options = dict(config.logger.options)
    if "save_dir" in options:
        options["save_dir"] = str(folder / options["save_dir"])
    defaults = accepted(cls, {"name": "", "version": "", "default_hp_metric": False})
    logger: Logger = cls(**{**defaults, **options})
    return logger


def build_trainer(
    config: Config,
    folder: Path,
    reporter: Callback,
    standalone: bool = True,
    launcher: Mapping[str, Any] | None = None,
    hparams: HParams | None = None,
) -> L.Trainer:
    """Lightning's Trainer as the config asks.

    Args:
        folder: the run's.
        reporter: told of each epoch; it keeps `best.ckpt` and `last.ckpt`.
        standalone: False inside a study, where progress bars, summaries and further checkpoints of the
            config would only cost time and disk.
        launcher: arguments of whoever started several processes for this run.
        hparams: for TensorBoard's table of them.
    """
    options = config.trainer.model_dump()
    if not standalone:
        options |= {"enable_progress_bar": False, "devices": 1}
    options.setdefault("enable_model_summary", False)
    # The first validation of an untrained model proves little, and costs a trial's start.
    options.setdefault("num_sanity_val_steps", 0)
    if launcher:
        # The config's own strategy, such as one that finds unused parameters, where it names one.
        options = {**launcher, **options, "use_distributed_sampler": False}
        options |= {key: value for key, value in launcher.items() if key != "strategy"}
    elif options["devices"] == "auto" or options["accelerator"] == "cpu":
        # One process uses one device; and `devices: [0]` names a GPU, where a CPU's processes are counted.
        options["devices"] = 1
    callbacks = [build_callback(section, config, folder) for section in config.callbacks]
    if not standalone:
        callbacks = [callback for callback in callbacks if not _is_for_users(callback)]
    if config.schedule:
        callbacks.append(Retune(config))
    if hparams is not None:
        callbacks.append(HParamsWriter(hparams))
    logger = build_logger(config, folder)
    try:
        return L.Trainer(
            **options,
            default_root_dir=folder,
            logger=logger,
            callbacks=[*callbacks, EpochSetter(), EpochSeed(config.common.seed), reporter],
            enable_checkpointing=True,
            enable_autolog_hparams=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as exc:
        raise ConfigError([config.problem("trainer", f"Lightning's Trainer refuses it: {exc}")]) from exc


def _is_for_users(callback: Callback) -> bool:
    from lightning.pytorch.callbacks import ModelSummary

    return isinstance(callback, ProgressBar | ModelSummary | ModelCheckpoint)


def build_model(config: Config) -> BaseMixin:
    """The model that the config names, with fresh weights."""
    model: BaseMixin = find_class(config.model.name, "model", config.project)(config)
    return model


def load_model_from_config(config: Config, checkpoint: Path) -> BaseMixin:
    """The config's model with the weights of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        TrainingError: the weights are another architecture's; names the first keys that differ.
    """
    model = build_model(config)
    load_weights(model, checkpoint)
    return model.eval()


def fill_classes(config: Config, train: Dataset[Any]) -> Config:
    """The config with `model.loss.num_classes: -1` replaced by the data set's number of classes."""
    classes = getattr(train, "num_classes", None)
    if classes is None and config.model.loss.arguments.get("num_classes") == -1:
        message = f"-1 asks the data set, but {type(train).__name__} has no num_classes. Give the number."
        raise ConfigError([Problem("model.loss.num_classes", message)])
    return with_classes(config, classes or 0)


def with_classes(config: Config, count: int) -> Config:
    """The config with `model.loss.num_classes: -1` replaced by `count`."""
    if config.model.loss.arguments.get("num_classes") != -1:
        return config
    return config.with_values({"model.loss.num_classes": count})
