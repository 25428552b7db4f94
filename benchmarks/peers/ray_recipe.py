"""Ray's documented recipe: a Tuner over a function that builds a TorchTrainer for each trial.

    python ray_recipe.py JOB

docs.ray.io, Ray Train's user guide "Hyperparameter Tuning with Ray Tune": run names that hold the trial's id,
a TuneReportCallback, `max_concurrent_trials`, and driver functions that ask for a resource of their own, so
that each CPU is left to a worker.

Wants no other Ray on the machine: what takes the CPU back from a trial that ASHA stopped asks the local Ray,
and where there are two the next trial waits for ever.
"""

from __future__ import annotations

import sys
from typing import Any

import ray
import ray.train
import ray.train.torch
import ray.tune
from job import METRIC, Job
from ray._private.services import find_gcs_addresses
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler

DRIVER = "TRAIN_DRIVER"


def train_fn_per_worker(train_loop_config: dict[str, Any]) -> None:
    job = Job.load(train_loop_config["job"])
    job.train(
        train_loop_config["number"],
        lambda epoch, value: ray.train.report({"epoch": epoch, METRIC: value}),
    )


def train_driver_fn(config: dict[str, Any]) -> None:
    ray.train.torch.TorchTrainer(
        train_fn_per_worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=f"train-trial_id={ray.tune.get_context().get_trial_id()}",
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def main(file: str) -> None:
    if find_gcs_addresses():
        sys.exit("another Ray runs on this machine: the recipe would wait for ever. Try again without it.")
    job = Job.load(file)
    ray.init(address="local", num_cpus=job.slots, resources={DRIVER: 1})
    storage = f"{job.folder}/ray"
    results = ray.tune.Tuner(
        ray.tune.with_resources(train_driver_fn, {DRIVER: 0.01}),
        param_space={
            "job": file,
            "storage": storage,
            "number": ray.tune.grid_search(list(range(len(job.trials)))),
        },
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="max",
            max_concurrent_trials=job.slots,
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=job.max_epochs,
                grace_period=job.grace_period,
                reduction_factor=job.reduction_factor,
            ),
        ),
        run_config=ray.tune.RunConfig(name="peer", storage_path=storage),
    ).fit()
    for error in results.errors:
        raise error


if __name__ == "__main__":
    main(sys.argv[1])
