"""Trials a second through real Ray actors, with training replaced by nothing, beside Ray Tune's own.

    python benchmarks/actors.py [--trials 1000] [--json FILE]

Both run the same function on two warm actors, three reports a trial. Ray Tune with its random searcher and no
scheduler keeps no journal; a study draws with TPE, prunes with ASHA and writes every report down.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from ray import tune
from results import keep

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, StudyOptions, load_space
from otter_ray.study.distributions import relative_search_space
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult, TrialResources
from otter_ray.tune.samplers.factory import make_sampler

EPOCHS, SLOTS = 3, 2
METRIC = "valid_fpr@4"


def nothing(assignment: dict[str, Any]) -> None:
    """Three reports."""
    for epoch in range(1, EPOCHS + 1):
        value = epoch / EPOCHS * random.random()
        resources = TrialResources(1.0, "here")
        tune.report(EpochResult(epoch, value, {METRIC: value}, resources).to_tune())


def of_a_study(trials: int) -> float:
    """Seconds of the search."""
    config = load_config("demo").with_values({"trainer.max_epochs": EPOCHS})
    space = dataclasses.replace(load_space("demo"), study=StudyOptions(num_trials=trials))
    with tempfile.TemporaryDirectory() as path:
        folder = StudyFolder(Path(path))
        study = open_study(
            folder,
            space.study,
            make_sampler(space.study, 0, relative_search_space(SearchProblem(config, space))),
            lambda study: enqueue_first(study, SearchProblem(config, space)),
        )
        plan = plan_for(SearchProblem(config, space), [Node(SLOTS, 0)], [])
        begun = time.perf_counter()
        context = StudyContext(SearchProblem(config, space), folder, study)
        StudyTuner(context, plan, ProgressReporter()).run(nothing)
        seconds = time.perf_counter() - begun
        if (ended := sum(trial.state.is_finished() for trial in study.trials)) != trials:
            raise SystemExit(f"{ended} of {trials} trials ended")
    return seconds


def of_tune(trials: int) -> float:
    """Seconds of `Tuner.fit`."""
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            nothing,
            param_space={"lr": tune.loguniform(1e-4, 1e-2), "m": tune.uniform(0, 0.5)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        begun = time.perf_counter()
        results = tuner.fit()
        seconds = time.perf_counter() - begun
        if results.num_terminated != trials:
            raise SystemExit(f"{results.num_terminated} of {trials} trials ended")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    ways = {"a study": of_a_study, "Ray Tune, random": of_tune}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with RaySession().start():
        of_tune(SLOTS)  # the first actors of a Ray take longer
        for _ in range(arguments.repetitions):
            for way, run in ways.items():
                rates[way].append(arguments.trials / run(arguments.trials))
                print(json.dumps({"way": way, "trials_per_s": round(rates[way][-1], 2)}), flush=True)
    figures = {
        way: {"median": median(found), "spread": [min(found), max(found)]} for way, found in rates.items()
    }
    keep(arguments.json, "actors", {"trials": arguments.trials, "trials_per_s": figures})


if __name__ == "__main__":
    main()
