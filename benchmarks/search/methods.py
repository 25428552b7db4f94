"""The searches that are compared, each made of its library's own objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import optuna
from optuna.pruners import HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from peers import Smac, syne_tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from tasks import METRIC, STEADIER, Task

from otter_ray.space import SearchProblem
from otter_ray.space.study_options import StudyOptions
from otter_ray.study.distributions import relative_search_space
from otter_ray.study.initial_trials import enqueue_base
from otter_ray.tune.messages import EpochResult, TrialAssignment
from otter_ray.tune.samplers import optuna_compat
from otter_ray.tune.samplers.factory import make_sampler
from otter_ray.tune.search.schedulers import build_scheduler
from otter_ray.tune.search.searcher import OptunaSearcher

Values = dict[str, Any]


class Method(Protocol):
    """What the replay drives."""

    def begin(self, key: str) -> Values | None:
        """Values, by parameter, of a new trial; None: not now."""

    def epoch(self, key: str, epoch: int, signals: Mapping[str, float], is_last: bool) -> bool:
        """Tells of an epoch; whether the trial is to go on."""


class OptunaAlone:
    """Ask and tell, as in Optuna's tutorial: report, should_prune."""

    def __init__(self, task: Task, sampler: Any, pruner: Any) -> None:
        self.task = task
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self.study.enqueue_trial(task.space.base_values(task.config))
        self.running: dict[str, optuna.Trial] = {}

    def begin(self, key: str) -> Values | None:
        """As Method."""
        trial = self.running[key] = self.study.ask()
        self.task.space.suggest(trial, self.task.config)
        return dict(trial.params)

    def epoch(self, key: str, epoch: int, signals: Mapping[str, float], is_last: bool) -> bool:
        """As Method."""
        trial = self.running[key]
        trial.report(signals[METRIC], epoch)
        if not is_last and trial.should_prune():
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        if is_last:
            self.study.tell(trial, signals[METRIC])
        return not is_last


class RayTune:
    """A searcher and a scheduler of Ray's, called as Tune calls them."""

    def __init__(self, task: Task, sampler: Any, scheduler: Any) -> None:
        self.searcher = OptunaSearch(
            space=lambda trial: task.space.suggest(trial, task.config) and None,
            metric=METRIC,
            mode="max",
            sampler=sampler,
            points_to_evaluate=[task.space.base_values(task.config)],
        )
        self.scheduler, self.running = scheduler, {}

    def begin(self, key: str) -> Values | None:
        """As Method."""
        values = self.searcher.suggest(key)
        self.running[key] = trial = SimpleNamespace(trial_id=key)
        self.scheduler.on_trial_add(None, trial)
        return values

    def epoch(self, key: str, epoch: int, signals: Mapping[str, float], is_last: bool) -> bool:
        """As Method."""
        result = {"training_iteration": epoch, METRIC: signals[METRIC]}
        decision = self.scheduler.on_trial_result(None, self.running[key], result)
        if decision == ASHAScheduler.STOP or is_last:
            self.scheduler.on_trial_complete(None, self.running[key], result)
            self.searcher.on_trial_complete(key, result)
            return False
        self.searcher.on_trial_result(key, result)
        return True


class Ours:
    """The searcher and the scheduler of a study with these options."""

    def __init__(self, task: Task, epochs: int, seed: int, options: Mapping[str, Any]) -> None:
        self.task = task
        scheduler = {"metric": STEADIER} if STEADIER in task.signals.values() else {}
        scheduler |= options.get("scheduler", {})
        study_options = StudyOptions.model_validate(
            {"num_trials": 10**6, "metric": METRIC, **options, "scheduler": scheduler}
        )
        space = task.space.__class__(task.space.name, task.space.parameters, study_options)
        problem = SearchProblem(task.config, space)
        searched = relative_search_space(problem)
        sampler = make_sampler(study_options, seed, searched)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        enqueue_base(study, problem)
        self.searcher = OptunaSearcher(study, problem)
        self.scheduler = build_scheduler(study_options, self.searcher, epochs)
        self.running: dict[str, Any] = {}

    def begin(self, key: str) -> Values | None:
        """As Method."""
        assignment = self.searcher.suggest(key)
        if assignment in (None, Searcher.FINISHED):
            return None
        trial = SimpleNamespace(trial_id=key, config=assignment, num_failures=0, status="RUNNING")
        self.running[key] = trial
        self.scheduler.on_trial_add(None, trial)
        values = TrialAssignment.from_tune(assignment).values
        by_key = {key: p.name for p in self.task.space.parameters for key in p.keys}
        base = self.task.space.base_values(self.task.config)
        return base | {by_key[key]: value for key, value in values.items()}

    def epoch(self, key: str, epoch: int, signals: Mapping[str, float], is_last: bool) -> bool:
        """As Method."""
        trial = self.running[key]
        result = EpochResult(epoch, signals[METRIC], signals).to_tune()
        stop = self.scheduler.on_trial_result(None, trial, result) == ASHAScheduler.STOP
        if stop or is_last:
            self.scheduler.on_trial_complete(None, trial, result)
            self.searcher.on_trial_complete(key, {**result, "done": True})
            return False
        return True


class Narrow(Ours):
    """Ours with Optuna's own kernels, as it was before Scott's rule."""

    def begin(self, key: str) -> Values | None:
        """As Method."""
        with patch.object(optuna_compat, "_ScottParzenEstimator", _ParzenEstimator):
            return super().begin(key)


Make = Callable[[Task, int, int], Method]


def _asha(epochs: int) -> ASHAScheduler:
    """Ray's defaults: grace period 1, reduction factor 4."""
    return ASHAScheduler(metric=METRIC, mode="max", max_t=epochs)


PEERS: dict[str, Make] = {
    "random": lambda task, epochs, seed: OptunaAlone(task, RandomSampler(seed=seed), NopPruner()),
    "random + ASHA (Ray)": lambda task, epochs, seed: RayTune(task, RandomSampler(seed=seed), _asha(epochs)),
    "TPE": lambda task, epochs, seed: OptunaAlone(task, TPESampler(seed=seed), NopPruner()),
    "OptunaSearch + ASHA (Ray)": lambda task, epochs, seed: RayTune(
        task, TPESampler(seed=seed), _asha(epochs)
    ),
    "TPE + SuccessiveHalving (Optuna)": lambda task, epochs, seed: OptunaAlone(
        task, TPESampler(seed=seed), SuccessiveHalvingPruner()
    ),
    "TPE + Hyperband (Optuna)": lambda task, epochs, seed: OptunaAlone(
        task, TPESampler(seed=seed), HyperbandPruner(min_resource=1, max_resource=epochs)
    ),
}


# Those of an environment of their own: see peers.py.
INSTALLED: dict[str, Make] = {}
if find_spec("syne_tune"):
    INSTALLED |= {f"{name} (Syne Tune)": syne_tune(name) for name in ("BOHB", "ASHACQR")}
if find_spec("smac"):
    INSTALLED["SMAC3"] = Smac


def ours(kind: type[Ours] = Ours, **options: Any) -> Make:
    """A study of ours with these options in its `study:` section."""
    return lambda task, epochs, seed: kind(task, epochs, seed, options)


def seeded(seed: int) -> None:
    """Ray's schedulers draw from numpy's global generator."""
    np.random.seed(seed)


OURS = "ours"
# What was weighed up for ours, on these tables: of its options, and of its code.
VARIANTS: dict[str, Make] = {
    OURS: ours(),
    "ours, Optuna's kernels": ours(Narrow),
    "ours, 3 brackets": ours(scheduler={"name": "Hyperband", "options": {"reduction_factor": 2}}),
}
METHODS: dict[str, Make] = {**PEERS, **INSTALLED, **VARIANTS}
