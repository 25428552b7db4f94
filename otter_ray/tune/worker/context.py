"""A trial as one process sees it: its folder, the checkpoint that it continues from, and what it reports."""

from __future__ import annotations

import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.checkpoints import last_checkpoint_of
from otter_ray.config import Config
from otter_ray.errors import StudyError, TrainingError
from otter_ray.study.crash_report import crash_report
from otter_ray.study.layout import RESTORED, trial_folder
from otter_ray.study.naming import group_name, trial_name
from otter_ray.study.storage import FolderUploader
from otter_ray.tune.cluster.resources import whole_cpus
from otter_ray.tune.messages import EpochResult, TrialAssignment, TrialResources
from otter_ray.tune.worker.gpu_memory import keep_to_share, used_memory
from otter_ray.tune.worker.preemption import preemption_notice
from otter_ray.tune.worker.process_title import show_as
from otter_ray.tune.worker.setup import TrialSetup

if TYPE_CHECKING:
    from otter_ray.train.tracking.epoch_report import EpochReport
    from otter_ray.train.tracking.tensorboard_hparams import HParams


@dataclass(frozen=True)
class TrialContext:
    """A trial as one process sees it: the only one, or one of a worker group.

    Attributes:
        setup: what it shares with the study's other trials.
        assignment: its number, and what it changes in the base config.
        started: when it began, in seconds.
        folder: the trial's, as this process sees it.
        uploader: what copies the folder to the study's storage, if it has one.
    """

    setup: TrialSetup
    assignment: TrialAssignment
    started: float
    folder: Path
    uploader: FolderUploader | None

    @property
    def name(self) -> str:
        """The trial's name, for people."""
        return trial_name(self.setup.config_name, self.assignment.number, self.assignment.values)

    @property
    def resources(self) -> TrialResources:
        """What the trial has used so far."""
        return TrialResources(time.time() - self.started, socket.gethostname(), used_memory())

    @cached_property
    def config(self) -> Config:
        """The trial's config, with the checkpoint that it restores from as this node sees it."""
        from otter_ray.train.checkpoint.restore import pin_restore

        config = Config.from_dict(self.setup.config, self.setup.config_name)
        config = config.with_values(self.assignment.values)
        # The study's copy of where its trials begin, fetched next to the trial.
        fetched = list(self.folder.parents[1].glob("restored/*.ckpt")) if self.uploader else []
        return pin_restore(config, fetched[0]) if fetched else config

    @property
    def hparams(self) -> HParams:
        """What its loggers say of it: what it changes, and the searched keys that it does not."""
        from otter_ray.train.tracking.tensorboard_hparams import HParams

        keys = dict.fromkeys([*self.setup.searched, *self.assignment.values])
        group = group_name(self.setup.config_name, Path(self.setup.study))
        return HParams(self.name, group, {key: self.config.get(key) for key in keys if self.config.has(key)})

    @property
    def last_checkpoint(self) -> Path | None:
        """The trial's own last checkpoint, if there is one."""
        last = last_checkpoint_of(self.folder)
        return last if last.is_file() and self.owns(last) else None

    @property
    def parent_checkpoint(self) -> Path | None:
        """The checkpoint of another trial that this one starts from, if it does."""
        parent = self.assignment.parent
        return self.folder.parents[1] / parent.path if parent else None

    def train(self, report: Callable[[EpochResult], None], launcher: Mapping[str, Any] | None = None) -> None:
        """Train, from the trial's last checkpoint if there is one.

        Args:
            report: is given each epoch's result.
            launcher: arguments of Lightning's Trainer, if several processes train together.
        """
        from otter_ray.train.callbacks import reports_so_far
        from otter_ray.train.run_options import RunHooks, RunOptions
        from otter_ray.train.trainer import run_training

        def report_epoch(epoch: EpochReport) -> None:
            report(self.result(epoch))
            # Ray renames the process at each report.
            show_as(self.name)

        show_as(self.name)
        keep_to_share(self.setup.gpus)
        # Paths in the config are relative to where the study was started, on nodes that have that folder.
        with suppress(FileNotFoundError):
            os.chdir(self.setup.cwd)
        last = self.last_checkpoint
        # The slot may have died between saving and reporting, and a group trains on meanwhile.
        # All epochs are reported once more; the driver ignores those that it knows.
        for epoch in reports_so_far(last) if last is not None else ():
            report_epoch(epoch)
        with preemption_notice() as notice:
            run_training(
                self.config,
                self.folder,
                report_epoch,
                RunOptions(
                    metric=self.setup.metric,
                    direction=self.setup.direction,
                    cpus=whole_cpus(self.setup.cpus),
                    checkpoint=last or self.parent_checkpoint,
                    launcher=launcher,
                ),
                RunHooks(
                    save_soon=notice,
                    saved=self.upload_checkpoint if self.uploader else None,
                    keep_every=self.setup.keep_every,
                    hparams=self.hparams,
                ),
            )

    def result(self, epoch: EpochReport) -> EpochResult:
        """Return what the driver is told of an epoch.

        Raises:
            TrainingError: a metric that the study decides by is not a finite number.
        """
        for name in (self.setup.metric, self.setup.rung_metric):
            if not math.isfinite(value := epoch.metrics[name]):
                raise TrainingError(f"{name} is {value} after epoch {epoch.epoch}: the training diverged")
        return EpochResult(epoch.epoch, epoch.metrics[self.setup.metric], epoch.metrics, self.resources)

    def owns(self, checkpoint: Path) -> bool:
        """Return whether a checkpoint is this trial's.

        A driver that was lost with the newest lines of its journal may have given the number to another
        trial.
        """
        from otter_ray.train.checkpoint.checkpoint_io import read_checkpoint

        try:
            ran_with = Config.from_dict(read_checkpoint(checkpoint)["config"])
        except TrainingError as exc:
            print(f"this trial starts from scratch, because its last checkpoint cannot be read: {exc}")
            return False
        return all(ran_with.get(key) == value for key, value in self.assignment.values.items())

    def upload_checkpoint(self) -> None:
        """Copy what is new to the study's storage.

        Raises:
            StudyError: the storage cannot be written. Every trial would fail for that reason.
        """
        assert self.uploader is not None
        try:
            self.uploader.push()
        except OSError as exc:
            raise StudyError(f"{self.uploader.storage.uri} cannot be written: {exc}") from exc

    @contextmanager
    def crash_report(self, name: str) -> Iterator[None]:
        """Have written what was running if a signal ends this process in the block.

        With a storage the folder of this node goes with the process, so that is written to the study's
        folder, if this node sees it.

        Args:
            name: of the file.
        """
        is_apart = self.uploader is not None and self.setup.sees_study
        folder = Path(self.setup.study) / trial_folder(self.assignment.number) if is_apart else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with crash_report(folder / name):
                yield
        finally:
            if is_apart:
                with suppress(OSError):  # it holds another worker's
                    folder.rmdir()

    def upload_rest(self, pattern: str = "**/*") -> None:
        """Copy files to the study's storage if that is possible; the checkpoints are there already.

        Args:
            pattern: of the files.
        """
        if self.uploader is not None:
            with suppress(OSError):
                self.uploader.push(pattern)


@contextmanager
def trial_context(
    setup: TrialSetup, assignment: TrialAssignment, started: float, trains: bool = True
) -> Iterator[TrialContext]:
    """Open a trial in this process.

    If the study has a storage, the trial's folder is one of this node, which lasts as long as the block.

    Args:
        setup: what the study's trials share.
        assignment: the trial's number and values.
        started: when the trial began, in seconds.
        trains: whether this process trains; then what the trial continues from is fetched.
    """
    name = trial_folder(assignment.number)
    if setup.storage is None:
        folder = Path(setup.study) / name
        folder.mkdir(parents=True, exist_ok=True)
        yield TrialContext(setup, assignment, started, folder, None)
        return
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as scratch:
        folder = Path(scratch) / name
        folder.mkdir(parents=True)
        if trains:
            setup.storage.get(name, folder)
            setup.storage.get(RESTORED, Path(scratch) / RESTORED)
            if parent := assignment.parent:
                setup.storage.get(parent.path, Path(scratch) / parent.path)
        yield TrialContext(setup, assignment, started, folder, FolderUploader(setup.storage, folder, name))
