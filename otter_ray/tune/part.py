"""One process's part of a trial: its folder, what it goes on from, and what it tells."""

from __future__ import annotations

import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.config import Config
from otter_ray.errors import StudyError, TrainingError
from otter_ray.train.restore import pin_restore
from otter_ray.tune.folder import MARK
from otter_ray.tune.gpu import keep_to_share, used_memory
from otter_ray.tune.keys import EPOCH, METRICS, NUMBER, ORIGIN, TRIAL, VALUES
from otter_ray.tune.names import show_as, trial_name
from otter_ray.tune.plan import DRIVER, whole_cpus
from otter_ray.tune.preemption import preemption_notice
from otter_ray.tune.storage import TRIALS, Mirror, Storage, kept_checkpoint

if TYPE_CHECKING:
    from otter_ray.train.hparams import HParams
    from otter_ray.train.report import EpochReport

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TrialSetup:
    """What every trial of a study shares. Plain data: it travels to the slots.

    Attributes:
        study: the study's folder.
        mark: what its `MARK` holds.
        storage: where the study is kept beside it, so that the nodes need not see that folder.
        rung_metric: that the scheduler looks at.
        keep_every: epochs after which a checkpoint is kept for other trials to begin from.
        workers: of a trial.
        cpus, gpus: of each worker.
        cwd: where the study was started.
        searched: dotted keys that the space sets.
    """

    config: dict[str, Any]
    config_name: str
    study: str
    mark: str
    storage: Storage | None
    metric: str
    rung_metric: str
    keep_every: int | None
    mode: str
    workers: int
    cpus: float
    gpus: float
    cwd: str
    searched: tuple[str, ...] = ()

    @property
    def slot(self) -> dict[str, float]:
        """The resources that a trial's slot asks Tune for."""
        if self.workers == 1:
            return self.worker
        return dict(DRIVER)

    @property
    def worker(self) -> dict[str, float]:
        """The resources of each worker."""
        return {"CPU": self.cpus, "GPU": self.gpus}


def origin_of(assignment: Facts) -> str | None:
    """The checkpoint of another trial that a trial begins from, in the study's folder; None for none."""
    origin = assignment.get(ORIGIN)
    return kept_checkpoint(origin[TRIAL], origin[EPOCH]) if origin else None


def sees_study(setup: TrialSetup) -> bool:
    """Whether this node, which may have joined after the others were asked, sees the study's folder."""
    mark = Path(setup.study) / MARK
    return mark.is_file() and mark.read_text() == setup.mark


def unseen(setup: TrialSetup) -> str:
    """What to say where it does not."""
    return (
        f"{socket.gethostname()} does not see {setup.study}. Give a --runs that all nodes share (NFS), those "
        "that join later, too, or a --storage (s3://BUCKET/PATH)"
    )


@dataclass(frozen=True)
class Part:
    """One process's part of a trial.

    Attributes:
        folder: the trial's, as this process sees it.
        mirror: what keeps a copy of it elsewhere, if anything does.
    """

    setup: TrialSetup
    assignment: Facts
    started: float
    folder: Path
    mirror: Mirror | None

    @property
    def name(self) -> str:
        """The trial's, for people."""
        return trial_name(self.setup.config_name, self.assignment)

    @property
    def facts(self) -> dict[str, Any]:
        """What is reported beside an epoch's or a failure's own."""
        return {**used_memory(), "seconds": time.time() - self.started, "host": socket.gethostname()}

    def train(self, report: Callable[[Facts], None], launcher: Facts | None = None) -> None:
        """Trains, from the trial's last checkpoint where there is one."""
        from otter_ray.train.callbacks import reports_so_far
        from otter_ray.train.run import run_training

        def tell(epoch: EpochReport) -> None:
            report(self.result(epoch))
            # Ray renames the process at each report.
            show_as(self.name)

        show_as(self.name)
        keep_to_share(self.setup.gpus)
        # Paths in the config are relative to where the study was started, on nodes that have that folder.
        with suppress(FileNotFoundError):
            os.chdir(self.setup.cwd)
        last = self.last()
        # The slot may have died between saving and telling, and a group trains on meanwhile, for some epochs:
        # all are told once more. Who has heard of one does not mind.
        for epoch in reports_so_far(last) if last is not None else ():
            tell(epoch)
        with preemption_notice() as notice:
            run_training(
                self.config,
                self.folder,
                tell,
                metric=self.setup.metric,
                mode=self.setup.mode,
                cpus=whole_cpus(self.setup.cpus),
                standalone=False,
                checkpoint=last or self.origin,
                launcher=launcher,
                save_soon=notice,
                saved=self.bring_away if self.mirror else None,
                keep_every=self.setup.keep_every,
                hparams=self.hparams,
            )

    @property
    def hparams(self) -> HParams:
        """Its row in TensorBoard's table: what it changes, and the searched keys that it leaves alone."""
        from otter_ray.train.hparams import HParams

        config, keys = self.config, dict.fromkeys([*self.setup.searched, *self.assignment[VALUES]])
        return HParams(self.name, {key: config.get(key) for key in keys if config.has(key)})

    def last(self) -> Path | None:
        """The trial's own last checkpoint, if there is one."""
        from otter_ray.train.callbacks import LAST

        last = self.folder / "checkpoints" / LAST
        return last if last.is_file() and self.is_own(last) else None

    @property
    def origin(self) -> Path | None:
        """Where another trial was, if it begins there."""
        name = origin_of(self.assignment)
        return self.folder.parents[1] / name if name else None

    def bring_away(self) -> None:
        """Brings what is new to where the study is kept.

        Raises:
            StudyError: it cannot be written there. Every trial would fail of it.
        """
        assert self.mirror is not None
        try:
            self.mirror.push()
        except OSError as exc:
            raise StudyError(f"{self.mirror.storage.uri} cannot be written: {exc}") from exc

    def is_own(self, checkpoint: Path) -> bool:
        """Whether the checkpoint is this trial's.

        A driver that was lost with the newest lines of its journal may have given the number to another one.
        """
        from otter_ray.train.restore import read_checkpoint

        try:
            ran_with = Config.from_dict(read_checkpoint(checkpoint)["config"])
        except TrainingError as exc:
            print(f"begins anew: {exc}")
            return False
        return all(ran_with.get(key) == value for key, value in self.assignment[VALUES].items())

    @property
    def config(self) -> Config:
        """The trial's, with where it starts from as this node sees it."""
        config = Config.from_dict(self.setup.config, self.setup.config_name)
        config = config.with_values(self.assignment[VALUES])
        # The study's copy of where its trials begin, fetched beside the trial.
        fetched = list(self.folder.parents[1].glob("restored/*.ckpt")) if self.mirror else []
        return pin_restore(config, fetched[0]) if fetched else config

    def result(self, epoch: EpochReport) -> dict[str, Any]:
        """What Tune is told of an epoch. Raises TrainingError where its metric is no number."""
        for name in (self.setup.metric, self.setup.rung_metric):
            if not math.isfinite(value := epoch.metrics[name]):
                raise TrainingError(f"{name} is {value} after epoch {epoch.epoch}: the training diverged")
        metrics = {METRICS + name: number for name, number in epoch.metrics.items()}
        value = epoch.metrics[self.setup.metric]
        return {EPOCH: epoch.epoch, self.setup.metric: value, **metrics, **self.facts}


@contextmanager
def part_of(setup: TrialSetup, assignment: Facts, started: float, trains: bool = True) -> Iterator[Part]:
    """This process's part; with a storage in a folder of this node, which lasts as long as the block.

    What it goes on from is fetched where it `trains`.
    """
    name = f"{TRIALS}/{assignment[NUMBER]:04d}"
    if setup.storage is None:
        folder = Path(setup.study) / name
        folder.mkdir(parents=True, exist_ok=True)
        yield Part(setup, assignment, started, folder, None)
        return
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as scratch:
        folder = Path(scratch) / name
        folder.mkdir(parents=True)
        if trains:
            setup.storage.get(name, folder)
            setup.storage.get("restored", Path(scratch) / "restored")
            if origin := origin_of(assignment):
                setup.storage.get(origin, Path(scratch) / origin)
        yield Part(setup, assignment, started, folder, Mirror(setup.storage, folder, name))


def push(part: Part, log: str | None = None) -> None:
    """Brings a log to where the study is kept; None: all that is new. The checkpoints are there already."""
    if part.mirror is not None:
        with suppress(OSError):
            part.mirror.push(log or "**/*")


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Everything that the trial prints goes to its own file."""
    file = path.open("a", buffering=1)
    try:
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        # What a full disk did not take is written once more here.
        with suppress(OSError):
            file.close()
