"""Starting from a checkpoint of an earlier run or study: `common.is_restore` and what goes with it."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem, TrainingError, did_you_mean

if TYPE_CHECKING:
    from otter_ray.train.mixin import BaseMixin

RUNS = Path("runs")
# What a checkpoint's states bring along, whatever the config says.
STATES = ("optimizer", "lr_scheduler")


def find_restore(config: Config) -> Path | None:
    """The checkpoint that a config starts from; None where `common.is_restore` is false.

    `restore_ind` is a run or a study: its name below `runs/CONFIG/` or below any other config's folder, or
    its path. `restore_ckpt` is the name of a checkpoint of it; empty takes a run's newest `last`, a study's
    `best.ckpt`.

    Raises:
        ConfigError: there is none; lists the runs and studies, or the checkpoints, that there are.
    """
    if not config.common.is_restore:
        return None
    folder, name = _find_folder(config), config.common.restore_ckpt
    found = _checkpoints(folder)
    for pattern in (Path(name).name,) if name else ("last*.ckpt", "best.ckpt"):
        if fitting := [path for path in found if path.match(glob.escape(pattern) if name else pattern)]:
            return max(fitting, key=lambda path: path.stat().st_mtime)
    there = sorted({path.name for path in found})
    message = f"{name!r} is no checkpoint of {folder}. There are: {', '.join(there)}. Name one."
    raise ConfigError([config.problem("common.restore_ckpt", message + did_you_mean(name, there))])


def pin_restore(config: Config) -> Config:
    """The config with its checkpoint's own path in place of a name, which means another one some day."""
    source = find_restore(config)
    if source is None:
        return config
    path = source.absolute()
    return config.with_values({"common.restore_ind": str(path.parent), "common.restore_ckpt": path.name})


def restore(config: Config, model: BaseMixin) -> Path | None:
    """Loads the weights that the config starts from, if it does.

    Returns:
        Their checkpoint where all its states count (`restore_all_states`), which Lightning takes them from.

    Raises:
        ConfigError: there is no such checkpoint, or its states are not those that the config describes.
        TrainingError: it is another architecture's.
    """
    source = find_restore(config)
    if source is None:
        return None
    record, every = _read(source), config.common.restore_all_states
    _load(model, record["state_dict"], source, () if every else model.FRESH)
    if not every:
        return None
    if problems := list(_unfit_states(config, record, source)):
        raise ConfigError(problems)
    return source


def _unfit_states(config: Config, record: Mapping[str, Any], source: Path) -> Iterator[Problem]:
    then, now = record.get("config", {}), config.to_dict()
    for section in STATES:
        if then.get(section) != now.get(section):
            message = (
                f"is not what {source} was trained with, whose state would go on in its place. Make it the "
                "same, or set common.restore_all_states to false."
            )
            yield config.problem(section, message)
    done = record["epoch"] + 1
    if done >= config.trainer.max_epochs:
        message = f"{config.trainer.max_epochs} but {source} has {done} epochs behind it. Raise it."
        yield config.problem("trainer.max_epochs", message)
    if not record["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        message = (
            f"{source.name} was saved within epoch {done}, which would begin with the same images again. "
            "Take one from an epoch's end, or set common.restore_all_states to false."
        )
        yield config.problem("common.restore_ckpt", message)


def _find_folder(config: Config) -> Path:
    name = config.common.restore_ind
    if folder := next(_places(config), None):
        return folder
    finished = [*(path.parents[1] for path in RUNS.glob("*/*/checkpoints/last.ckpt")),
                *(path.parent for path in RUNS.glob("*/*/best.ckpt"))]  # fmt: skip
    known = sorted({path.relative_to(RUNS) for path in finished})
    there = f"There are: {', '.join(map(str, known))}." if known else f"There are none in {RUNS.absolute()}."
    near = did_you_mean(name, [path.name for path in known])
    message = f"{name!r} is no run or finished study with a checkpoint.{near} {there}"
    advice = "Name one (--set common.restore_ind=NAME), or set common.is_restore to false."
    raise ConfigError([config.problem("common.restore_ind", f"{message} {advice}")])


def _places(config: Config) -> Iterator[Path]:
    """Every run or study that `restore_ind` may mean, the likeliest first."""
    name = config.common.restore_ind
    if not name:
        return
    for place in (RUNS / config.name / name, *sorted(RUNS.glob(f"*/{glob.escape(name)}")), Path(name)):
        if _checkpoints(place):
            yield place


def _checkpoints(folder: Path) -> list[Path]:
    """A run's own, or a study's; never those of a study's trials, of which none is *the* last."""
    return [*folder.glob("*.ckpt"), *folder.glob("checkpoints/**/*.ckpt")]


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Loads a checkpoint's weights, and nothing else of it, into a model.

    Raises:
        TrainingError: the file holds no weights, or more than plain data, which is never unpickled; or the
            weights are another architecture's: names the first keys that differ.
    """
    _load(model, _read(checkpoint)["state_dict"], checkpoint)


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        dict(record["state_dict"])
    except Exception as exc:  # torch raises half a dozen kinds for a file that is no checkpoint
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise TrainingError(f"{checkpoint} is no checkpoint of plain data: {reason}") from exc
    return record


def _load(
    model: nn.Module, weights: Mapping[str, torch.Tensor], source: Path, fresh: tuple[str, ...] = ()
) -> None:
    """What begins with one of `fresh` keeps its values, with a warning, where `weights` do not fit."""
    own = model.state_dict()
    differing = differing_keys(own, weights)
    if foreign := [key for key in differing if not key.startswith(fresh)]:
        raise TrainingError(
            f"{source} holds another architecture than the config: they differ in {first(foreign)}. "
            "Use the config that it was trained with."
        )
    if differing:
        warnings.warn(f"{source} has no fitting {', '.join(differing)}: left fresh", stacklevel=3)
    fitting = {key: weights[key] for key in weights if key not in differing}
    model.load_state_dict({**own, **fitting})


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
