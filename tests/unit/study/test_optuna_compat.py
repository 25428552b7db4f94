"""What we touch of Optuna's insides: one test for each touch, named after it."""

import os

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.trial import TrialState

from otter_ray.study import optuna_compat
from otter_ray.study.journal import AtomicJournalBackend, open_journal


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "study.journal"


@pytest.fixture
def study(journal):
    return optuna.create_study(
        storage=open_journal(journal, AtomicJournalBackend), directions=["maximize"] * 2
    )


def reopened(study, journal):
    return optuna.load_study(study_name=study.study_name, storage=open_journal(journal))


def test_study_storage(study):
    assert isinstance(optuna_compat.storage_behind(study), JournalStorage)
    memory = InMemoryStorage()
    created = optuna.create_study(storage=memory)
    assert optuna_compat.storage_behind(created).get_all_studies()[0].study_name == created.study_name


def test_journal_storage_backend(study):
    assert isinstance(optuna_compat.journal_backend(study), AtomicJournalBackend)
    assert optuna_compat.journal_backend(optuna.create_study()) is None


def test_create_new_trial_and_study_id(study, journal):
    """A trial that is begun is the next one, and RUNNING for whoever reads the journal."""
    study.ask()
    trial = optuna_compat.begin_trial(study)
    assert trial.number == 1
    assert trial.suggest_float("x", 0, 1) == reopened(study, journal).trials[1].params["x"]
    assert reopened(study, journal).trials[1].state == TrialState.RUNNING


def test_trial_id_of_a_frozen_trial(study, journal):
    study.ask().set_user_attr("first", 1)
    later = reopened(study, journal)
    trial = optuna_compat.continue_trial(later, later.trials[0])
    trial.set_user_attr("second", 2)
    assert reopened(study, journal).trials[0].user_attrs == {"first": 1, "second": 2}


def test_trial_by_study_id_and_number(study):
    study.ask()
    study.ask().set_user_attr("me", True)
    assert optuna_compat.read_trial(study, 1).user_attrs == {"me": True}


def test_set_trial_intermediate_value(study, journal):
    trial = study.ask()
    with pytest.raises(NotImplementedError):  # Optuna's public way, with several objectives
        trial.report(0.5, 3)
    optuna_compat.report_value(study, trial, 3, 0.5)
    assert reopened(study, journal).trials[0].intermediate_values == {3: 0.5}


def test_set_trial_user_attr(study, journal):
    study.ask()
    optuna_compat.set_user_attr(study, study.trials[0], "error", "none")
    assert reopened(study, journal).trials[0].user_attrs == {"error": "none"}


def test_journal_file_path(journal):
    assert optuna_compat.file_of(AtomicJournalBackend(str(journal))) == str(journal)


def test_journal_file_lock(journal):
    """The lock that we hold is the one that Optuna's own backend writes under, at the place that we clear."""
    backend = AtomicJournalBackend(str(journal))
    lock = optuna_compat.lock_file_of(journal)
    with optuna_compat.locked(backend):
        assert os.path.lexists(lock)
    assert not os.path.lexists(lock)
