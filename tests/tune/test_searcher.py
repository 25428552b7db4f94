"""The bridge and the scheduler, driven as Ray Tune drives them, over a real Optuna study."""

from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from otter_ray.report.rows import rank, read_rows
from otter_ray.tune.keys import INTERRUPTED
from otter_ray.tune.requeue import requeue_interrupted
from otter_ray.tune.scheduler import build_scheduler
from otter_ray.tune.searcher import OptunaBridge

METRIC = "valid_fpr@4"


class Driver:
    """Tune's part: asks for trials, hands results to the scheduler, tells how they ended."""

    def __init__(self, study, config, space):
        self.bridge = OptunaBridge(study, space, config)
        self.scheduler = build_scheduler(space.study, self.bridge, config.trainer.max_epochs)
        self.count = 0

    def start(self):
        name, self.count = f"ray-{self.count}", self.count + 1
        trial = SimpleNamespace(trial_id=name, config=self.bridge.suggest(name))
        self.scheduler.on_trial_add(None, trial)
        return trial

    def run(self, values, trial=None):
        """Runs a whole trial; gives how many epochs ASHA let it have."""
        trial = trial or self.start()
        for epoch, value in enumerate(values, 1):
            result = {"epoch": epoch, METRIC: value, "metrics/loss": 1.0 / epoch, "seconds": 1.0}
            if self.scheduler.on_trial_result(None, trial, result) == "STOP":
                break
        self.bridge.on_trial_complete(trial.trial_id, {**result, "done": True})
        return epoch


@pytest.fixture
def driver(study, demo):
    return Driver(study, *demo)


def test_the_first_trial_is_the_base_config_itself(driver, demo):
    trial = driver.start()
    assert trial.config == {"number": 0, "values": {}}
    recorded = driver.bridge.study.trials[0].params
    assert recorded["optimizer.options.lr"] == demo[0].get("optimizer.options.lr")


def test_the_next_trials_differ_from_it(driver):
    driver.start()
    values = driver.start().config["values"]
    assert set(values) == {
        "optimizer.options.lr",
        "model.loss.name",
        "model.loss.options.s",
        "model.loss.options.m",
    }


def test_a_stopped_trial_is_pruned_with_its_curve(driver, study):
    driver.run([0.5, 0.6, 0.7, 0.8])
    assert driver.run([0.9, 0.9, 0.3, 0.9]) == 3
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert study.trials[1].intermediate_values == {1: 0.9, 2: 0.9, 3: 0.3}


def test_the_best_epoch_counts_not_the_last(driver, study):
    driver.run([0.5, 0.9, 0.7, 0.6])
    assert study.trials[0].value == 0.9
    row = read_rows(study)[0]
    assert (row.value, row.best_epoch, row.epochs, row.is_base) == (0.9, 2, 4, True)


def test_asha_never_stops_the_base_config(driver, study):
    base = driver.start()
    for _ in range(3):
        driver.run([0.9, 0.9, 0.9, 0.9])
    assert driver.run([0.0, 0.0, 0.0, 0.0], trial=base) == 4
    assert study.trials[0].state is TrialState.COMPLETE


def test_a_trial_that_reports_an_error_fails_and_says_why(driver, study):
    trial = driver.start()
    assert driver.scheduler.on_trial_result(None, trial, {"error": "out of memory"}) == "STOP"
    driver.bridge.on_trial_complete(trial.trial_id, {"error": "out of memory", "done": True})
    assert study.trials[0].state is TrialState.FAIL
    assert read_rows(study)[0].error == "out of memory"


def test_a_dead_worker_is_a_failure(driver, study):
    trial = driver.start()
    driver.bridge.on_trial_complete(trial.trial_id, error=True)
    assert "died" in read_rows(study)[0].error


def test_a_repeated_last_result_is_recorded_once(driver, study):
    trial = driver.start()
    result = {"epoch": 1, METRIC: 0.5}
    driver.scheduler.on_trial_result(None, trial, result)
    driver.scheduler.on_trial_result(None, trial, {**result, "done": True})
    driver.bridge.on_trial_complete(trial.trial_id, {**result, "done": True})
    assert read_rows(study)[0].curve == [0.5]


def test_failed_trials_are_not_ranked(driver, study):
    trial = driver.start()
    driver.scheduler.on_trial_result(None, trial, {"epoch": 1, METRIC: 0.99})
    driver.bridge.on_trial_complete(trial.trial_id, {"error": "nan", "done": True})
    driver.run([0.2, 0.3, 0.4, 0.5])
    assert [row.number for row in rank(read_rows(study), "max")] == [1]


def test_an_interrupted_trial_runs_again_with_its_values(driver, study, demo):
    driver.run([0.5, 0.5, 0.5, 0.5])
    broken = driver.start()
    driver.bridge.on_trial_complete(broken.trial_id, {"epoch": 1, METRIC: 0.4})
    assert requeue_interrupted(study) == 1
    assert read_rows(study)[1].error == INTERRUPTED
    again = Driver(study, *demo).start()
    assert again.config["values"] == broken.config["values"]


def test_a_killed_driver_loses_nothing(driver, study, demo):
    """Trials left RUNNING by a SIGKILL go back into the queue; the base config stays the base."""
    base, other = driver.start(), driver.start()
    assert requeue_interrupted(study) == 0
    resumed = Driver(study, *demo)
    assert [resumed.start().config["values"] for _ in range(2)] == [
        base.config["values"],
        other.config["values"],
    ]
    assert resumed.start().config["values"] != other.config["values"]


def test_rungs_are_refilled_from_the_journal(driver, study, demo):
    for level in (0.9, 0.8, 0.7, 0.1, 0.2):
        driver.run([level] * 4)
    resumed = Driver(study, *demo)
    assert _rungs(resumed.scheduler) == _rungs(driver.scheduler)
    assert resumed.run([0.15] * 4) == 1


def _rungs(scheduler):
    return [(epoch, sorted(recorded.values())) for epoch, recorded in scheduler._brackets[0]._rungs]
