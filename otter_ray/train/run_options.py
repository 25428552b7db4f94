"""How a run is trained, and what a study asks of one that is its trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from otter_ray.direction import Direction
from otter_ray.train.tracking.tensorboard_hparams import HParams


@dataclass(frozen=True)
class RunOptions:
    """How a run is trained, by whomever it is launched.

    Attributes:
        metric: The metric that names the best epoch; empty means the first that the model declares.
        direction: Which values of the metric are better.
        cpus: CPUs of each process, shared by the training loader's workers and torch's threads; None means
            all.
        checkpoint: The checkpoint of this run to resume from. None starts from fresh weights, or from the
            earlier run that `common.is_restore` asks for.
        launcher: If several processes train together, the arguments for Lightning's Trainer (strategy,
            devices, ...) of whoever started them. Each process calls `run_training`; each reports, and the
            first one writes files.
    """

    metric: str = ""
    direction: Direction = Direction.MAX
    cpus: int | None = None
    checkpoint: Path | None = None
    launcher: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RunHooks:
    """What a study asks of a run that is one of its trials.

    Attributes:
        save_soon: Once set, `last.ckpt` is also saved within an epoch, once: the machine is about to be taken
            away.
        saved: Called by the first process after each `last.ckpt`, before the report.
        keep_every: Number of epochs after which the checkpoint is also kept under the epoch's name; None
            keeps no such copies.
        hparams: What tells this run apart from others, for its loggers.
    """

    save_soon: Event | None = None
    saved: Callable[[], None] | None = None
    keep_every: int | None = None
    hparams: HParams | None = None


DEFAULTS = RunOptions()
