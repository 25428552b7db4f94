"""What a study needs of Optuna's that is not public, under public names.

Written for Optuna 5.0. Each touch has a test in `tests/unit/study/test_optuna_compat.py` that fails by name
when Optuna changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import LOCK_FILE_SUFFIX, get_lock_file
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, Trial

# `op_code` of the line in a journal that creates a study.
CREATE_STUDY = int(JournalOperation.CREATE_STUDY)


def storage_behind(study: optuna.Study) -> BaseStorage:
    """Return the storage of a study. Optuna has no public way from one to the other."""
    return study._storage


def journal_backend(study: optuna.Study) -> Any:
    """Return what writes a study's journal; None if the study is not in a journal."""
    return getattr(study._storage, "_backend", None)


def begin_trial(study: optuna.Study) -> Trial:
    """Begin a new trial as `Study.ask` does when none waits.

    `ask` would first look for a waiting one among all trials, which takes 5 ms for 10,000.
    """
    return Trial(study, study._storage.create_new_trial(study._study_id))


def continue_trial(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """Return a handle on a trial that is RUNNING in the journal, though nobody runs it any more."""
    return Trial(study, trial._trial_id)


def read_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """Return what the study's storage holds of one trial. The public way copies all trials first."""
    storage = study._storage
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def report_value(study: optuna.Study, trial: Trial, step: int, value: float) -> None:
    """Write a trial's value at a step, as `Trial.report` does. That refuses a study of several objectives."""
    study._storage.set_trial_intermediate_value(trial._trial_id, step, value)


def set_user_attr(study: optuna.Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Set an attribute of a trial that nobody holds a handle on."""
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


def file_of(backend: JournalFileBackend) -> str:
    """Return the path of a journal's file."""
    return backend._file_path


@contextmanager
def locked(backend: JournalFileBackend) -> Iterator[None]:
    """Hold the lock that Optuna's own `append_logs` holds while it writes."""
    with get_lock_file(backend._lock):
        yield


def lock_file_of(journal: Path) -> Path:
    """Return the file by which Optuna locks a journal."""
    return journal.with_name(journal.name + LOCK_FILE_SUFFIX)
