"""Optuna's own tests of storages, over a journal as a study writes it."""

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from otter_ray.study.journal import AtomicJournalBackend, open_journal


class TestJournal(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path):
        return open_journal(tmp_path / "study.journal", AtomicJournalBackend)


class TestJournalInBatches(StorageTestCase):
    """Within a batch of writes, which waits for the disk once, a journal is the same storage."""

    @pytest.fixture
    def storage(self, tmp_path):
        storage = open_journal(tmp_path / "study.journal", AtomicJournalBackend)
        with storage._backend.batched_writes():
            yield storage
