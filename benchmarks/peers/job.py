"""What every contestant runs: one list of trials, one way to train, one ASHA, one file of epochs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METRIC = "valid_fpr@4"
EPOCHS = "epochs.jsonl"


@dataclass(frozen=True)
class Job:
    """A search over the demo config whose trials are given. Travels to the contestants as a JSON file.

    Attributes:
        folder: of this run of it, absolute.
        sets: `KEY=VALUE` that all trials change in the demo config.
        trials: what each trial changes beyond them, by dotted key.
        slots: trials at once, one CPU each.
        max_epochs, grace_period, reduction_factor: ASHA's.
    """

    folder: str
    sets: list[str]
    trials: list[dict[str, Any]]
    slots: int = 2
    max_epochs: int = 4
    grace_period: int = 1
    reduction_factor: int = 2

    @classmethod
    def load(cls, file: str) -> Job:
        """From a file that `save` wrote."""
        return cls(**json.loads(Path(file).read_text()))

    def save(self) -> Path:
        """Writes it into its folder."""
        file = Path(self.folder) / "job.json"
        file.write_text(json.dumps(asdict(self), indent=2))
        return file

    def train(self, number: int, tell: Callable[[int, float], None]) -> None:
        """Trains a trial on one CPU; `tell(epoch, value)` after each epoch, and what it raises ends it."""
        from otter_ray.config import load_config
        from otter_ray.train.run_options import RunHooks, RunOptions
        from otter_ray.train.tracking.epoch_report import EpochReport
        from otter_ray.train.trainer import run_training

        def report(epoch: EpochReport) -> None:
            self.record(number, epoch.epoch)
            tell(epoch.epoch, epoch.metrics[METRIC])

        config = load_config("demo", self.sets).with_values(self.trials[number])
        run_training(config, self.trial_folder(number), report, RunOptions(metric=METRIC, cpus=1), RunHooks())

    def trial_folder(self, number: int) -> Path:
        """Where a trial's checkpoints and events go."""
        return Path(self.folder) / "trials" / f"{number:04d}"

    def record(self, number: int, epoch: int, at: float | None = None) -> None:
        """Appends that a trial has done an epoch: now, or at a time. One line is one write."""
        with (Path(self.folder) / EPOCHS).open("a") as file:
            file.write(json.dumps({"trial": number, "epoch": epoch, "time": at or time.time()}) + "\n")

    def epochs(self) -> list[dict[str, Any]]:
        """What was recorded."""
        return [json.loads(line) for line in (Path(self.folder) / EPOCHS).read_text().splitlines()]
