"""Starting from a checkpoint of an earlier run: `common.is_restore` and what goes with it."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.errors import ConfigError, TrainingError, did_you_mean

RUNS = Path("runs")


def find_restore(config: Config) -> Path | None:
    """The checkpoint that a config starts from; None where `common.is_restore` is false.

    `restore_ind` is a run: its name below `runs/CONFIG/` or below any other config's folder, or its path.
    `restore_ckpt` is the name of a checkpoint of it; empty takes the newest `last`.

    Raises:
        ConfigError: there is none; lists the runs, or the run's checkpoints, that there are.
    """
    if not config.common.is_restore:
        return None
    run, name = _find_run(config), config.common.restore_ckpt
    pattern = glob.escape(Path(name).name) or "last*.ckpt"
    if found := list(run.rglob(pattern)):
        return max(found, key=lambda path: path.stat().st_mtime)
    there = sorted({path.name for path in run.rglob("*.ckpt")})
    message = f"{name or pattern!r} is no checkpoint of {run}. There are: {', '.join(there)}. Name one."
    raise ConfigError([config.problem("common.restore_ckpt", message + did_you_mean(name, there))])


def _find_run(config: Config) -> Path:
    name = config.common.restore_ind
    if run := next(_places(config), None):
        return run
    runs = sorted({path.parents[1].relative_to(RUNS) for path in RUNS.glob("*/*/checkpoints/last.ckpt")})
    there = f"There are: {', '.join(map(str, runs))}." if runs else f"There are none in {RUNS.absolute()}."
    message = f"{name!r} is no run with a checkpoint.{did_you_mean(name, [run.name for run in runs])} {there}"
    advice = "Name one, or set common.is_restore to false."
    raise ConfigError([config.problem("common.restore_ind", f"{message} {advice}")])


def _places(config: Config) -> Iterator[Path]:
    """Every run that `restore_ind` may mean, the likeliest first."""
    name = config.common.restore_ind
    if not name:
        return
    for place in (RUNS / config.name / name, *sorted(RUNS.glob(f"*/{glob.escape(name)}")), Path(name)):
        if place.is_dir() and any(place.rglob("*.ckpt")):
            yield place


def state_dict_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, on the CPU.

    Raises:
        TrainingError: the file holds no weights, or more than plain data, which is never unpickled.
    """
    try:
        return dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as exc:  # torch raises half a dozen kinds for a file that is no checkpoint
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise TrainingError(f"{checkpoint} is no checkpoint of plain data: {reason}") from exc


def load_weights(model: nn.Module, checkpoint: Path, fresh: tuple[str, ...] = ()) -> None:
    """Loads a checkpoint's weights, and nothing else of it, into a model.

    Args:
        fresh: prefixes of weights that keep their fresh values, with a warning, where the checkpoint has
            none of them or of another shape.

    Raises:
        TrainingError: the checkpoint is another architecture's; names the first keys that differ.
    """
    weights, own = state_dict_of(checkpoint), model.state_dict()
    differing = differing_keys(own, weights)
    if foreign := [key for key in differing if not key.startswith(fresh)]:
        raise TrainingError(
            f"{checkpoint} holds another architecture than the config: they differ in {first(foreign)}. "
            "Use the config that it was trained with."
        )
    if differing:
        warnings.warn(f"{checkpoint} has no fitting {', '.join(differing)}: left fresh", stacklevel=2)
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
