"""Every scheduler, driven as Ray Tune drives it: what it decides follows from the journal."""

import dataclasses
import random

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import MedianStoppingRule

from otter_ray.space import StudyOptions
from tests.support.search_driver import METRIC, Driver, epoch_report

EPOCHS, TRIALS = 9, 14
SCHEDULERS = [
    {"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 3}},
    {"name": "Hyperband", "options": {"grace_period": 1, "reduction_factor": 3, "brackets": 3}},
    {"name": "median", "options": {"grace_period": 2, "min_samples_required": 3}},
    {"name": "none"},
    {"name": "ASHA", "metric": "valid_pauc@2", "options": {"grace_period": 1}},
]
by_name = pytest.mark.parametrize(
    "scheduler", SCHEDULERS, ids=lambda scheduler: "-".join([scheduler["name"], scheduler.get("metric", "")])
)


@pytest.fixture
def begun(demo):
    """Makes a new study with that scheduler."""
    config, space = demo
    config = config.with_values({"trainer.max_epochs": EPOCHS})

    def begin(scheduler):
        options = StudyOptions(num_trials=TRIALS, scheduler=scheduler, sampler={"name": "RandomSampler"})
        chosen = dataclasses.replace(space, study=options)
        return Driver(optuna.create_study(direction="maximize"), config, chosen)

    return begin


def curve(number):
    """A trial's values, which rise to a level of its own; the base config's is the lowest."""
    draw = random.Random(number)
    level = draw.uniform(0.5, 1) if number else 0
    return [level * (1 - 0.7**epoch) + 0.3 * draw.random() for epoch in range(1, EPOCHS + 1)]


def search(driver, again=lambda driver: driver):
    """Two slots, epoch by epoch in turn; `again` gives the driver to go on with after each epoch.

    Returns the epochs of each trial.
    """
    running, told = [], {}
    while True:
        while len(running) < 2 and driver.searcher._is_any_left():
            running.append(driver.start())
        if not running:
            return told
        trial = running.pop(0)
        number = trial.config["number"]
        told[number] = told.get(number, 0) + 1
        result = epoch_report(
            told[number],
            curve(number)[told[number] - 1],
            **{"valid_pauc@2": curve(-number)[told[number] - 1]},
        )
        decision = driver.scheduler.on_trial_result(None, trial, result)
        if decision == "STOP" or told[number] == EPOCHS:
            driver.searcher.on_trial_complete(trial.trial_id, {**result, "done": True})
            driver.scheduler.on_trial_complete(None, trial, result)
        else:
            running.append(trial)
        following = again(driver)
        if following is not driver:
            # The trials that ran are handed out again, in the order of their numbers.
            order = [trial.config["number"] for trial in running]
            driver, handed = following, [following.start() for _ in running]
            running = sorted(handed, key=lambda trial: order.index(trial.config["number"]))


def test_asha_looks_at_the_metric_that_it_is_given_and_optuna_at_the_studys(begun):
    driver = begun({"name": "ASHA", "metric": "valid_pauc@2"})
    [base, worse, better] = [driver.start() for _ in range(3)]
    for trial, value, area, decision in (
        (base, 0.5, 0.5, "CONTINUE"),
        (worse, 0.9, 0.4, "STOP"),
        (better, 0.1, 0.6, "CONTINUE"),
    ):
        result = epoch_report(1, value, **{"valid_pauc@2": area})
        assert driver.scheduler.on_trial_result(None, trial, result) == decision
    assert [trial.intermediate_values[1] for trial in driver.searcher.study.trials] == [0.5, 0.9, 0.1]


@by_name
def test_a_new_driver_after_each_epoch_decides_what_one_would(begun, scheduler):
    one = begun(scheduler)
    undisturbed = search(one)

    def resumed(driver):
        return Driver(driver.searcher.study, driver.searcher.problem.config, driver.searcher.problem.space)

    other = begun(scheduler)
    assert search(other, resumed) == undisturbed
    states = [[trial.state for trial in driver.searcher.study.trials] for driver in (one, other)]
    assert states[0] == states[1]
    assert len(states[0]) == TRIALS


@by_name
def test_it_stops_trials_but_never_the_base(begun, scheduler):
    driver = begun(scheduler)
    told = search(driver)
    assert told[0] == EPOCHS
    stopped = [trial for trial in driver.searcher.study.trials if trial.state == TrialState.PRUNED]
    assert bool(stopped) == (scheduler["name"] != "none")
    first = scheduler.get("options", {}).get("grace_period", EPOCHS)
    assert all(trial.last_step >= first for trial in stopped)


@by_name
def test_an_epoch_that_is_told_once_more_changes_nothing(begun, scheduler):
    repeating = begun(scheduler)
    tell = repeating.scheduler.on_trial_result

    def twice(controller, trial, result):
        decision = tell(controller, trial, result)
        if decision == "CONTINUE":
            assert tell(controller, trial, result) == "CONTINUE"
        return decision

    repeating.scheduler.on_trial_result = twice
    told = search(repeating)
    assert told == search(begun(scheduler))
    if scheduler["name"] == "median":
        kept = {trial.trial_id: results for trial, results in repeating.scheduler._results.items()}
        assert {number: [*range(1, epochs + 1)] for number, epochs in told.items()} == {
            number: [result["epoch"] for result in results] for number, results in kept.items()
        }


@by_name
def test_a_base_that_comes_last_is_never_stopped(begun, scheduler):
    driver = begun(scheduler)
    base = driver.start()
    for _ in range(5):
        driver.run([0.9] * EPOCHS)
    assert driver.run([0.1] * EPOCHS, trial=base) == EPOCHS
    assert driver.searcher.study.trials[0].state is TrialState.COMPLETE


def test_the_median_rule_is_rays(begun):
    """Held against Ray's own, which is told the same curves."""
    driver = begun(SCHEDULERS[2])
    rays = MedianStoppingRule(
        "epoch", METRIC, "max", grace_period=2, min_samples_required=3, min_time_slice=float("inf")
    )
    decide, compared = driver.scheduler.decide, []

    def both(trial, result):
        decision = decide(trial, result)
        told = {"epoch": result.epoch, METRIC: result.value}
        compared.append((decision, rays.on_trial_result(None, trial, told)))
        rays._stopped_trials.clear()
        return decision

    driver.scheduler.decide = both
    search(driver)
    assert all(ours == theirs for ours, theirs in compared)
    assert {ours for ours, _ in compared} == {"STOP", "CONTINUE"}


def test_brackets_follow_from_the_seed_and_the_number(begun):
    def brackets(driver):
        kept = driver.scheduler._trial_info
        return [
            driver.scheduler._brackets.index(kept[driver.start().config["number"]]) for _ in range(TRIALS)
        ]

    driver = begun(SCHEDULERS[1])
    drawn = brackets(driver)
    assert drawn == brackets(begun(SCHEDULERS[1]))
    assert {*drawn} == {0, 1, 2}
    assert drawn.count(0) > drawn.count(2)
