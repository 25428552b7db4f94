"""What runs in a slot: one trial after another, in one warm process.

Ray Train launches the training (its local mode, `num_workers=0`: the slot itself is the worker), Ray
Tune is told of each epoch directly, because local mode passes no report on.
"""

from __future__ import annotations

import math
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otter_ray.config import Config, redacted
from otter_ray.errors import OtterError, TrainingError
from otter_ray.tune.gpu import keep_to_share, used_memory
from otter_ray.tune.keys import EPOCH, ERROR, METRICS, NUMBER, VALUES
from otter_ray.tune.names import show_as, trial_name


@dataclass(frozen=True)
class TrialSetup:
    """What every trial of a study shares. Plain data: it travels to the slots."""

    config: dict[str, Any]
    config_name: str
    trials: str
    metric: str
    mode: str
    cpus: int
    gpus: float
    cwd: str


def run_trial(setup: TrialSetup, assignment: Mapping[str, Any]) -> None:
    """Trains one trial and reports each epoch to Tune. A failure is reported, too: the slot stays warm."""
    from ray import tune

    name = trial_name(setup.config_name, assignment)
    show_as(name)
    started = time.perf_counter()
    folder = Path(setup.trials) / f"{assignment[NUMBER]:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()

    def report(facts: Mapping[str, Any]) -> None:
        tune.report({**facts, **used_memory(), "seconds": time.perf_counter() - started, "host": host})
        # Ray renames the process at each report.
        show_as(name)

    with _log_to(folder / "log.txt"):
        try:
            # Paths in the config are relative to where the study was started.
            os.chdir(setup.cwd)
            keep_to_share(setup.gpus)
            _launch(setup, assignment, folder, report)
        except Exception as exc:
            print(redacted(traceback.format_exc()))
            if _is_beyond_repair(exc):
                raise
            message = str(exc) if isinstance(exc, OtterError) else f"{type(exc).__name__}: {exc}"
            report({ERROR: redacted(message.splitlines()[0] if message else type(exc).__name__)})
        finally:
            _free_memory()


def _is_beyond_repair(exc: Exception) -> bool:
    """Whether CUDA itself failed: every later call in this process would, so Ray is to replace it."""
    import torch

    return isinstance(exc, torch.AcceleratorError)


def _free_memory() -> None:
    """Gives the trial's memory back to the GPU, which other slots may share."""
    import gc

    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def _launch(setup: TrialSetup, assignment: Mapping[str, Any], folder: Path, report: Any) -> None:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def train_loop() -> None:
        from otter_ray.train.report import EpochReport
        from otter_ray.train.run import run_training

        def pass_on(epoch: EpochReport) -> None:
            value = epoch.metrics[setup.metric]
            if not math.isfinite(value):
                raise TrainingError(
                    f"{setup.metric} is {value} after epoch {epoch.epoch}: the training diverged"
                )
            metrics = {METRICS + name: number for name, number in epoch.metrics.items()}
            report({EPOCH: epoch.epoch, setup.metric: value, **metrics})

        run_training(
            Config.from_dict(setup.config, setup.config_name).with_values(assignment[VALUES]),
            folder,
            pass_on,
            metric=setup.metric,
            mode=setup.mode,
            cpus=setup.cpus,
            standalone=False,
        )

    TorchTrainer(train_loop, scaling_config=ScalingConfig(num_workers=0)).fit()


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Everything that the trial prints goes to its own file."""
    with path.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        yield
