"""Tune's part in a search, played by hand over a real Optuna study."""

from types import SimpleNamespace

from ray.tune.utils import flatten_dict

from otter_ray.space import SearchProblem
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.tune.messages import EpochResult, TrialFailure, TrialResources
from otter_ray.tune.search.schedulers import build_scheduler
from otter_ray.tune.search.searcher import OptunaSearcher

METRIC = "valid_fpr@4"


def epoch_report(epoch, value, *, seconds=None, **metrics):
    """An epoch as Tune hands it to a scheduler; `metrics` are logged beside the study's metric."""
    result = EpochResult(epoch, value, metrics | {METRIC: value}, TrialResources(seconds))
    return flatten_dict(result.to_tune())


def failure_report(error, **more):
    """A failure as Tune hands it to a scheduler."""
    return flatten_dict(TrialFailure(error, **more).to_tune())


class Driver:
    """Tune's part: asks for trials, hands results to the scheduler, tells how they ended."""

    def __init__(self, study, config, space):
        enqueue_first(study, SearchProblem(config, space))
        self.searcher = OptunaSearcher(study, SearchProblem(config, space))
        self.scheduler = build_scheduler(space.study, self.searcher, config.trainer.max_epochs)
        self.count = 0

    def start(self):
        name, self.count = f"ray-{self.count}", self.count + 1
        trial = SimpleNamespace(trial_id=name, config=self.searcher.suggest(name), num_failures=0)
        self.scheduler.on_trial_add(None, trial)
        return trial

    def run(self, values, trial=None):
        """Runs a whole trial; gives how many epochs ASHA let it have."""
        trial = trial or self.start()
        compared = self.searcher.problem.options.scheduler_metric
        for epoch, value in enumerate(values, 1):
            logged = {"loss": 1.0 / epoch, compared: value}
            result = epoch_report(epoch, value, seconds=1.0, **logged)
            if self.scheduler.on_trial_result(None, trial, result) == "STOP":
                break
        self.searcher.on_trial_complete(trial.trial_id, {**result, "done": True})
        return epoch
