"""The same study on 1, 2 and 4 nodes: how much of each slot that is added reaches the wall time.

    python benchmarks/nodes.py [--trials 24] [--epoch 10] [--json FILE]

Real Ray nodes of two slots each, on this machine; the searcher, the scheduler and the limit of a study.
Trials sleep for four epochs: two cores cannot train on eight slots. Wall time is from the start of the search
to its end, the start of the slots included.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray.cluster_utils import Cluster
from results import keep

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, StudyOptions, load_space
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.tune.cluster.nodes import living_members
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult

NODE = {"num_cpus": 2, "object_store_memory": 10**8}
EPOCHS = 4


def sleeper(seconds: float, assignment: dict[str, Any]) -> None:
    from ray import tune

    for epoch in range(1, EPOCHS + 1):
        time.sleep(seconds)
        tune.report(EpochResult(epoch, 0.5, {"valid_fpr@4": 0.5}).to_tune())


def wall_time(nodes: int, trials: int, seconds: float) -> tuple[int, float]:
    """(slots, seconds of the search)."""
    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(nodes):
            cluster.add_node(**NODE)
        with RaySession(cluster.address).start():
            return _search(trials, seconds)
    finally:
        cluster.shutdown()


def _search(trials: int, seconds: float) -> tuple[int, float]:
    config = load_config("demo").with_values({"trainer.max_epochs": EPOCHS})
    options = StudyOptions(scheduler={"name": "none"}, num_trials=trials)
    space = dataclasses.replace(load_space("demo"), study=options)
    plan = plan_for(SearchProblem(config, space), [member.node for member in living_members()], [])
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    enqueue_first(study, SearchProblem(config, space))
    search = StudyContext(SearchProblem(config, space), StudyFolder(Path("nodes")), study)
    started = time.perf_counter()
    StudyTuner(search, plan, ProgressReporter()).run(partial(sleeper, seconds))
    wall = time.perf_counter() - started
    ended = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if len(ended) != trials:
        raise SystemExit(f"{len(ended)} of {trials} trials ended")
    return plan.slots, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epoch", type=float, default=10, help="seconds that an epoch sleeps")
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    base, rows = None, []
    for nodes in (1, 2, 4):
        slots, wall = wall_time(nodes, arguments.trials, arguments.epoch)
        base = base or (slots, wall)
        speedup = base[1] / wall
        ideal = slots / base[0]
        row = {
            "nodes": nodes,
            "slots": slots,
            "wall_s": wall,
            "speedup": speedup,
            "of_ideal": speedup / ideal,
        }
        rows.append(row)
        print(json.dumps({key: round(value, 3) for key, value in row.items()}), flush=True)
    keep(arguments.json, "nodes", rows)


if __name__ == "__main__":
    main()
