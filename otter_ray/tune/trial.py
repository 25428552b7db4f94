"""What runs in a slot: one trial after another.

Ray Train launches the training. One worker: in its local mode (`num_workers=0`: the slot itself is the
worker, and stays warm for the next trial), where Ray Tune is told of each epoch directly, because local mode
passes no report on. Several workers: as a worker group with DDP, and the slot only waits for it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from otter_ray.config import redacted
from otter_ray.errors import OtterError, StudyError, is_full
from otter_ray.tune.keys import ERROR, FAULT, FINAL, GROUP, NUMBER
from otter_ray.tune.part import Facts, Part, TrialSetup, log_to, part_of, push, sees_study, unseen
from otter_ray.tune.room import no_room


def run_trial(setup: TrialSetup, assignment: Facts) -> None:
    """Trains one trial and reports each epoch to Tune. A failure is reported, too: the slot stays warm.

    Whether there is another attempt is the driver's to say: where there is none, the report does not return.
    A trial whose slot, worker or node died is run again by Tune. Either goes on from the last checkpoint.
    """
    from ray import tune

    started = time.time()
    if setup.storage is None and not sees_study(setup):
        # Else it would make a folder of its own, and its checkpoints would be nowhere.
        tune.report({ERROR: unseen(setup), FAULT: True})
    # The slot of a group trains nothing itself.
    trains = setup.workers == 1
    log = "log.txt" if trains else "log.driver.txt"
    try:
        with part_of(setup, assignment, started, trains) as part, log_to(part.folder / log):
            try:
                while (failure := _failure(part)) is not None:
                    _free_memory()
                    tune.report(failure)
            finally:
                push(part, None if trains else log)
                _free_memory()
    except (OSError, StudyError) as exc:
        if is_full(exc):
            place = Path(tempfile.gettempdir() if setup.storage else setup.study)
            tune.report({ERROR: no_room(place, Path(setup.study)), FAULT: True})
        elif isinstance(exc, StudyError):
            tune.report({ERROR: str(exc), FAULT: True})
        raise


def _failure(part: Part) -> dict[str, Any] | None:
    """Trains, from the last checkpoint where there is one; gives what to report if that fails.

    Raises whatever it was where this process is of no use any more.
    """
    try:
        (_launch_here if part.setup.workers == 1 else _launch_group)(part)
    except Exception as exc:
        _print_traceback()
        cause = _cause(exc)
        if cause is None:
            raise
        if is_full(exc) or is_full(cause):
            return {**part.facts, ERROR: no_room(part.folder, Path(part.setup.study)), FAULT: True}
        if isinstance(cause, StudyError):
            return {**part.facts, ERROR: str(cause), FAULT: True}
        message = str(cause) if isinstance(cause, OtterError) else f"{type(cause).__name__}: {cause}"
        error = message.splitlines()[0] if message else type(cause).__name__
        # With the same seed and the same images a training diverges again.
        return {**part.facts, ERROR: redacted(error), FINAL: isinstance(cause, OtterError)}
    return None


def _launch_here(part: Part) -> None:
    from ray import tune
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(partial(part.train, tune.report), scaling_config=ScalingConfig(num_workers=0)).fit()


def _launch_group(part: Part) -> None:
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
    with part_of(setup, assignment, started) as part, log_to(part.folder / log):
        try:
            part.train(lambda facts: train.report({**facts, GROUP: group}), launcher)
        except Exception:
            _print_traceback()
            raise
        finally:
            push(part, None if rank == 0 else log)


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


def _print_traceback() -> None:
    # The log may lie on the disk that is full.
    with suppress(OSError):
        print(redacted(traceback.format_exc()))


def _is_secondary(exc: Exception) -> bool:
    return not isinstance(exc, OtterError)


def _free_memory() -> None:
    """Gives the trial's memory back to the GPU, which other slots may share."""
    import gc

    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
