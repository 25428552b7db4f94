"""Optuna as its documentation spreads a study: processes that share one journal, each with the training loop.

    python optuna_two.py JOB          starts one process a slot
    python optuna_two.py JOB worker   is one

Both start importing at once, while the study is made.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import optuna
from job import Job
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def storage(job: Job) -> JournalStorage:
    return JournalStorage(JournalFileBackend(f"{job.folder}/optuna.journal"))


def launch(file: str) -> int:
    job = Job.load(file)
    workers = [subprocess.Popen([sys.executable, __file__, file, "worker"]) for _ in range(job.slots)]
    study = optuna.create_study(study_name="peer", storage=storage(job), direction="maximize")
    for values in job.trials:
        study.enqueue_trial(values)
    (Path(job.folder) / "queued").touch()
    return max(abs(worker.wait()) for worker in workers)


def work(job: Job) -> None:
    from otter_ray.config import load_config
    from otter_ray.space import load_space

    config, space = load_config("demo", job.sets), load_space("demo")

    def objective(trial: optuna.Trial) -> float:
        if trial.number >= len(job.trials):  # both saw the last one wait
            raise optuna.TrialPruned
        space.suggest(trial, config)
        values: list[float] = []

        def tell(epoch: int, value: float) -> None:
            values.append(value)
            trial.report(value, epoch)
            if epoch < job.max_epochs and trial.should_prune():
                raise optuna.TrialPruned

        job.train(trial.number, tell)
        return max(values)

    while not (Path(job.folder) / "queued").exists():
        time.sleep(0.05)
    study = optuna.load_study(
        study_name="peer",
        storage=storage(job),
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=SuccessiveHalvingPruner(
            min_resource=job.grace_period, reduction_factor=job.reduction_factor, min_early_stopping_rate=0
        ),
    )
    study.optimize(objective, callbacks=[stop_when_none_waits])


def stop_when_none_waits(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    if not study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.WAITING]):
        study.stop()


if __name__ == "__main__":
    if "worker" in sys.argv:
        work(Job.load(sys.argv[1]))
    else:
        sys.exit(launch(sys.argv[1]))
