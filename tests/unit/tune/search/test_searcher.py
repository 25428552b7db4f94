"""The bridge and the scheduler, driven as Ray Tune drives them, over a real Optuna study."""

import json

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from otter_ray.direction import Direction
from otter_ray.errors import StudyError
from otter_ray.space import SearchProblem, StudyOptions
from otter_ray.study.journal import AtomicJournalBackend
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.outcomes import ended, finalize_interrupted
from otter_ray.study.trials import rank, read_records
from otter_ray.tune.messages import FailureKind
from otter_ray.tune.samplers.factory import make_sampler
from otter_ray.tune.search.searcher import OptunaSearcher
from tests.support.search_driver import METRIC, Driver, epoch_report, failure_report


@pytest.fixture
def driver(study, demo):
    return Driver(study, *demo)


def test_the_first_trial_is_the_base_config_itself(driver, demo):
    trial = driver.start()
    assert trial.config == {"number": 0, "values": {}}
    recorded = driver.searcher.study.trials[0].params
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
    row = read_records(study)[0]
    assert (row.value, row.best_epoch, row.epochs, row.is_base) == (0.9, 2, 4, True)


def test_asha_never_stops_the_base_config(driver, study):
    base = driver.start()
    for _ in range(3):
        driver.run([0.9, 0.9, 0.9, 0.9])
    assert driver.run([0.0, 0.0, 0.0, 0.0], trial=base) == 4
    assert study.trials[0].state is TrialState.COMPLETE


def test_a_trial_that_reports_an_error_fails_and_says_why(driver, study):
    trial = driver.start()
    error = failure_report("out of memory", kind=FailureKind.DETERMINISTIC)
    assert driver.scheduler.on_trial_result(None, trial, error) == "STOP"
    driver.searcher.on_trial_complete(trial.trial_id, {**error, "done": True})
    assert study.trials[0].state is TrialState.FAIL
    assert read_records(study)[0].error == "out of memory"


def test_an_error_is_met_with_another_attempt_but_not_twice_alike(driver):
    trial = driver.start()

    def report(error, **more):
        return driver.scheduler.on_trial_result(None, trial, failure_report(error, **more))

    assert report("a file is busy") == "CONTINUE"
    driver.scheduler.on_trial_result(None, trial, epoch_report(1, 0.5))
    assert report("a file is busy") == "CONTINUE"
    assert report("another one, too") == "CONTINUE"
    assert report("a file is busy") == "STOP"


def test_attempts_are_counted_with_the_deaths_of_the_process(driver):
    trial = driver.start()
    trial.num_failures = 2
    assert driver.scheduler.on_trial_result(None, trial, failure_report("first")) == "CONTINUE"
    assert driver.scheduler.on_trial_result(None, trial, failure_report("second")) == "STOP"


def test_a_dead_worker_is_a_failure(driver, study):
    trial = driver.start()
    driver.searcher.on_trial_complete(trial.trial_id, error=True)
    assert "died" in read_records(study)[0].error


def test_a_trial_whose_warm_slot_was_dead_is_handed_out_again(driver, study, demo):
    """Tune gives it up without a retry: it resets a slot for a trial that it still calls pending."""
    driver.run([0.5] * 4)
    first = driver.start()
    first.status = "PENDING"
    driver.scheduler.on_trial_error(None, first)
    driver.searcher.on_trial_complete(first.trial_id, error=True)
    again = driver.start()
    assert again.config == first.config
    assert driver.run([0.6] * 4, trial=again) == 4
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_a_search_is_over_when_all_its_trials_have_ended(driver, demo):
    """Not before: one whose slot is dead would find that Ray asks no more."""
    started = [driver.start() for _ in range(demo[1].study.num_trials)]
    assert driver.searcher.suggest("one more") is None
    driver.searcher.requeue(started[-1].trial_id)
    driver.searcher.on_trial_complete(started[-1].trial_id, error=True)
    started[-1] = driver.start()
    for trial in started:
        driver.run([0.5] * 4, trial=trial)
    assert driver.searcher.suggest("one more") == "FINISHED"


def test_a_repeated_last_result_is_recorded_once(driver, study):
    trial = driver.start()
    result = epoch_report(1, 0.5)
    driver.scheduler.on_trial_result(None, trial, result)
    driver.scheduler.on_trial_result(None, trial, {**result, "done": True})
    driver.searcher.on_trial_complete(trial.trial_id, {**result, "done": True})
    assert read_records(study)[0].curve == [0.5]


def test_failed_trials_are_not_ranked(driver, study):
    trial = driver.start()
    driver.scheduler.on_trial_result(None, trial, epoch_report(1, 0.99))
    driver.searcher.on_trial_complete(trial.trial_id, {**failure_report("nan"), "done": True})
    driver.run([0.2, 0.3, 0.4, 0.5])
    assert [row.number for row in rank(read_records(study), Direction.MAX)] == [1]


def test_a_trial_that_was_broken_off_goes_on_under_its_number(driver, study, demo):
    driver.run([0.5, 0.5, 0.5, 0.5])
    broken = driver.start()
    driver.scheduler.on_trial_result(None, broken, epoch_report(1, 0.6, loss=0.3))
    driver.searcher.on_trial_complete(broken.trial_id, epoch_report(1, 0.6))
    finalize_interrupted(study, 4)
    assert (ended(study), study.trials[1].state) == (1, TrialState.RUNNING)
    resumed = Driver(study, *demo)
    again = resumed.start()
    assert again.config == broken.config
    # It tells once more what it has told, then the rest.
    assert resumed.run([0.6, 0.7, 0.8, 0.9], trial=again) == 4
    assert study.trials[1].intermediate_values == {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.9}
    assert read_records(study)[1].metrics[0] == {"epoch": 1, METRIC: 0.6, "loss": 0.3}
    assert resumed.start().config["number"] == 2


def test_a_killed_driver_loses_nothing(driver, study, demo):
    """Trials left RUNNING by a SIGKILL are handed out first; the base config stays the base."""
    base, other = driver.start(), driver.start()
    finalize_interrupted(study, 4)
    assert ended(study) == 0
    resumed = Driver(study, *demo)
    assert [resumed.start().config for _ in range(2)] == [base.config, other.config]
    third = resumed.start().config
    assert third["number"] == 2
    assert third["values"] != other.config["values"]


@pytest.mark.parametrize("written", range(7))
def test_a_driver_that_dies_while_it_draws_parameters_draws_the_same_ones_again(demo, written, tmp_path):
    """Of what is written down for the second trial, the first `written` lines are there, and half a line."""
    driver = Driver(opened(tmp_path / "whole", demo), *demo)
    driver.run([0.5, 0.6, 0.7, 0.8])
    journal = tmp_path / "whole/study.journal"
    before = journal.read_bytes()
    expected = driver.start().config
    lines = journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(lines) == 6
    (tmp_path / "killed").mkdir()
    written = [*lines[:written], *(line[:9] for line in lines[written : written + 1])]
    (tmp_path / "killed/study.journal").write_bytes(before + b"".join(written))
    assert Driver(opened(tmp_path / "killed", demo), *demo).start().config == expected


def test_what_asha_had_decided_is_told_by_the_next_driver(driver, study, demo):
    """The journal of a driver that died between the last epoch's line and the end's."""
    driver.run([0.5, 0.6, 0.7, 0.8])
    pruned, done, failed = driver.start(), driver.start(), driver.start()
    driver.scheduler.on_trial_result(None, pruned, epoch_report(1, 0.1))
    for epoch in (1, 2, 3, 4):
        driver.scheduler.on_trial_result(None, done, epoch_report(epoch, 0.9))
    driver.searcher._running[failed.trial_id].trial.set_user_attr("error", "broken")
    finalize_interrupted(study, 4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "FAIL"]
    assert study.trials[2].value == 0.9


def test_rungs_hold_what_broken_off_trials_have_done(driver, study, demo):
    driver.run([0.5] * 4)
    broken = driver.start()
    for epoch in (1, 2, 3):
        driver.scheduler.on_trial_result(None, broken, epoch_report(epoch, 0.7))
    resumed = Driver(study, *demo)
    assert _rungs(resumed.scheduler) == _rungs(driver.scheduler)
    assert resumed.run([0.7, 0.7, 0.7, 0.7], trial=resumed.start()) == 4
    assert [len(values) for _, values in _rungs(resumed.scheduler)] == [2, 2]


def test_rungs_are_refilled_from_the_journal(driver, study, demo):
    for level in (0.9, 0.8, 0.7, 0.1, 0.2):
        driver.run([level] * 4)
    resumed = Driver(study, *demo)
    assert _rungs(resumed.scheduler) == _rungs(driver.scheduler)
    assert resumed.run([0.15] * 4) == 1


def opened(path, demo):
    """The study in a folder, as a driver opens it."""
    path.mkdir(exist_ok=True)
    return open_study(StudyFolder(path), demo[1].study, make_sampler(demo[1].study, 0))


def _rungs(scheduler):
    return [(epoch, sorted(recorded.values())) for epoch, recorded in scheduler._brackets[0]._rungs]


class FullDisk(AtomicJournalBackend):
    """A journal's disk that takes no line that holds `refused`."""

    refused = None

    def append_logs(self, logs):
        if self.refused and self.refused in json.dumps(logs):
            raise OSError(28, "No space left on device")
        super().append_logs(logs)


@pytest.mark.parametrize("refused", ["curve/", '"step"', "stopped"])
@pytest.mark.parametrize("is_pruned", [True, False])
def test_an_epoch_that_could_not_be_written_did_not_happen(demo, tmp_path, refused, is_pruned):
    """The end that was decided on it neither: the short line that tells it would still fit."""
    backend = FullDisk(str(tmp_path / "journal"))
    study = optuna.create_study(storage=JournalStorage(backend), direction="maximize")
    driver = Driver(study, *demo)
    driver.run([0.5, 0.6, 0.7, 0.8])
    trial, epochs = driver.start(), [0.1] if is_pruned else [0.9, 0.9, 0.9, 0.9]
    for epoch, value in enumerate(epochs, 1):
        if epoch == len(epochs):
            backend.refused = refused if is_pruned or refused != "stopped" else '"step"'
        result = epoch_report(epoch, value, loss=1.0)
        driver.scheduler.on_trial_result(None, trial, result)
    driver.searcher.on_trial_complete(trial.trial_id, {**result, "done": True})
    assert driver.searcher.stop_controller.is_fault
    assert study.trials[1].state is TrialState.RUNNING
    backend.refused = None
    finalize_interrupted(study, 4)
    resumed = Driver(study, *demo)
    assert resumed.run(epochs, trial=resumed.start()) == len(epochs)
    assert study.trials[1].state is (TrialState.PRUNED if is_pruned else TrialState.COMPLETE)
    assert list(study.trials[1].intermediate_values.values()) == epochs


@pytest.mark.parametrize(
    "options", [{}, {"multivariate": True}, {"multivariate": True, "group": True}, {"constant_liar": True}]
)
def test_the_sampler_takes_optunas_options(demo, options):
    config, space = demo
    sampler = {"name": "TPESampler", "options": {"n_startup_trials": 2, **options}}
    chosen = StudyOptions(sampler=sampler)
    drawn = []
    for _ in range(2):
        study = optuna.create_study(direction="maximize", sampler=make_sampler(chosen, 0))
        for value in (0.1, 0.5, 0.3, 0.4):
            trial = study.ask()
            space.suggest(trial, config)
            study.tell(trial, value)
        drawn.append([trial.params for trial in study.trials])
    assert drawn[0] == drawn[1]
    assert drawn[0][2] != drawn[0][3]


def test_a_journal_brings_no_code_along(study, demo):
    """An interrupted trial in the journal of a study that somebody else has made."""
    values = {"project": "forged"}
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"values": values}))
    with pytest.raises(StudyError, match="trial 0 of the journal runs the project 'forged'"):
        OptunaSearcher(study, SearchProblem(*demo))
