"""Population Based Training: who gives way, with what its copy goes on, and that its config repeats it."""

import dataclasses
import math

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from test_searcher import METRIC, Driver

from otter_ray.config import StudyOptions, find_space, load_config, load_space
from otter_ray.train.run import run_training
from otter_ray.tune.changes import _carried
from otter_ray.tune.endings import ended
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.keys import EPOCH, INSTEAD_OF, ORIGIN, TRIAL
from otter_ray.tune.room import unwanted_origins
from otter_ray.tune.sampler import build_sampler

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
    return optuna.create_study(direction="maximize", sampler=build_sampler(options, seed=4))


def value_of(trial, epoch):
    """The nearer its learning rate is to 0.01, the faster it rises; the base config's is the lowest."""
    lr = trial.config["values"].get(LR)
    return epoch * (1 - abs(math.log(lr / 0.01))) if lr else -100.0 + epoch


def search(driver, again=lambda driver: driver):
    """Four slots, epoch by epoch in turn; `again` gives the driver to go on with after each epoch."""
    running, done = [], {}
    while True:
        while len(running) < 4 and driver.bridge._is_any_left():
            running.append(driver.start())
        if not running:
            return driver.bridge.study.get_trials()
        trial = running.pop(0)
        number = trial.config["number"]
        done.setdefault(number, trial.config.get(ORIGIN, {}).get(EPOCH, 0))
        done[number] += 1
        result = {EPOCH: done[number], METRIC: value_of(trial, done[number])}
        decision = driver.scheduler.on_trial_result(None, trial, result)
        if decision == "STOP" or done[number] == EPOCHS:
            driver.bridge.on_trial_complete(trial.trial_id, {**result, "done": True})
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
        donor, old = trials[origin[TRIAL]], trials[origin[INSTEAD_OF]]
        epoch = origin[EPOCH]
        assert old.state == TrialState.PRUNED
        assert old.last_step == epoch < min(copy.intermediate_values)
        assert epoch % 2 == 0
        assert donor.intermediate_values[epoch] > old.intermediate_values[epoch]
        # It has been trained with the donor's values up to there, and with what came before them.
        values, before = copy.user_attrs["values"], donor.user_attrs["values"]
        then = before.get(LR, driver.bridge.config.get(LR))
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
    assert ended(driver.bridge.study) == TRIALS
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == TRIALS
    assert sum(len(trial.intermediate_values) for trial in trials) == TRIALS * EPOCHS
    assert trials[0].last_step == EPOCHS  # the base config, though it is the worst


def test_a_new_driver_after_each_epoch_decides_what_one_would(driver):
    undisturbed = facts(search(driver))

    def resumed(driver):
        return Driver(driver.bridge.study, driver.bridge.config, driver.bridge.space)

    space = driver.bridge.space
    other = Driver(study_of(space.study), driver.bridge.config, space)
    assert facts(search(other, resumed)) == undisturbed


def test_a_copy_is_queued_once(driver):
    """The driver died after it was queued, before the epoch of the trial that gives way was written down."""
    base, good, bad = (driver.start() for _ in range(3))
    for trial, value in ((base, 0.1), (good, 0.9)):
        driver.scheduler.on_trial_result(None, trial, {EPOCH: 2, METRIC: value})
    result = {EPOCH: 2, METRIC: 0.0}
    driver.scheduler.make_room(bad, result)
    again = Driver(driver.bridge.study, driver.bridge.config, driver.bridge.space)
    trials = [again.start() for _ in range(3)]
    assert [trial.config["number"] for trial in trials] == [0, 1, 2]
    assert again.scheduler.on_trial_result(None, trials[2], result) == "STOP"
    assert [trial.state for trial in again.bridge.study.trials].count(TrialState.WAITING) == 1


@pytest.fixture
def queued(driver):
    """A good trial's copy waits to take a bad one's place."""
    base, good, bad = (driver.start() for _ in range(3))
    for trial, value in ((base, 0.1), (good, 0.9)):
        driver.scheduler.on_trial_result(None, trial, {EPOCH: 2, METRIC: value})
    assert driver.scheduler.on_trial_result(None, bad, {EPOCH: 2, METRIC: 0.0}) == "STOP"
    return driver


@pytest.mark.parametrize("has_begun", [False, True])
def test_under_another_config_a_copy_is_trained_from_its_own_start(queued, has_begun):
    if has_begun:
        while ORIGIN not in queued.start().config:
            pass
    copy = queued.bridge.study.get_trials()[3]
    values = copy.user_attrs["values"]
    carried = _carried(copy, queued.bridge.config, queued.bridge.space, "config.1.yaml")
    assert (carried.state, carried.intermediate_values) == (TrialState.WAITING, {})
    assert not {ORIGIN, "values"} & carried.user_attrs.keys()
    assert carried.system_attrs["fixed_params"][LR] == values[LR]


def test_a_trial_of_an_earlier_config_is_copied_no_more(queued):
    study, population = queued.bridge.study, queued.scheduler.population
    assert population.better(9, 2, 0.0) == [1, 0]
    study._storage.set_trial_user_attr(study.trials[1]._trial_id, "config", "config.1.yaml")
    assert population.better(9, 2, 0.0) == [0]


def test_the_checkpoint_that_a_copy_begins_at_stays(queued):
    study, options = queued.bridge.study, queued.bridge.space.study
    options = options.model_copy(update={"num_trials": 1})  # of an epoch only the best is wanted
    queued.bridge.record("ray-1", {EPOCH: 4, METRIC: 0.9})
    study.add_trial(
        optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values={2: 1.0}, user_attrs={})
    )
    names = {*unwanted_origins(study, options)}
    assert "trials/0001/checkpoints/epoch-0002.ckpt" not in names
    assert "trials/0000/checkpoints/epoch-0002.ckpt" in names


def test_only_checkpoints_that_are_there_are_copied(driver):
    driver.scheduler.population = dataclasses.replace(
        driver.scheduler.population, is_kept=lambda trial, epoch: False
    )
    assert not [trial for trial in search(driver) if trial.state == TrialState.PRUNED]


@pytest.fixture(scope="module", params=["in its folder", "in a storage"])
def trained(tune, tiny_sets, tmp_path_factory, request):
    """A tiny study: where its trials are, what Optuna knows of them, what the command printed."""
    root = tmp_path_factory.mktemp("pbt")
    space = yaml.safe_load(find_space("demo").read_text())
    space["study"] |= {
        "sampler": RANDOM,
        "scheduler": {"name": "PBT", "options": {"perturbation_interval": 1, "quantile_fraction": 0.5}},
        "resources": {"workers_per_trial": 1, "cpus_per_worker": 1},
    }
    (root / "pbt.yaml").write_text(yaml.safe_dump(space))
    sets = [*tiny_sets, "--set", "trainer.max_epochs=3"]
    is_stored = request.param == "in a storage"
    storage = ["--storage", root / "kept"] if is_stored else []
    arguments = [*sets, "--space", root / "pbt.yaml", "--trials", 8, "--name", "tiny", *storage]
    code, output = tune("demo", *arguments, folder=root).end()
    assert code == 0, output
    folder = StudyFolder(root / "runs/demo/tiny")
    trials = open_study(folder, load_space("demo").study).get_trials()
    return StudyFolder(root / "kept/demo/tiny") if is_stored else folder, trials, output


def test_a_copys_config_repeats_it_to_the_last_digit(trained, tmp_path):
    folder, trials, _ = trained
    copies = [trial for trial in trials if ORIGIN in trial.user_attrs and trial.state == TrialState.COMPLETE]
    copy = max(copies, key=lambda trial: len(trial.user_attrs["values"]["schedule"]))
    config = load_config(str(folder.trial(copy.number) / "config.yaml"))
    assert config.schedule
    curve = {}
    run_training(
        config,
        tmp_path,
        lambda epoch: curve.update({epoch.epoch: epoch.metrics["valid_fpr@4"]}),
        cpus=1,
        standalone=False,
    )
    assert list(curve) == [1, 2, 3]
    assert {epoch: curve[epoch] for epoch in copy.intermediate_values} == copy.intermediate_values
    # What is before was the donor's.
    donor = trials[copy.user_attrs[ORIGIN][TRIAL]]
    epoch = copy.user_attrs[ORIGIN][EPOCH]
    assert curve[epoch] == donor.intermediate_values[epoch]


def test_no_checkpoint_is_left_that_nothing_begins_from(trained):
    folder, _, output = trained
    assert not [*folder.path.glob("trials/*/checkpoints/epoch-*.ckpt")]
    assert "gate passed" in output
    assert "Traceback" not in output


def test_the_table_says_what_a_copy_was_trained_with_before(trained):
    _, trials, output = trained
    copy = next(trial for trial in trials if ORIGIN in trial.user_attrs)
    then = copy.user_attrs["values"]["schedule"][0]
    line = next(line for line in output.splitlines() if line.split()[:1] == [str(copy.number)])
    assert f"schedule=lr {then['values'][LR]:.4g} to {then['epochs']}" in line
