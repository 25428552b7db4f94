"""Searches of Syne Tune and SMAC3, which are installed in an environment of their own.

    python -m venv PEERS && PEERS/bin/pip install -c constraints.txt -e . \\
        syne-tune==0.16.0 dill statsmodels xgboost smac==2.4.1
    PEERS/bin/python benchmarks/search/compare.py

A study takes seconds with BOHB, half a minute with SMAC3 and minutes with ASHACQR (Salinas et al. 2023). Syne
Tune's ASHABORE took 110 s for 100 epochs and is left out.
Without these packages `compare.py` replays the rest, and reports what `replay.parquet` has of these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tasks import METRIC, Task

from otter_ray.space import Parameter


class SyneTune:
    """A scheduler of Syne Tune's with its own searcher, called as its tuner does."""

    def __init__(self, task: Task, epochs: int, seed: int, name: str) -> None:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer import baselines

        self.trial, self.running = Trial, dict[str, Any]()
        self.scheduler = getattr(baselines, name)(
            {p.name: _domain(p) for p in task.space.parameters},
            metric=METRIC,
            time_attr="epoch",
            max_t=epochs,
            do_minimize=False,
            random_seed=seed,
            points_to_evaluate=[task.space.base_values(task.config)],
        )

    def begin(self, key: str) -> dict[str, Any] | None:
        """As Method."""
        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        trial = self.trial(len(self.running), suggestion.config, datetime.now())
        self.running[key] = trial
        self.scheduler.on_trial_add(trial)
        return dict(suggestion.config)

    def epoch(self, key: str, epoch: int, signals: Mapping[str, float], is_last: bool) -> bool:
        """As Method."""
        trial, result = self.running[key], {"epoch": epoch, METRIC: signals[METRIC]}
        if is_last:
            self.scheduler.on_trial_complete(trial, result)
            return False
        return bool(self.scheduler.on_trial_result(trial, result) == "CONTINUE")


def _domain(parameter: Parameter) -> Any:
    from syne_tune.config_space import choice, loguniform, uniform

    if parameter.type == "categorical":
        return choice([*parameter.choices])
    return (loguniform if parameter.log else uniform)(*parameter.bounds())


class Smac:
    """SMAC3's facade for hyperparameters, a random forest with expected improvement, on whole trainings."""

    def __init__(self, task: Task, epochs: int, seed: int) -> None:
        from ConfigSpace import Categorical, ConfigurationSpace, Float
        from smac import HyperparameterOptimizationFacade, Scenario

        base = task.space.base_values(task.config)
        space = ConfigurationSpace(
            {
                p.name: Categorical(p.name, [*p.choices], default=base[p.name])
                if p.type == "categorical"
                else Float(p.name, (p.bounds()), log=p.log, default=base[p.name])
                for p in task.space.parameters
            },
            seed=seed,
        )
        self.folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space,
            deterministic=True,
            n_trials=10**6,
            seed=seed,
            use_default_config=True,
            output_directory=self.folder.name,
        )
        self.facade = HyperparameterOptimizationFacade(
            scenario,
            _never_called,
            initial_design=HyperparameterOptimizationFacade.get_initial_design(scenario, n_configs=10),
            logging_level=False,
            overwrite=True,
        )
        self.best: dict[str, float] = {}
        self.running: dict[str, Any] = {}

    def begin(self, key: str) -> dict[str, Any] | None:
        """As Method."""
        info = self.running[key] = self.facade.ask()
        return dict(info.config)

    def epoch(self, key: str, epoch: int, signals: Mapping[str, float], is_last: bool) -> bool:
        """As Method."""
        from smac.runhistory.dataclasses import TrialValue

        self.best[key] = max(self.best.get(key, 0.0), signals[METRIC])
        if is_last:
            self.facade.tell(self.running[key], TrialValue(cost=-self.best[key]), save=False)
        return not is_last


def _never_called(config: Any, seed: int = 0) -> float:
    raise AssertionError("SMAC3 is asked and told")


def syne_tune(name: str) -> Callable[[Task, int, int], SyneTune]:
    """One of Syne Tune's `baselines`."""
    return lambda task, epochs, seed: SyneTune(task, epochs, seed, name)
