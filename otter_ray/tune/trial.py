"""What runs in a slot: one trial after another.

Ray Train launches the training. One worker: in its local mode (`num_workers=0`: the slot itself is the
worker, and stays warm for the next trial), where Ray Tune is told of each epoch directly, because local mode
passes no report on. Several workers: as a worker group with DDP, and the slot only waits for it.
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.config import Config, redacted
from otter_ray.errors import OtterError, TrainingError
from otter_ray.train.restore import pin_restore
from otter_ray.tune.gpu import keep_to_share, used_memory
from otter_ray.tune.keys import EPOCH, ERROR, GROUP, METRICS, NUMBER, VALUES
from otter_ray.tune.names import show_as, trial_name
from otter_ray.tune.plan import DRIVER, whole_cpus
from otter_ray.tune.preemption import preemption_notice
from otter_ray.tune.storage import TRIALS, Mirror, Storage

if TYPE_CHECKING:
    from otter_ray.train.report import EpochReport

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TrialSetup:
    """What every trial of a study shares. Plain data: it travels to the slots.

    Attributes:
        study: the study's folder.
        storage: where the study is kept beside it, so that the nodes need not see that folder.
        workers: of a trial.
        cpus, gpus: of each worker.
        cwd: where the study was started.
    """

    config: dict[str, Any]
    config_name: str
    study: str
    storage: Storage | None
    metric: str
    mode: str
    workers: int
    cpus: float
    gpus: float
    cwd: str

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


def run_trial(setup: TrialSetup, assignment: Facts) -> None:
    """Trains one trial and reports each epoch to Tune. A failure is reported, too: the slot stays warm.

    A trial whose slot, worker or node died is run again by Tune, and goes on from its last checkpoint.
    """
    from ray import tune

    with _part(setup, assignment, time.time()) as part, _log_to(part.folder / "log.txt"):
        try:
            (_launch_here if setup.workers == 1 else _launch_group)(part)
        except Exception as exc:
            print(redacted(traceback.format_exc()))
            cause = _cause(exc)
            if cause is None:
                raise
            message = str(cause) if isinstance(cause, OtterError) else f"{type(cause).__name__}: {cause}"
            error = message.splitlines()[0] if message else type(cause).__name__
            tune.report({**part.facts, ERROR: redacted(error)})
        finally:
            if setup.workers == 1:
                _push(part)
            _free_memory()


@dataclass(frozen=True)
class _Part:
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
        return trial_name(self.setup.config_name, self.assignment)

    @property
    def facts(self) -> dict[str, Any]:
        return {**used_memory(), "seconds": time.time() - self.started, "host": socket.gethostname()}

    def train(self, report: Callable[[Facts], None], launcher: Facts | None = None) -> None:
        """Trains, from the trial's last checkpoint where there is one."""
        from otter_ray.train.callbacks import LAST, last_report
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
        last = self.folder / "checkpoints" / LAST
        checkpoint = last if last.is_file() else None
        if checkpoint is not None and (reported := last_report(checkpoint)):
            # The slot may have died between saving and telling; who has heard it once does not mind.
            tell(reported)
        with preemption_notice() as notice:
            run_training(
                self.config,
                self.folder,
                tell,
                metric=self.setup.metric,
                mode=self.setup.mode,
                cpus=whole_cpus(self.setup.cpus),
                standalone=False,
                checkpoint=checkpoint,
                launcher=launcher,
                save_soon=notice,
                saved=self.mirror.push if self.mirror else None,
            )

    @property
    def config(self) -> Config:
        config = Config.from_dict(self.setup.config, self.setup.config_name)
        config = config.with_values(self.assignment[VALUES])
        # The study's copy of where its trials begin, fetched beside the trial.
        fetched = list(self.folder.parents[1].glob("restored/*.ckpt")) if self.mirror else []
        return pin_restore(config, fetched[0]) if fetched else config

    def result(self, epoch: EpochReport) -> dict[str, Any]:
        """What Tune is told of an epoch. Raises TrainingError where its metric is no number."""
        value = epoch.metrics[self.setup.metric]
        if not math.isfinite(value):
            raise TrainingError(
                f"{self.setup.metric} is {value} after epoch {epoch.epoch}: the training diverged"
            )
        metrics = {METRICS + name: number for name, number in epoch.metrics.items()}
        return {EPOCH: epoch.epoch, self.setup.metric: value, **metrics, **self.facts}


@contextmanager
def _part(setup: TrialSetup, assignment: Facts, started: float) -> Iterator[_Part]:
    """This process's part; with a storage in a folder of this node, which lasts as long as the block."""
    name = f"{TRIALS}/{assignment[NUMBER]:04d}"
    if setup.storage is None:
        folder = Path(setup.study) / name
        folder.mkdir(parents=True, exist_ok=True)
        yield _Part(setup, assignment, started, folder, None)
        return
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as scratch:
        folder = Path(scratch) / name
        folder.mkdir(parents=True)
        setup.storage.get(name, folder)
        setup.storage.get("restored", Path(scratch) / "restored")
        yield _Part(setup, assignment, started, folder, Mirror(setup.storage, folder, name))


def _launch_here(part: _Part) -> None:
    from ray import tune
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(partial(part.train, tune.report), scaling_config=ScalingConfig(num_workers=0)).fit()


def _launch_group(part: _Part) -> None:
    from ray import train, tune
    from ray.train.torch import TorchConfig, TorchTrainer

    from otter_ray.tune.groups import GroupReporter

    setup = part.setup
    # Nothing is read back from here: a run keeps its own checkpoints.
    scratch = tempfile.mkdtemp(prefix="otter_ray_")
    name = f"{setup.config_name}-{part.assignment[NUMBER]:04d}-{tune.get_context().get_trial_id()}"
    try:
        TorchTrainer(
            partial(_train_in_group, setup, part.assignment, part.started),
            scaling_config=train.ScalingConfig(
                num_workers=setup.workers, use_gpu=setup.gpus > 0, resources_per_worker=setup.worker
            ),
            # NCCL refuses two processes on one GPU; gloo does not.
            torch_config=TorchConfig(backend="nccl" if setup.gpus >= 1 else "gloo"),
            run_config=train.RunConfig(name=name, storage_path=scratch, callbacks=[GroupReporter()]),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _train_in_group(setup: TrialSetup, assignment: Facts, started: float) -> None:
    """What each worker of a group does."""
    from ray import train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment
    from ray.util import get_current_placement_group

    rank = train.get_context().get_world_rank()
    group = get_current_placement_group().id.hex()
    launcher = {"strategy": RayDDPStrategy(), "plugins": [RayLightningEnvironment()], "devices": 1}
    log = "log.txt" if rank == 0 else f"log.{rank}.txt"
    with _part(setup, assignment, started) as part, _log_to(part.folder / log):
        try:
            part.train(lambda facts: train.report({**facts, GROUP: group}), launcher)
        except Exception:
            print(redacted(traceback.format_exc()))
            raise
        finally:
            if rank == 0:
                _push(part)


def _cause(exc: Exception) -> Exception | None:
    """What the trial failed of. None: the process did, and Ray is to start the trial again in another.

    A worker of a group died, or CUDA failed: every later call in this process would.
    """
    import torch
    from ray.train import TrainingFailedError, WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    causes: list[Exception] = [exc]
    if isinstance(exc, WorkerGroupError):
        failures = [failure for _, failure in sorted(exc.worker_failures.items())]
        if not all(isinstance(failure, UserExceptionWithTraceback) for failure in failures):
            return None
        # Where one worker says what is wrong, the others have lost a peer.
        causes = sorted((failure._base_exc for failure in failures), key=_is_secondary)
    return None if isinstance(causes[0], TrainingFailedError | torch.AcceleratorError) else causes[0]


def _push(part: _Part) -> None:
    """Brings the log to where the study is kept; the checkpoints are there already."""
    if part.mirror is not None:
        with suppress(OSError):
            part.mirror.push()


def _is_secondary(exc: Exception) -> bool:
    return not isinstance(exc, OtterError)


def _free_memory() -> None:
    """Gives the trial's memory back to the GPU, which other slots may share."""
    import gc

    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Everything that the trial prints goes to its own file."""
    with path.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        yield
