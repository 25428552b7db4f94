"""What the driver costs a trial: real searcher, scheduler, journal, progress lines, and nothing that trains.

    python benchmarks/driver.py [--trials 10000]

Slots are simulated: each asks for a trial, reports three epochs, and asks for the next. Each event takes the
way that Ray Tune sends it: the scheduler, the searcher, then every callback of a study. Seconds are the
driver's alone.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console

from otter_ray.config import StudyOptions, load_config, load_space
from otter_ray.tune.distributions import searched_together
from otter_ray.tune.driver import make_driver
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.plan import Node, make_plan
from otter_ray.tune.run import Search

EPOCHS, SLOTS = 3, 4
METRIC = "valid_fpr@4"


class FakeTrial:
    """What of a Tune trial a study looks at."""

    num_failures = 0
    status = Trial.RUNNING

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.trial_id, self.config = name, config
        self.last_result: dict[str, Any] = {}


def drive(folder: Path, trials: int, sampler: str) -> Iterator[float]:
    """Seconds of the driver for each trial, in the order in which they end."""
    config = load_config("demo").with_values({"trainer.max_epochs": EPOCHS})
    options = StudyOptions(num_trials=trials, sampler={"name": sampler}, scheduler={"name": "ASHA"})
    space = replace(load_space("demo"), study=options)
    study_folder = StudyFolder(folder)
    (folder / "trials").mkdir()
    study = open_study(
        study_folder,
        options,
        0,
        lambda study: enqueue_first(study, config, space),
        searched_together(space, config),
    )
    search = Search(config, space, study_folder, study)
    plan = make_plan(options, [Node(SLOTS, 0)], [], accelerator="cpu", max_epochs=EPOCHS)
    driver = make_driver(search, plan, Console(file=io.StringIO(), width=120))
    driver.bridge.limit = None  # there is no Ray to ask
    draw = random.Random(0)
    running: list[tuple[FakeTrial, float]] = []
    started = 0
    while True:
        while len(running) < SLOTS:
            begun = time.perf_counter()
            assignment = driver.bridge.suggest(f"t{started}")
            if not isinstance(assignment, dict):
                break
            trial = FakeTrial(f"t{started}", assignment)
            started += 1
            driver.scheduler.on_trial_add(None, trial)
            for callback in driver.callbacks:
                callback.on_trial_start(iteration=0, trials=[], trial=trial)
            running.append((trial, time.perf_counter() - begun))
        if not running:
            return
        trial, spent = running.pop(0)
        begun = time.perf_counter()
        epoch = trial.last_result.get("epoch", 0) + 1
        value = epoch / EPOCHS * draw.random()
        result = {"epoch": epoch, METRIC: value, f"metrics/{METRIC}": value, "seconds": 1.0, "host": "here"}
        is_over = driver.scheduler.on_trial_result(None, trial, result) == "STOP" or epoch == EPOCHS
        trial.last_result = {**result, "done": is_over}
        for callback in driver.callbacks:
            callback.on_trial_result(iteration=0, trials=[], trial=trial, result=trial.last_result)
        if is_over:
            driver.bridge.on_trial_complete(trial.trial_id, trial.last_result)
            driver.scheduler.on_trial_complete(None, trial, trial.last_result)
            for callback in driver.callbacks:
                callback.on_trial_complete(iteration=0, trials=[], trial=trial)
        spent += time.perf_counter() - begun
        if is_over:
            yield spent
        else:
            running.append((trial, spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", default="TPESampler")
    arguments = parser.parse_args()
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for cost in drive(Path(folder), arguments.trials, arguments.sampler):
            costs.append(cost)
            count = len(costs)
            if str(count).strip("0") in ("1", "2", "5") and count >= 100:
                near = costs[-max(20, count // 10) :]
                print(
                    json.dumps(
                        {"trials": count, "ms_a_trial": round(1000 * sum(near) / len(near), 3),
                         "seconds_so_far": round(sum(costs), 1)}
                    ), flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
