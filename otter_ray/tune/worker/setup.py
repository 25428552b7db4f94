"""What every trial of a study shares, sent to each worker slot."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otter_ray.direction import Direction
from otter_ray.files import read_bytes
from otter_ray.study.layout import MARK, RESTORE
from otter_ray.study.storage import Storage
from otter_ray.tune.cluster.resources import COORDINATOR_RESOURCES


@dataclass(frozen=True)
class TrialSetup:
    """What every trial of a study shares. It travels to the worker slots.

    Attributes:
        config: the base config, as a dict.
        config_name: the base config's name.
        study: the study's folder.
        mark: what the folder's `MARK` holds.
        storage: where the study is also stored, so that the nodes need not see its folder; None if nowhere.
        metric: that the best epoch of a trial is best in.
        rung_metric: that the scheduler looks at.
        keep_every: number of epochs after which a checkpoint is kept for other trials to start from.
        direction: which values of the metric are better.
        workers: of a trial.
        cpus: of each worker.
        gpus: of each worker.
        cwd: the folder in which the study was started.
        searched: dotted keys that the space sets.
        given: objects that the config names, of a program's own.
    """

    config: dict[str, Any]
    config_name: str
    study: str
    mark: str
    storage: Storage | None
    metric: str
    rung_metric: str
    keep_every: int | None
    direction: Direction
    workers: int
    cpus: float
    gpus: float
    cwd: str
    searched: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slot_resources(self) -> dict[str, float]:
        """The resources that a trial's slot asks Tune for."""
        if self.workers == 1:
            return self.worker_resources
        return dict(COORDINATOR_RESOURCES)

    @property
    def worker_resources(self) -> dict[str, float]:
        """The resources of each worker."""
        return {"CPU": self.cpus, "GPU": self.gpus}

    @property
    def sees_study(self) -> bool:
        """Whether this node sees the study's folder. It may have joined after the others were asked."""
        mark = Path(self.study) / MARK
        return read_bytes(mark, RESTORE) == self.mark.encode()

    @property
    def unseen_message(self) -> str:
        """What to say if it does not."""
        return (
            f"{socket.gethostname()} does not see {self.study}. Give a --runs that all nodes share (NFS), "
            "those that join later as well, or a --storage (s3://BUCKET/PATH)"
        )
