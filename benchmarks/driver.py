"""What the driver costs a trial: real searcher, scheduler, journal, progress lines, and nothing that trains.

    python benchmarks/driver.py [--trials 10000] [--then 100000] [--json FILE]

Slots are simulated: each asks for a trial, reports three epochs, and asks for the next. Each event takes the
way that Ray Tune sends it: the scheduler, the searcher, then every callback of a study. Seconds are the
driver's alone. What a trial costs after so many more is measured in a study that begins with them: they are
written into its journal at once.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from results import keep

from otter_ray.config import Config, load_config
from otter_ray.space import SearchProblem, Space, StudyOptions, load_space
from otter_ray.study.distributions import relative_search_space
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.journal import batched_writes
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.schema import CURVE, EPOCH, STOPPED, VALUES
from otter_ray.tune.cluster.planner import make_plan
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult, TrialResources
from otter_ray.tune.samplers.factory import make_sampler

EPOCHS, SLOTS = 3, 4
NEAR = 200  # trials, after those that a study begins with
METRIC = "valid_fpr@4"


class FakeTrial:
    """What of a Tune trial a study looks at."""

    num_failures = 0
    status = Trial.RUNNING

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.trial_id, self.config = name, config
        self.last_result: dict[str, Any] = {}


def drive(folder: Path, trials: int, sampler: str, done: int = 0) -> Iterator[float]:
    """Seconds of the driver for each trial, in the order in which they end.

    Args:
        done: of the trials, have ended before.
    """
    config = load_config("demo").with_values({"trainer.max_epochs": EPOCHS})
    options = StudyOptions(num_trials=trials, sampler={"name": sampler}, scheduler={"name": "ASHA"})
    space = replace(load_space("demo"), study=options)
    study_folder = StudyFolder(folder)
    (folder / "trials").mkdir()
    study = open_study(
        study_folder,
        options,
        make_sampler(options, 0, relative_search_space(SearchProblem(config, space))),
        lambda study: enqueue_first(study, SearchProblem(config, space)),
    )
    if done:
        fill(study, space, config, done)
    search = StudyContext(SearchProblem(config, space), study_folder, study)
    plan = make_plan(options, [Node(SLOTS, 0)], [], accelerator="cpu", max_epochs=EPOCHS)
    driver = StudyTuner(search, plan, ProgressReporter())
    driver.searcher.concurrency_limit = None  # there is no Ray to ask
    draw = random.Random(0)
    running: list[tuple[FakeTrial, float]] = []
    started = 0
    while True:
        while len(running) < SLOTS:
            begun = time.perf_counter()
            assignment = driver.searcher.suggest(f"t{started}")
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
        resources = TrialResources(1.0, "here")
        result = EpochResult(epoch, value, {METRIC: value}, resources).to_tune()
        is_over = driver.scheduler.on_trial_result(None, trial, result) == "STOP" or epoch == EPOCHS
        trial.last_result = {**result, "done": is_over}
        for callback in driver.callbacks:
            callback.on_trial_result(iteration=0, trials=[], trial=trial, result=trial.last_result)
        if is_over:
            driver.searcher.on_trial_complete(trial.trial_id, trial.last_result)
            driver.scheduler.on_trial_complete(None, trial, trial.last_result)
            for callback in driver.callbacks:
                callback.on_trial_complete(iteration=0, trials=[], trial=trial)
        spent += time.perf_counter() - begun
        if is_over:
            yield spent
        else:
            running.append((trial, spent))


def fill(study: optuna.Study, space: Space, config: Config, count: int) -> None:
    """Finished trials of this space, half of them stopped after the first epoch."""
    draw, at_random = random.Random(1), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    storage = at_random._storage
    with batched_writes(study):
        for number in range(count):
            # `ask` looks for one that waits among all that there are.
            drawn = optuna.Trial(at_random, storage.create_new_trial(at_random._study_id))
            values = space.suggest(drawn, config)
            epochs = 1 if number % 2 else EPOCHS
            curve = {epoch: epoch / EPOCHS * draw.random() for epoch in range(1, epochs + 1)}
            notes = {f"{CURVE}{epoch}": {EPOCH: epoch, METRIC: value} for epoch, value in curve.items()}
            notes |= {VALUES: values, "seconds": 1.0, "host": "here"}
            notes |= {STOPPED: 1} if epochs == 1 else {}
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.PRUNED if epochs == 1 else TrialState.COMPLETE,
                    value=max(curve.values()),
                    params=drawn.params,
                    distributions=drawn.distributions,
                    intermediate_values=curve,
                    user_attrs=notes,
                )
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", default="TPESampler")
    parser.add_argument("--then", type=int, nargs="*", default=[], help="sizes of studies to begin in")
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []

    def told(count: int, near: list[float]) -> None:
        rows.append({"trials": count, "ms_a_trial": 1000 * median(near), "mean_ms": 1000 * fmean(near)})
        print(json.dumps(rows[-1]), flush=True)

    costs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for cost in drive(Path(folder), arguments.trials, arguments.sampler):
            costs.append(cost)
            count = len(costs)
            if str(count).strip("0") in ("1", "2", "5") and count >= 100:
                told(count, costs[-max(20, count // 10) :])
    for size in arguments.then:
        with tempfile.TemporaryDirectory() as folder:
            told(size, [*drive(Path(folder), size, arguments.sampler, size - NEAR)])
    keep(arguments.json, "driver", {"sampler": arguments.sampler, "rows": rows})


if __name__ == "__main__":
    main()
