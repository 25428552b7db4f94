"""What runs in a worker slot: one trial after another.

Ray Train launches the training. With one worker it uses its local mode (`num_workers=0`): the slot itself is
the worker and stays warm for the next trial, and it reports each epoch to Ray Tune itself, because local mode
passes no report on. With several workers it starts a worker group with DDP, and the slot only waits for it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from otter_ray.config.given import give
from otter_ray.disk import disk_full_message, is_disk_full
from otter_ray.errors import OtterError, StudyError, in_one_line
from otter_ray.redaction import safe_text
from otter_ray.study.layout import CRASH, trial_checkpoints
from otter_ray.tune.messages import EpochResult, FailureKind, TrialAssignment, TrialFailure, WorkerGroup
from otter_ray.tune.ray_compat import ascii_name, quiet_local_mode, worker_exceptions
from otter_ray.tune.worker.context import TrialContext, trial_context
from otter_ray.tune.worker.setup import TrialSetup
from otter_ray.tune.worker.trial_log import log_to


def run_trial(setup: TrialSetup, config: Mapping[str, Any]) -> None:
    """Train one trial and report each epoch to Tune; a failure is reported as well, and the slot stays warm.

    The driver decides whether there is another attempt: if there is none, the report does not return. Tune
    runs a trial again whose slot, worker or node died. Both continue from the last checkpoint.

    Args:
        setup: what the study's trials share.
        config: the trial's assignment, as Tune carries it.
    """
    assignment, started = TrialAssignment.from_tune(config), time.time()
    give(setup.given)
    if setup.storage is None and not setup.sees_study:
        # Otherwise it would make a folder of its own, and its checkpoints would be nowhere.
        _report(TrialFailure(setup.unseen_message, FailureKind.STUDY))
    # The slot of a group trains nothing itself.
    trains = setup.workers == 1
    log = "log.txt" if trains else "log.driver.txt"
    try:
        with (
            trial_context(setup, assignment, started, trains) as context,
            log_to(context.folder / log),
        ):
            try:
                with context.crash_report(CRASH if trains else "crash.driver.txt"):
                    while (failure := _failure(context)) is not None:
                        _free_memory()
                        _report(failure)
            finally:
                context.upload_rest("**/*" if trains else log)
                _free_memory()
    except (OSError, StudyError) as exc:
        if is_disk_full(exc):
            place = Path(tempfile.gettempdir() if setup.storage else setup.study)
            _report(_disk_full(place, setup))
        elif isinstance(exc, StudyError):
            _report(TrialFailure(str(exc), FailureKind.STUDY))
        raise


def _report(message: EpochResult | TrialFailure) -> None:
    from ray import tune

    tune.report(message.to_tune())


def _failure(context: TrialContext) -> TrialFailure | None:
    """Train, from the last checkpoint if there is one, and return what to report if that fails.

    Raises:
        Exception: whatever it was, if this process can no longer be used.
    """
    try:
        (_launch_here if context.setup.workers == 1 else _launch_group)(context)
    except Exception as exc:
        _print_traceback()
        cause = _cause(exc)
        if cause is None:
            raise
        if is_disk_full(exc) or is_disk_full(cause):
            failure = _disk_full(context.folder, context.setup)
        else:
            failure = _described(cause)
        return replace(failure, resources=context.resources)
    return None


def _disk_full(folder: Path, setup: TrialSetup) -> TrialFailure:
    message = disk_full_message(folder, trial_checkpoints(Path(setup.study)))
    return TrialFailure(message, FailureKind.STUDY)


def _described(cause: Exception) -> TrialFailure:
    """Describe an error in one line, without secrets, and say what it means for another attempt."""
    if isinstance(cause, StudyError):
        return TrialFailure(safe_text(str(cause)), FailureKind.STUDY)
    # With the same seed and the same images a training diverges again.
    kind = FailureKind.DETERMINISTIC if isinstance(cause, OtterError) else FailureKind.ERROR
    return TrialFailure(safe_text(in_one_line(cause)), kind)


def _launch_here(context: TrialContext) -> None:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    quiet_local_mode()
    TorchTrainer(partial(context.train, _report), scaling_config=ScalingConfig(num_workers=0)).fit()


def _launch_group(context: TrialContext) -> None:
    from ray import train, tune
    from ray.train.torch import TorchConfig, TorchTrainer

    from otter_ray.tune.worker.worker_groups import GroupReporter

    setup = context.setup
    # Nothing is read back from here: a run keeps its own checkpoints.
    scratch = tempfile.mkdtemp(prefix="otter_ray_")
    run = f"{setup.config_name}-{context.assignment.number:04d}-{tune.get_context().get_trial_id()}"
    try:
        TorchTrainer(
            partial(_train_in_group, setup, context.assignment, context.started),
            scaling_config=train.ScalingConfig(
                num_workers=setup.workers, use_gpu=setup.gpus > 0, resources_per_worker=setup.worker_resources
            ),
            # NCCL refuses two processes on one GPU; gloo does not.
            torch_config=TorchConfig(backend="nccl" if setup.gpus >= 1 else "gloo"),
            run_config=train.RunConfig(
                name=ascii_name(run), storage_path=scratch, callbacks=[GroupReporter()]
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _train_in_group(setup: TrialSetup, assignment: TrialAssignment, started: float) -> None:
    """Train as one worker of a group."""
    from ray import train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment
    from ray.util import get_current_placement_group

    rank = train.get_context().get_world_rank()
    group = WorkerGroup(get_current_placement_group().id.hex()).to_tune()
    launcher = {"strategy": RayDDPStrategy(), "plugins": [RayLightningEnvironment()], "devices": 1}
    log = "log.txt" if rank == 0 else f"log.{rank}.txt"
    with trial_context(setup, assignment, started) as context, log_to(context.folder / log):
        try:
            with context.crash_report(f"crash.{rank}.txt"):
                context.train(lambda result: train.report({**result.to_tune(), **group}), launcher)
        except Exception:
            _print_traceback()
            raise
        finally:
            context.upload_rest("**/*" if rank == 0 else log)


def _cause(exc: Exception) -> Exception | None:
    """Return why the trial failed; None if the process did, and Ray is to start the trial in another one.

    That is so if a worker of a group died, or if CUDA failed: every later call in this process would fail.
    """
    import torch
    from ray.train import TrainingFailedError, WorkerGroupError

    causes: list[Exception] = [exc]
    if isinstance(exc, WorkerGroupError):
        if (raised := worker_exceptions(exc)) is None:
            return None
        # If one worker says what is wrong, the others have lost a peer.
        causes = sorted(raised, key=_is_secondary)
    return None if isinstance(causes[0], TrainingFailedError | torch.AcceleratorError) else causes[0]


def _print_traceback() -> None:
    # The log may lie on the disk that is full.
    with suppress(OSError):
        print(safe_text(traceback.format_exc()))


def _is_secondary(exc: Exception) -> bool:
    return not isinstance(exc, OtterError)


def _free_memory() -> None:
    """Give the trial's memory back to the GPU, which other slots may share."""
    import gc

    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
