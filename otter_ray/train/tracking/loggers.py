"""Build the config's loggers, so that each run of a study is one run in them, under the study's name."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from otter_ray.config import Component, Config
from otter_ray.errors import ConfigError, TrainingError, in_one_line
from otter_ray.files import atomic_write
from otter_ray.train.registry import accepted, find_class
from otter_ray.train.tracking.tensorboard_hparams import HParams

# Lightning's logger -> (what it imports, what to install).
PACKAGES = {
    "CometLogger": ("comet_ml", "comet-ml"),
    "LitLogger": ("litlogger", "litlogger"),
    "MLFlowLogger": ("mlflow", "mlflow"),
    "NeptuneLogger": ("neptune", "neptune"),
    "WandbLogger": ("wandb", "wandb"),
}
# Holds the number that MLflow gave to a run, in the run's folder: a trial that is tried again goes on there.
MLFLOW_RUN = "mlflow_run"


def missing_package(cls: type[Any]) -> str:
    """Return what to install for a logger, in one sentence; empty if nothing is missing."""
    for base in cls.mro():
        module, package = PACKAGES.get(base.__name__, ("", ""))
        if module and importlib.util.find_spec(module) is None:
            return f"{base.__name__} needs the package {package}. Install it: pip install {package}"
    return ""


@contextmanager
def open_loggers(config: Config, folder: Path, hparams: HParams | None) -> Iterator[list[Logger]]:
    """Build the loggers of a run, and end the run in them at the end of the block.

    Args:
        config: The config.
        folder: The run's folder.
        hparams: What tells a study's run apart from others; None for a lone run.

    Raises:
        ConfigError: A logger's package is missing, or it refuses its options.
    """
    # What a run leaves open that was stopped in the midst of this process would be written to.
    _finish_wandb(config)
    loggers = [*build_loggers(config, folder, hparams)]
    try:
        yield loggers
    except SystemExit:
        # So a scheduler ends a trial. Lightning has called it failed.
        for logger in loggers:
            if isinstance(logger, MLFlowLogger):
                logger.finalize("success")
        raise
    finally:
        _finish_wandb(config)


def prepare_loggers(config: Config, group: str) -> None:
    """Make what the runs of a study share in their loggers, which several runs at once cannot make.

    Args:
        config: The base config.
        group: The study's name.

    Raises:
        ConfigError: A server cannot be reached.
    """
    for key, section in config.logger_sections():
        if not issubclass(find_class(section.name, "logger", config.project), MLFlowLogger):
            continue
        from mlflow import MlflowClient

        options = section.options
        files = f"file:{options.get('save_dir', './mlruns')}"
        place = options.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI") or files
        name = options.get("experiment_name", group)
        try:
            client = MlflowClient(place)
            if client.get_experiment_by_name(name) is None:
                client.create_experiment(name, options.get("artifact_location"))
        except Exception as exc:  # what a client raises for a server that does not answer has no base
            raise ConfigError(
                [config.problem(key, f"MLflow cannot be logged to: {in_one_line(exc)}")]
            ) from exc


def remember_runs(loggers: Iterable[Logger], folder: Path) -> None:
    """Begin the runs in the loggers that number them, and keep the numbers in the run's folder.

    Args:
        loggers: The run's loggers, in the process that logs.
        folder: The run's folder.

    Raises:
        TrainingError: A server cannot be reached.
    """
    for logger in loggers:
        if not isinstance(logger, MLFlowLogger):
            continue
        try:
            number = str(logger.run_id)
        except Exception as exc:  # what a client raises for a server that does not answer has no base
            raise TrainingError(f"MLflow cannot be logged to: {in_one_line(exc)}") from exc
        with atomic_write(folder / MLFLOW_RUN) as partial:
            partial.write_text(number)


def build_logger(config: Config, folder: Path) -> Logger | bool:
    """Build the config's logger, the first of several, or return False for none."""
    return next(build_loggers(config, folder), False)


def build_loggers(config: Config, folder: Path, hparams: HParams | None = None) -> Iterator[Logger]:
    """Build the config's loggers. A relative `save_dir` is in the run's folder, except MLflow's.

    Args:
        config: The config.
        folder: The run's folder.
        hparams: What tells a study's run apart from others; None for a lone run.

    Raises:
        ConfigError: A logger's package is missing, or it refuses its options.
    """
    for key, section in config.logger_sections():
        cls = find_class(section.name, "logger", config.project)
        if message := missing_package(cls):
            raise ConfigError([config.problem(f"{key}.name", message)])
        try:
            yield cls(**_options(cls, section, config, folder, hparams))
        except (TypeError, ValueError, MisconfigurationException) as exc:
            raise ConfigError([config.problem(key, f"{section.name} refuses its options: {exc}")]) from exc


def _options(
    cls: type[Any], section: Component, config: Config, folder: Path, hparams: HParams | None
) -> dict[str, Any]:
    """Return a logger's options, with what it does not know filled in."""
    options = dict(section.options)
    name, group = (hparams.name, hparams.group) if hparams else (folder.name, config.name)
    if issubclass(cls, MLFlowLogger):
        # Its files hold all runs; they are where the command was started, not in each run's folder.
        number = folder / MLFLOW_RUN
        earlier = {"run_id": number.read_text()} if number.is_file() else {}
        return {"experiment_name": group, "run_name": name, **earlier, **options}
    directory = folder / options.get("save_dir", "")
    if issubclass(cls, WandbLogger):
        directory.mkdir(parents=True, exist_ok=True)
        # A trial that is tried again goes on with its run.
        version = _identifier(f"{group}-{folder.name}")
        own = {"name": name, "group": group, "project": config.name, "version": version}
        return {**own, **options, "save_dir": str(directory)}
    if "save_dir" in options:
        options["save_dir"] = str(directory)
    return {**accepted(cls, {"name": "", "version": "", "default_hp_metric": False}), **options}


def _identifier(text: str) -> str:
    """Return text as W&B takes it for a run's identifier."""
    return re.sub(r"[^\w-]", "-", text)


def _finish_wandb(config: Config) -> None:
    """End the open run if it can be this config's: a process that trains may log runs of its own."""
    classes = [find_class(section.name, "logger", config.project) for _, section in config.logger_sections()]
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None and any(issubclass(cls, WandbLogger) for cls in classes):
        wandb.finish()
