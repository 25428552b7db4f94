"""Which checkpoint of an earlier run or study a run starts from: `common.is_restore` and its options."""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.checkpoints import ANY_CHECKPOINT, BEST_CHECKPOINT, CHECKPOINTS, LAST_CHECKPOINT
from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem, TrainingError, did_you_mean
from otter_ray.train.checkpoint.checkpoint_io import differing_keys, read_checkpoint, summarize_keys
from otter_ray.train.torch_compat import is_from_epoch_end

if TYPE_CHECKING:
    from otter_ray.train.model.module_mixin import BaseMixin

RUNS_FOLDER = Path("runs")
# What Lightning needs to resume with all states, and the sections whose states hold values of their own.
RESUMABLE_KEYS = ("epoch", "loops", "optimizer_states", "lr_schedulers", "config")
STATEFUL_SECTIONS = ("optimizer", "lr_scheduler")


def find_restore(config: Config) -> Path | None:
    """Return the checkpoint that a config starts from; None if `common.is_restore` is false.

    `restore_ind` is a run or a study: its name below `runs/CONFIG/` or below any other config's folder,
    `CONFIG/NAME`, or its path. `restore_ckpt` is the name of a checkpoint in it, or the checkpoint's path
    below it. If it is empty, a run's newest `last` or a study's `best.ckpt` is used: of several, the one to
    which Lightning gave the highest version, then the one after the most steps. A run's own checkpoints come
    before those of its callbacks.

    Raises:
        ConfigError: There is none, or the name matches several; the message lists what there is.
    """
    if not config.common.is_restore:
        return None
    folder, name = _find_folder(config), config.common.restore_ckpt
    found = _checkpoints(folder)
    for pattern in (glob.escape(name),) if name else ("last*.ckpt", BEST_CHECKPOINT):
        if fitting := [path for path in found if path == folder / name or fnmatchcase(path.name, pattern)]:
            return fitting[0] if len(fitting) == 1 else min(fitting, key=_precedence)
    there = sorted(str(path.relative_to(folder)) for path in found)
    rule = f"{name!r} is not a checkpoint of {folder}.{did_you_mean(name, there)}"
    message = f"{rule} There are: {', '.join(there)}."
    raise ConfigError([config.problem("common.restore_ckpt", message)])


def _precedence(checkpoint: Path) -> tuple[int, int, int]:
    """Return what sorts checkpoints of a run, the one to start from first. File times change in a copy."""
    version, steps = re.search(r"-v(\d+)$", checkpoint.stem), 0
    with suppress(TrainingError):  # if it is the one to start from, its check says that it is damaged
        steps = read_checkpoint(checkpoint).get("global_step", 0)
    return (
        len(checkpoint.parts),
        -int(version[1]) if version else 0,
        -steps if isinstance(steps, int) else 0,
    )


def pin_restore(config: Config, source: Path | None) -> Config:
    """Replace the checkpoint's name by its path: the name may mean another one later."""
    if source is None:
        return config
    path = source.absolute()
    return config.with_values({"common.restore_ind": str(path.parent), "common.restore_ckpt": path.name})


def restore(config: Config, model: BaseMixin) -> Path | None:
    """Load the weights that the config starts from, if it starts from any.

    Returns:
        Their checkpoint, if Lightning is to restore all of its states (`restore_all_states`).

    Raises:
        ConfigError: See `restore_problems`.
        TrainingError: The checkpoint holds more than plain data.
    """
    source = find_restore(config)
    if source is None:
        return None
    if problems := restore_problems(config, model, source):
        raise ConfigError(problems)
    weights, own = read_checkpoint(source)["state_dict"], model.state_dict()
    differing = differing_keys(own, weights)
    if new := [key for key in differing if key in own]:
        warnings.warn(
            f"{source} does not match the config in {', '.join(new)}, initialized from scratch", stacklevel=2
        )
    model.load_state_dict({**own, **{key: weights[key] for key in own if key not in differing}})
    return source if config.common.restore_all_states else None


def restore_problems(
    config: Config, model: BaseMixin, source: Path, unknown: tuple[str, ...] = ()
) -> list[Problem]:
    """Return why this config cannot start from the checkpoint.

    Args:
        config: The config.
        model: The config's model.
        source: The checkpoint.
        unknown: Prefixes of weights whose shapes in the run are not known yet.
    """
    record, every = read_checkpoint(source), config.common.restore_all_states
    found = list(_unfit_states(config, record, source)) if every else []
    free = unknown if every else (*unknown, *model.FRESH)
    differing = differing_keys(model.state_dict(), record["state_dict"])
    if foreign := [key for key in differing if not key.startswith(free)]:
        message = (
            f"{source} holds another architecture than the config: they differ in {summarize_keys(foreign)}. "
        )
        advice = "Use the config that it was trained with."
        found.append(config.problem("common.restore_ckpt", message + advice))
    return found


def _unfit_states(config: Config, record: Mapping[str, Any], source: Path) -> Iterator[Problem]:
    if missing := [key for key in RESUMABLE_KEYS if key not in record]:
        message = f"true but {source} holds no states (it lacks {', '.join(missing)}). Set it to false."
        yield config.problem("common.restore_all_states", message)
        return
    for section in STATEFUL_SECTIONS:
        if differs := _difference(section, record["config"].get(section), config.to_dict().get(section)):
            key, then, now = differs
            message = (
                f"{now!r} but {source} was trained with {then!r}, and its state would continue with that. "
                "Make it the same, or set common.restore_all_states to false."
            )
            yield config.problem(key, message)
    done = record["epoch"] + 1
    if done >= config.trainer.max_epochs:
        message = f"{config.trainer.max_epochs} but {source} has trained {done} already. Raise it."
        yield config.problem("trainer.max_epochs", message)
    if not is_from_epoch_end(record):
        message = (
            f"{source} was saved within epoch {done}, which would start with the same images again. "
            "Use one from the end of an epoch, or set common.restore_all_states to false."
        )
        yield config.problem("common.restore_ckpt", message)


def _difference(key: str, then: Any, now: Any) -> tuple[str, Any, Any] | None:
    """Return (dotted key, value then, value now) of the first difference between two plain values."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return None if then == now else (key, then, now)
    below = (_difference(f"{key}.{name}", then.get(name), now.get(name)) for name in {**then, **now})
    return next(filter(None, below), None)


def _find_folder(config: Config) -> Path:
    name = config.common.restore_ind
    own = [RUNS_FOLDER / config.name / name, RUNS_FOLDER / name, Path(name)] if name else []
    if folder := next(filter(_checkpoints, own), None):
        return folder
    others = (
        [path for path in RUNS_FOLDER.glob(f"*/{glob.escape(name)}") if _checkpoints(path)] if name else []
    )
    if len(others) == 1:
        return others[0]
    finished = [*(path.parents[1] for path in RUNS_FOLDER.glob(f"*/*/{CHECKPOINTS}/{LAST_CHECKPOINT}")),
                *(path.parent for path in RUNS_FOLDER.glob(f"*/*/{BEST_CHECKPOINT}"))]  # fmt: skip
    known = sorted({path.relative_to(RUNS_FOLDER) for path in others or finished})
    there = (
        f"There are: {', '.join(map(str, known))}."
        if known
        else f"There are none in {RUNS_FOLDER.absolute()}."
    )
    near = did_you_mean(name, [path.name for path in known])
    rule = "matches several runs." if others else f"is not a run or finished study with a checkpoint.{near}"
    advice = "Name one (--set common.restore_ind=NAME), or set common.is_restore to false."
    raise ConfigError([config.problem("common.restore_ind", f"{name!r} {rule} {there} {advice}")])


def _checkpoints(folder: Path) -> list[Path]:
    """List a run's or a study's checkpoints; not those of a study's trials, none of which is *the* last."""
    return [*folder.glob(ANY_CHECKPOINT), *folder.glob(f"{CHECKPOINTS}/**/{ANY_CHECKPOINT}")]
