"""Population Based Training: who gives way, and with what its copy goes on, played by hand."""

import dataclasses
import math

import optuna
import pytest
from optuna.trial import TrialState

from otter_ray.space import StudyOptions
from otter_ray.study.migration import _migrated
from otter_ray.study.optuna_compat import set_user_attr
from otter_ray.study.outcomes import ended
from otter_ray.study.schema import EPOCH, INSTEAD_OF, ORIGIN, TRIAL
from otter_ray.tune.driver.checkpoint_retention import unneeded_parents
from otter_ray.tune.messages import EpochResult, TrialAssignment
from otter_ray.tune.samplers.factory import make_sampler
from tests.support.search_driver import Driver, epoch_report

LR = "optimizer.options.lr"
EPOCHS, TRIALS = 8, 16
PBT = {"name": "PBT", "options": {"perturbation_interval": 2, "quantile_fraction": 0.4}}
RANDOM = {"name": "RandomSampler"}


@pytest.fixture
def driver(demo):
    config, space = demo
    config = config.with_values({"trainer.max_epochs": EPOCHS})
    options = StudyOptions(num_trials=TRIALS, scheduler=PBT, sampler=RANDOM)
    return Driver(study_of(options), config, dataclasses.replace(space, study=options))


def study_of(options):
    return optuna.create_study(direction="maximize", sampler=make_sampler(options, seed=4))


def value_of(trial, epoch):
    """The nearer its learning rate is to 0.01, the faster it rises; the base config's is the lowest."""
    lr = trial.config["values"].get(LR)
    return epoch * (1 - abs(math.log(lr / 0.01))) if lr else -100.0 + epoch


def search(driver, again=lambda driver: driver):
    """Four slots, epoch by epoch in turn; `again` gives the driver to go on with after each epoch."""
    running, done = [], {}
    while True:
        while len(running) < 4 and driver.searcher._is_any_left():
            running.append(driver.start())
        if not running:
            return driver.searcher.study.get_trials()
        trial = running.pop(0)
        number = trial.config["number"]
        parent = TrialAssignment.from_tune(trial.config).parent
        done.setdefault(number, parent.epoch if parent else 0)
        done[number] += 1
        result = epoch_report(done[number], value_of(trial, done[number]))
        decision = driver.scheduler.on_trial_result(None, trial, result)
        if decision == "STOP" or done[number] == EPOCHS:
            driver.searcher.on_trial_complete(trial.trial_id, {**result, "done": True})
        else:
            running.append(trial)
        if (following := again(driver)) is not driver:
            order = [trial.config["number"] for trial in running]
            driver, handed = following, [following.start() for _ in running]
            running = sorted(handed, key=lambda trial: order.index(trial.config["number"]))


def facts(trials):
    return [
        (trial.state, trial.params, trial.user_attrs["values"], trial.intermediate_values) for trial in trials
    ]


def test_the_worst_give_way_to_copies_of_the_best(driver):
    trials = search(driver)
    copies = [trial for trial in trials if ORIGIN in trial.user_attrs]
    assert len(copies) >= 2
    for copy in copies:
        origin = copy.user_attrs[ORIGIN]
        parent, old = trials[origin[TRIAL]], trials[origin[INSTEAD_OF]]
        epoch = origin[EPOCH]
        assert old.state == TrialState.PRUNED
        assert old.last_step == epoch < min(copy.intermediate_values)
        assert epoch % 2 == 0
        assert parent.intermediate_values[epoch] > old.intermediate_values[epoch]
        # It has been trained with the parent's values up to there, and with what came before them.
        values, before = copy.user_attrs["values"], parent.user_attrs["values"]
        then = before.get(LR, driver.searcher.problem.config.get(LR))
        assert values["schedule"] == [
            *before.get("schedule", []), {"epochs": epoch, "values": {LR: then}}
        ]  # fmt: skip
        assert values[LR] != then
        assert 0.002 <= values[LR] <= 0.02
        assert {key: values[key] for key in before if key not in (LR, "schedule")} == {
            key: before[key] for key in before if key not in (LR, "schedule")
        }
        assert copy.params[LR] == values[LR]


def test_the_population_trains_as_long_as_without(driver):
    trials = search(driver)
    assert ended(driver.searcher.study) == TRIALS
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == TRIALS
    assert sum(len(trial.intermediate_values) for trial in trials) == TRIALS * EPOCHS
    assert trials[0].last_step == EPOCHS  # the base config, though it is the worst


def test_a_new_driver_after_each_epoch_decides_what_one_would(driver):
    undisturbed = facts(search(driver))

    def resumed(driver):
        return Driver(driver.searcher.study, driver.searcher.problem.config, driver.searcher.problem.space)

    space = driver.searcher.problem.space
    other = Driver(study_of(space.study), driver.searcher.problem.config, space)
    assert facts(search(other, resumed)) == undisturbed


def test_a_copy_is_queued_once(driver):
    """The driver died after it was queued, before the epoch of the trial that gives way was written down."""
    base, good, bad = (driver.start() for _ in range(3))
    for trial, value in ((base, 0.1), (good, 0.9)):
        driver.scheduler.on_trial_result(None, trial, epoch_report(2, value))
    result = epoch_report(2, 0.0)
    driver.scheduler.may_stop(bad, EpochResult.from_tune(result))
    again = Driver(driver.searcher.study, driver.searcher.problem.config, driver.searcher.problem.space)
    trials = [again.start() for _ in range(3)]
    assert [trial.config["number"] for trial in trials] == [0, 1, 2]
    assert again.scheduler.on_trial_result(None, trials[2], result) == "STOP"
    assert [trial.state for trial in again.searcher.study.trials].count(TrialState.WAITING) == 1


@pytest.fixture
def queued(driver):
    """A good trial's copy waits to take a bad one's place."""
    base, good, bad = (driver.start() for _ in range(3))
    for trial, value in ((base, 0.1), (good, 0.9)):
        driver.scheduler.on_trial_result(None, trial, epoch_report(2, value))
    assert driver.scheduler.on_trial_result(None, bad, epoch_report(2, 0.0)) == "STOP"
    return driver


@pytest.mark.parametrize("has_begun", [False, True])
def test_under_another_config_a_copy_is_trained_from_its_own_start(queued, has_begun):
    if has_begun:
        while "parent" not in queued.start().config:
            pass
    copy = queued.searcher.study.get_trials()[3]
    values = copy.user_attrs["values"]
    carried = _migrated(copy, queued.searcher.problem.config, queued.searcher.problem.space, "config.1.yaml")
    assert (carried.state, carried.intermediate_values) == (TrialState.WAITING, {})
    assert not {ORIGIN, "values"} & carried.user_attrs.keys()
    assert carried.system_attrs["fixed_params"][LR] == values[LR]


def test_a_trial_of_an_earlier_config_is_copied_no_more(queued):
    study, population = queued.searcher.study, queued.scheduler.population
    assert population.parents_for(9, 2, 0.0) == [1, 0]
    set_user_attr(study, study.trials[1], "config", "config.1.yaml")
    assert population.parents_for(9, 2, 0.0) == [0]


def test_the_checkpoint_that_a_copy_begins_at_stays(queued):
    study, options = queued.searcher.study, queued.searcher.problem.options
    options = options.model_copy(update={"num_trials": 1})  # of an epoch only the best is wanted
    queued.searcher.record("ray-1", EpochResult(4, 0.9))
    study.add_trial(
        optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values={2: 1.0}, user_attrs={})
    )
    names = {*unneeded_parents(study, options)}
    assert "trials/0001/checkpoints/epoch-0002.ckpt" not in names
    assert "trials/0000/checkpoints/epoch-0002.ckpt" in names


def test_only_checkpoints_that_are_there_are_copied(driver):
    driver.scheduler.population = dataclasses.replace(
        driver.scheduler.population, is_kept=lambda trial, epoch: False
    )
    assert not [trial for trial in search(driver) if trial.state == TrialState.PRUNED]
