"""A study's wall time against its lower bound.

    python benchmarks/study_overhead.py [--trials 24] [--slots 2]

The bound: one import for each slot (they import side by side), and the epochs that were really run, each at
the time that one epoch takes alone on one CPU, divided by the slots. What lies above it is ours: starting
Ray, checking, reports, checkpoints, the reset between trials, slots that wait for the last trial.

All three figures come from one run of this script, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

SETS = {
    "common.batch_size": 32,
    "trainer.max_epochs": 4,
    "dataset.train_options.options.length_of_dataset": 448,
    "dataset.valid_options.options.captures": 12,
}
IMPORTS = "import otter_ray.docclassifier, otter_ray.train.run, ray.tune, ray.train.torch"


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def lone_epoch() -> float:
    """Median seconds of an epoch, validation and checkpoint included, alone on one thread."""
    from otter_ray.config import load_config
    from otter_ray.train.run import run_training

    marks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = load_config("demo").with_values({**SETS, "trainer.max_epochs": 8})
        run_training(
            config, Path(folder), lambda epoch: marks.append(epoch.seconds), cpus=1, standalone=False
        )
    return median(later - earlier for earlier, later in pairwise(marks))


def study(trials: int, folder: Path) -> tuple[float, float, int]:
    """(seconds of the whole command, seconds up to the last trial's end, epochs run)."""
    import optuna

    from otter_ray.report.rows import open_journal

    sets = [part for key, value in SETS.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "otter_ray.tune", "demo", "--trials", str(trials)]
    started = time.time()
    subprocess.run(
        [*command, "--runs", str(folder), "--name", "bench", *sets], check=True, stdout=subprocess.DEVNULL
    )
    whole = time.time() - started
    storage = open_journal(folder / "demo/bench/study.journal")
    ended = optuna.load_study(study_name="bench", storage=storage).trials
    last = max(trial.datetime_complete.timestamp() for trial in ended if trial.datetime_complete)
    return whole, last - started, sum(trial.last_step or 0 for trial in ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--slots", type=int, default=2, help="that this machine gives: its CPUs")
    arguments = parser.parse_args()
    seconds([sys.executable, "-c", IMPORTS])  # once for the disk's cache
    one_import = seconds([sys.executable, "-c", IMPORTS])
    epoch = lone_epoch()
    with tempfile.TemporaryDirectory() as folder:
        whole, search, epochs = study(arguments.trials, Path(folder))
    bound = one_import + epochs * epoch / arguments.slots
    figures = {
        "trials": arguments.trials, "slots": arguments.slots, "epochs": epochs,
        "one_import_s": one_import, "lone_epoch_s": epoch, "bound_s": bound,
        "search_s": search, "search_ratio": search / bound,
        "command_s": whole, "command_ratio": whole / bound,
    }  # fmt: skip
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
