"""Check the values of `trainer:`: what Lightning refuses, and what would cost a run its result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException

from otter_ray.config import Config
from otter_ray.errors import Problem
from otter_ray.train.distributed import torchrun_world_size
from otter_ray.train.tracking.lightning_warnings import quiet_lightning

# (Dotted key, message): a problem that is not bound to one config, so that it can be remembered.
Flaw: TypeAlias = tuple[str, str]

# Arguments of Lightning's Trainer that `build_trainer` gives.
TRAINER_GIVEN = ("callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing", "logger")
# Arguments that depend on the machine: Lightning is not asked about them here.
OF_THE_MACHINE = ("accelerator", "devices", "num_nodes", "plugins", "precision", "strategy")
FOR_A_TRY = "For a quick try: --set trainer.max_epochs=1 --set trainer.limit_train_batches=10."
NARROW_PRECISIONS = ("16-true", "transformer-engine-float16")


def trainer_problems(config: Config) -> list[Problem]:
    """Return the problems of values that the run itself cannot work with."""
    found = [
        *_devices(config),
        *_validated_in_part(config),
        *_epochs_without_validation(config),
        *_narrow_precision(config),
    ]
    return [config.problem(key, message) for key, message in found]


def _devices(config: Config) -> Iterator[Flaw]:
    devices = config.trainer.devices
    several = len(devices) > 1 if isinstance(devices, list) else isinstance(devices, int) and devices > 1
    if several and torchrun_world_size() == 1:
        message = (
            f"is {devices}, but each process uses one device. Set it to 1. To use several devices, start "
            "several processes (torchrun --nproc-per-node N -m otter_ray.train CFG --folder RUN), or give "
            "each trial of a study several workers (study.resources.workers_per_trial)."
        )
        yield "trainer.devices", message


def _validated_in_part(config: Config) -> Iterator[Flaw]:
    """Yield what makes training measure its metric on other items than the export does."""
    trainer = config.trainer.model_extra or {}
    why = "but the export measures the metric on the whole validation set, and would refuse every model."
    limit = trainer.get("limit_val_batches")
    # 1.0 is the whole set, and 1 is one batch.
    if limit is not None and not (isinstance(limit, float) and limit == 1):
        message = f"is {limit}: it validates on a part of the validation set, {why}"
        yield "trainer.limit_val_batches", f"{message} Remove it, or make the validation set smaller."
    for key in ("fast_dev_run", "overfit_batches"):
        if trainer.get(key):
            message = f"is {trainer[key]}: it validates on a few batches, {why}"
            yield f"trainer.{key}", f"{message} Remove it. {FOR_A_TRY}"
    valid = config.dataloader.valid_options
    if valid.get("drop_last"):
        yield "dataloader.valid_options.drop_last", f"leaves out the last items, {why} Set it to false."
    for key in ("sampler", "batch_sampler"):
        if valid.get(key) is not None:
            message = f"chooses among the validation set's items, {why} Remove it."
            yield f"dataloader.valid_options.{key}", message


def _epochs_without_validation(config: Config) -> Iterator[Flaw]:
    """Yield what leaves an epoch's end, where checkpoints are saved, without a validation of its weights."""
    interval, extra = config.trainer.val_check_interval, config.trainer.model_extra or {}
    if isinstance(interval, float) and interval and abs(1 / interval - round(1 / interval)) > 1e-6:
        message = f"{interval} does not divide an epoch, which must end with a validation."
        yield "trainer.val_check_interval", f"{message} Use 1/n, such as 0.25."
    every, epochs = extra.get("check_val_every_n_epoch", 1), config.trainer.max_epochs
    if not isinstance(every, int) or not 1 <= every <= epochs:
        message = f"is {every}, but a run of {epochs} epochs must end one of them with a validation."
        yield "trainer.check_val_every_n_epoch", f"{message} Give a whole number from 1 to {epochs}."


def _narrow_precision(config: Config) -> Iterator[Flaw]:
    if config.trainer.precision in NARROW_PRECISIONS:
        message = (
            f"{config.trainer.precision!r} keeps weights and the optimizer's averages in float16, whose "
            "smallest number is 6e-8: the averages become 0, and the training diverges. Use 16-mixed, "
            "bf16-mixed or bf16-true."
        )
        yield "trainer.precision", message


def refused_by_lightning(options: Mapping[str, Any]) -> list[Flaw]:
    """Return what Lightning's Trainer refuses of the options: only the Trainer itself can tell.

    Args:
        options: The config's `trainer:`, as plain data.
    """
    shared = {key: value for key, value in options.items() if key not in (*OF_THE_MACHINE, *TRAINER_GIVEN)}
    try:
        _build_quietly(**shared)
    except (MisconfigurationException, TypeError, ValueError) as exc:
        return [("trainer", f"Lightning's Trainer refuses it: {str(exc).strip()}")]
    return []


def precision_flaws(precision: Any) -> list[Flaw]:
    """Refuse a precision that Lightning does not know; only its Trainer can tell."""
    try:
        _build_quietly(precision=precision)
    except ValueError as exc:
        return [("trainer.precision", str(exc))]
    except ModuleNotFoundError as exc:  # Lightning's text says what to install
        return [("trainer.precision", f"{precision!r} needs a package that is not installed. {exc}")]
    except MisconfigurationException:
        return []  # one that only a GPU has
    return []


def _build_quietly(**options: Any) -> None:
    # What it warns of on a CPU does not matter on a GPU.
    with quiet_lightning(), warnings.catch_warnings(action="ignore"):
        L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=True, **options)
