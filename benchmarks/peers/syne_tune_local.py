"""Syne Tune's local backend, a process for each trial, with its ASHA.

    python syne_tune_local.py JOB [--sleep 5]    the search
    python syne_tune_local.py --job JOB --number 3    a trial, as the backend starts it

`--sleep`: seconds between two looks at the trials, 5 where Syne Tune is told nothing.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from job import Job

VALUE = "value"  # what the metric is called where keys become options of a command


def train(file: str, number: int) -> None:
    from syne_tune import Reporter

    report = Reporter()
    Job.load(file).train(number, lambda epoch, value: report(**{"epoch": epoch, VALUE: value}))


def search(file: str, sleep: float) -> None:
    job = Job.load(file)
    os.environ["SYNETUNE_FOLDER"] = f"{job.folder}/syne-tune"
    from syne_tune import Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import randint
    from syne_tune.optimizer.baselines import ASHA

    class Listed(ASHA):
        """Ends with the list; Syne Tune's own criteria look once a round, when two trials may be too many."""

        left = len(job.trials)

        def suggest(self) -> Any:
            self.left -= 1
            return super().suggest() if self.left >= 0 else None

    numbers = range(len(job.trials))
    scheduler = Listed(
        {"number": randint(0, numbers[-1]), "job": file},
        metric=VALUE,
        do_minimize=False,
        time_attr="epoch",
        max_t=job.max_epochs,
        grace_period=job.grace_period,
        reduction_factor=job.reduction_factor,
        points_to_evaluate=[{"number": number} for number in numbers],
        random_seed=0,
    )
    Tuner(
        trial_backend=LocalBackend(entry_point=str(Path(__file__).absolute())),
        scheduler=scheduler,
        stop_criterion=lambda status: False,
        n_workers=job.slots,
        sleep_time=sleep,
        max_failures=0,
        tuner_name="peer",
    ).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?")
    parser.add_argument("--job")
    parser.add_argument("--number", type=int)
    parser.add_argument("--sleep", type=float, default=5)
    arguments, _ = parser.parse_known_args()
    if arguments.number is not None:
        train(arguments.job, arguments.number)
    else:
        search(arguments.file, arguments.sleep)
