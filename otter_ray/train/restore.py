"""Starting from a checkpoint of an earlier run or study: `common.is_restore` and what goes with it."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem, TrainingError, did_you_mean

if TYPE_CHECKING:
    from otter_ray.train.mixin import BaseMixin

RUNS = Path("runs")
# What Lightning needs to go on with all states, and what of it brings its own values along.
WHOLE = ("epoch", "loops", "optimizer_states", "lr_schedulers", "config")
STATES = ("optimizer", "lr_scheduler")


def find_restore(config: Config) -> Path | None:
    """The checkpoint that a config starts from; None where `common.is_restore` is false.

    `restore_ind` is a run or a study: its name below `runs/CONFIG/` or below any other config's folder,
    `CONFIG/NAME`, or its path. `restore_ckpt` is the name of a checkpoint of it, or its path below it; empty
    takes a run's newest `last`, a study's `best.ckpt`. Those of the run itself come before its callbacks'.

    Raises:
        ConfigError: there is none, or the name means several; lists what there is.
    """
    if not config.common.is_restore:
        return None
    folder, name = _find_folder(config), config.common.restore_ckpt
    found = _checkpoints(folder)
    for pattern in (glob.escape(name),) if name else ("last*.ckpt", "best.ckpt"):
        if fitting := [path for path in found if path == folder / name or fnmatchcase(path.name, pattern)]:
            return min(fitting, key=lambda path: (len(path.parts), -path.stat().st_mtime))
    there = sorted(str(path.relative_to(folder)) for path in found)
    message = f"{name!r} is no checkpoint of {folder}. There are: {', '.join(there)}. Name one."
    raise ConfigError([config.problem("common.restore_ckpt", message + did_you_mean(name, there))])


def pin_restore(config: Config, source: Path | None) -> Config:
    """The config with its checkpoint's own path in place of a name, which means another one some day."""
    if source is None:
        return config
    path = source.absolute()
    return config.with_values({"common.restore_ind": str(path.parent), "common.restore_ckpt": path.name})


def described(source: Path) -> str:
    """A checkpoint for people: its path, and what is known of its epoch."""
    record = read_checkpoint(source)
    metric = record.get("metric", "")
    value = f", {metric} {record['metrics'][metric]:.4f}" if metric in record.get("metrics", {}) else ""
    return f"{source} (epoch {record['epoch'] + 1}{value})" if "epoch" in record else str(source)


def restore(config: Config, model: BaseMixin) -> Path | None:
    """Loads the weights that the config starts from, if it does.

    Returns:
        Their checkpoint where all its states count (`restore_all_states`), which Lightning takes them from.

    Raises:
        ConfigError: see `restore_problems`.
        TrainingError: it is no checkpoint of plain data.
    """
    source = find_restore(config)
    if source is None:
        return None
    if problems := restore_problems(config, model, source):
        raise ConfigError(problems)
    weights, own = read_checkpoint(source)["state_dict"], model.state_dict()
    differing = differing_keys(own, weights)
    if fresh := [key for key in differing if key in own]:
        warnings.warn(f"{source} has no fitting {', '.join(fresh)}: left fresh", stacklevel=2)
    model.load_state_dict({**own, **{key: weights[key] for key in own if key not in differing}})
    return source if config.common.restore_all_states else None


def restore_problems(
    config: Config, model: BaseMixin, source: Path, unknown: tuple[str, ...] = ()
) -> list[Problem]:
    """Why the checkpoint is not one that this config can start from.

    Args:
        unknown: prefixes of weights whose shapes are not the run's yet.
    """
    record, every = read_checkpoint(source), config.common.restore_all_states
    found = list(_unfit_states(config, record, source)) if every else []
    free = unknown if every else (*unknown, *model.FRESH)
    differing = differing_keys(model.state_dict(), record["state_dict"])
    if foreign := [key for key in differing if not key.startswith(free)]:
        message = f"{source} holds another architecture than the config: they differ in {first(foreign)}. "
        advice = "Use the config that it was trained with."
        found.append(config.problem("common.restore_ckpt", message + advice))
    return found


def _unfit_states(config: Config, record: Mapping[str, Any], source: Path) -> Iterator[Problem]:
    if missing := [key for key in WHOLE if key not in record]:
        message = f"true but {source} holds no states (it lacks {', '.join(missing)}). Set it to false."
        yield config.problem("common.restore_all_states", message)
        return
    for section in STATES:
        if differs := _difference(section, record["config"].get(section), config.to_dict().get(section)):
            key, then, now = differs
            message = (
                f"{now!r} but {source} was trained with {then!r}, and its state would go on with that. "
                "Make it the same, or set common.restore_all_states to false."
            )
            yield config.problem(key, message)
    done = record["epoch"] + 1
    if done >= config.trainer.max_epochs:
        message = f"{config.trainer.max_epochs} but {source} has {done} epochs behind it. Raise it."
        yield config.problem("trainer.max_epochs", message)
    if not record["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        message = (
            f"{source} was saved within epoch {done}, which would begin with the same images again. "
            "Take one from an epoch's end, or set common.restore_all_states to false."
        )
        yield config.problem("common.restore_ckpt", message)


def _difference(key: str, then: Any, now: Any) -> tuple[str, Any, Any] | None:
    """(dotted key, value then, value now) of the first of two plain values' differences."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return None if then == now else (key, then, now)
    below = (_difference(f"{key}.{name}", then.get(name), now.get(name)) for name in {**then, **now})
    return next(filter(None, below), None)


def _find_folder(config: Config) -> Path:
    name = config.common.restore_ind
    own = [RUNS / config.name / name, RUNS / name, Path(name)] if name else []
    if folder := next(filter(_checkpoints, own), None):
        return folder
    others = [path for path in RUNS.glob(f"*/{glob.escape(name)}") if _checkpoints(path)] if name else []
    if len(others) == 1:
        return others[0]
    finished = [*(path.parents[1] for path in RUNS.glob("*/*/checkpoints/last.ckpt")),
                *(path.parent for path in RUNS.glob("*/*/best.ckpt"))]  # fmt: skip
    known = sorted({path.relative_to(RUNS) for path in others or finished})
    there = f"There are: {', '.join(map(str, known))}." if known else f"There are none in {RUNS.absolute()}."
    near = did_you_mean(name, [path.name for path in known])
    rule = "means several." if others else f"is no run or finished study with a checkpoint.{near}"
    advice = "Name one (--set common.restore_ind=NAME), or set common.is_restore to false."
    raise ConfigError([config.problem("common.restore_ind", f"{name!r} {rule} {there} {advice}")])


def _checkpoints(folder: Path) -> list[Path]:
    """A run's own, or a study's; never those of a study's trials, of which none is *the* last."""
    return [*folder.glob("*.ckpt"), *folder.glob("checkpoints/**/*.ckpt")]


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Loads a checkpoint's weights, and nothing else of it, into a model.

    Raises:
        TrainingError: as `read_checkpoint`; or the weights are another architecture's: names the first keys
            that differ.
    """
    weights = read_checkpoint(checkpoint)["state_dict"]
    if differing := differing_keys(model.state_dict(), weights):
        raise TrainingError(
            f"{checkpoint} holds another architecture than the config: they differ in {first(differing)}. "
            "Use the config that it was trained with."
        )
    model.load_state_dict(weights)


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Everything in a checkpoint, its weights mapped from the file.

    Raises:
        TrainingError: the file holds no weights, or more than plain data, which is never unpickled.
    """
    try:
        # Mapped: what is asked for most are the shapes.
        record: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        dict(record["state_dict"])
    except Exception as exc:  # torch raises half a dozen kinds for a file that is no checkpoint
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise TrainingError(f"{checkpoint} is no checkpoint of plain data: {reason}") from exc
    return record


def differing_keys(own: Mapping[str, torch.Tensor], weights: Mapping[str, Any]) -> list[str]:
    """Keys that only one of them has, or whose shapes differ."""
    return [
        key
        for key in sorted(own.keys() | weights.keys())
        if key not in own or own[key].shape != getattr(weights.get(key), "shape", None)
    ]


def first(keys: Sequence[str]) -> str:
    """The first five keys, and how many there are."""
    return f"{', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''} ({len(keys)} keys)"
