"""A config as LightningCLI writes it (`fit --print_config`), read as one of `project: lightning`.

Imports neither torch nor Lightning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from otter_ray.config.types import Flaw
from otter_ray.config.yaml_reader import Origin

LIGHTNING = "lightning"
SEED = "seed_everything"
# LightningCLI's commands, each with a level of its own in a file for all of them.
FIT, COMMANDS = "fit", ("validate", "test", "predict")
# Lightning's own loggers are named without their module, as in the `logger:` of other projects.
LOGGERS = ("lightning.pytorch.loggers", "pytorch_lightning.loggers")
# What Lightning calls a project or an experiment of which nobody has given the name.
UNNAMED = "lightning_logs"


def is_lightning_cli(data: Mapping[str, Any]) -> bool:
    """Say whether a config that names no project is one of LightningCLI.

    Its model is a class path, or there is the seed that LightningCLI always writes.
    """
    has_seed = SEED in data and isinstance(data.get("trainer"), Mapping)
    return "project" not in data and (has_seed or _has_class_path(data.get("model")))


def class_path_flaws(data: Mapping[str, Any]) -> list[Flaw]:
    """Return what a config of a LightningCLI lacks whose program names the classes: the file does not.

    Args:
        data: The config's document.
    """
    if not is_lightning_cli(data):
        return []
    lacking = [key for key in ("model", "data") if not _has_class_path(data.get(key))]
    remedy = "Print the config with subclass_mode_{}=True, or write class_path and init_args."
    return [
        ((key,), f"has no class_path. {remedy.format(key)}")
        for key in lacking
        if key == "model" or data.get(key)
    ]


def _has_class_path(section: Any) -> bool:
    return isinstance(section, Mapping) and "class_path" in section


def without_fit_level(data: dict[str, Any], origin: Origin) -> tuple[dict[str, Any], Origin]:
    """Return a document without the level that LightningCLI has for its commands.

    Args:
        data: The document.
        origin: Where its keys were written.
    """
    fit = data.get(FIT)
    if not isinstance(fit, dict):
        return data, origin
    rest = {key: value for key, value in data.items() if key not in (FIT, *COMMANDS)}
    places = {(path[1:] if path[0] == FIT else path): place for path, place in origin.places.items()}
    without = {**fit, **rest}
    if "project" not in without:
        without.setdefault(SEED, None)  # which says, without this level too, whose config it is
    return without, replace(origin, places=places)


def from_lightning_cli(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's document with LightningCLI's keys as otter_ray has them. Others stay as they are.

    Null, which it writes for what is not given, is left out.
    """
    given = _not_null(data)
    seed, _ = given.pop(SEED, 0), given.pop("weights_only", None)  # a checkpoint is never more
    if type(seed) is int:
        given.setdefault("common", {"seed": seed})
    trainer = given.get("trainer")
    if not isinstance(trainer, Mapping):
        return given
    trainer = given["trainer"] = _not_null(trainer)
    if _is_of_one_process(trainer.get("strategy")):
        trainer.pop("strategy", None)
    if isinstance(callbacks := trainer.get("callbacks"), Mapping):
        trainer["callbacks"] = [callbacks]
    logger = _loggers(trainer.pop("logger", None))
    if logger is not None:
        given.setdefault("logger", logger)
    if (monitor := next(_monitors(trainer.get("callbacks")), None)) is not None:
        given.setdefault("metric", monitor)
    return given


def _not_null(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _is_of_one_process(strategy: Any) -> bool:
    """Say whether a strategy is none if there is one process, as there is in a trial."""
    if isinstance(strategy, Mapping):
        return str(strategy.get("class_path")).endswith(("DDPStrategy", "SingleDeviceStrategy"))
    return isinstance(strategy, str) and strategy.startswith(("auto", "ddp", "single_device"))


def _loggers(given: Any) -> Any:
    """Return `trainer.logger` as a `logger:` section; None for no logger."""
    if isinstance(given, bool):
        return {"name": "TensorBoardLogger"} if given else None
    if isinstance(given, list):
        return [_loggers(each) for each in given] or None
    if not (isinstance(given, Mapping) and isinstance(path := given.get("class_path"), str)):
        return given
    module, _, name = path.rpartition(".")
    options = {**(given.get("init_args") or {}), **(given.get("dict_kwargs") or {})}
    is_own = any(f"{module}.".startswith(f"{own}.") for own in LOGGERS)
    named = {key: value for key, value in options.items() if value is not None and value != UNNAMED}
    return {"name": name if is_own else path, "options": named}


def _monitors(callbacks: Any) -> Iterator[str]:
    """Yield the metrics that callbacks wait for; the one by which checkpoints are chosen first."""
    listed = [each for each in callbacks if isinstance(each, Mapping)] if isinstance(callbacks, list) else []
    for callback in sorted(listed, key=lambda each: "Checkpoint" not in str(each.get("class_path"))):
        arguments = callback.get("init_args")
        monitor = arguments.get("monitor") if isinstance(arguments, Mapping) else None
        if isinstance(monitor, str):
            yield monitor
