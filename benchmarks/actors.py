"""Trials a second through real Ray actors, with training replaced by nothing, beside Ray Tune's own.

    python benchmarks/actors.py [--trials 1000] [--json FILE]

Both run the same function on two warm actors, three reports a trial. Ray Tune with its random searcher and no
scheduler keeps no journal; a study draws with TPE, prunes with ASHA and writes every report down.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from ray import tune
from results import keep
from rich.console import Console

from otter_ray.config import StudyOptions, load_config, load_space
from otter_ray.tune.distributions import searched_together
from otter_ray.tune.driver import run_trainable
from otter_ray.tune.dry_run import plan_for
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.plan import Node
from otter_ray.tune.run import Search
from otter_ray.tune.session import ray_session
from otter_ray.tune.show import Lines

EPOCHS, SLOTS = 3, 2
METRIC = "valid_fpr@4"


def nothing(assignment: dict[str, Any]) -> None:
    """Three reports."""
    for epoch in range(1, EPOCHS + 1):
        value = epoch / EPOCHS * random.random()
        facts = {"epoch": epoch, METRIC: value, f"metrics/{METRIC}": value, "seconds": 1.0, "host": "here"}
        tune.report(facts)


def of_a_study(trials: int) -> float:
    """Seconds of the search."""
    config = load_config("demo").with_values({"trainer.max_epochs": EPOCHS})
    space = dataclasses.replace(load_space("demo"), study=StudyOptions(num_trials=trials))
    with tempfile.TemporaryDirectory() as path:
        folder = StudyFolder(Path(path))
        study = open_study(
            folder,
            space.study,
            0,
            lambda study: enqueue_first(study, config, space),
            searched_together(space, config),
        )
        plan = plan_for(config, space, [Node(SLOTS, 0)], [])
        begun = time.perf_counter()
        run_trainable(nothing, Search(config, space, folder, study), plan, Lines(Console(file=io.StringIO())))
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
    with ray_session(None):
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
