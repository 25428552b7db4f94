"""Which checkpoints still matter, and a journal that a kill or a full disk has cut off."""

import json
import os

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from otter_ray.errors import StudyError
from otter_ray.files import atomic_write
from otter_ray.space import StudyOptions
from otter_ray.study.journal import AtomicJournalBackend, open_journal, repair_journal
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.storage import Storage
from otter_ray.study.trials import read_records
from otter_ray.tune.driver.checkpoint_retention import CheckpointSweeper, unneeded


def add(study, state, value=None, **notes):
    study.add_trial(
        create_trial(
            state=state,
            value=value if state == TrialState.COMPLETE else None,
            intermediate_values={} if value is None else {1: value},
            user_attrs=notes if value is None else {"curve/1": {"epoch": 1}, **notes},
        )
    )


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_last_of_the_living_and_the_best_of_the_best_are_kept(mode):
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    sign = 1 if mode == "max" else -1
    add(study, TrialState.COMPLETE, sign * 0.2)
    add(study, TrialState.PRUNED, sign * 0.9)
    add(study, TrialState.RUNNING, sign * 0.1)
    add(study, TrialState.FAIL, sign * 0.99)
    add(study, TrialState.COMPLETE, sign * 0.5)
    add(study, TrialState.WAITING)
    gone = {name.split("/", 1)[1] for name in unneeded(read_records(study), StudyOptions(mode=mode), 3)}
    assert gone == {
        "0000/checkpoints/last.ckpt",
        "0001/checkpoints/last.ckpt",
        "0003/checkpoints/last.ckpt",
        "0003/checkpoints/best.ckpt",
        "0004/checkpoints/last.ckpt",
    }
    # A running trial takes no place of a candidate: it may yet fail.
    add(study, TrialState.RUNNING, sign * 0.95)
    assert {
        name.split("/", 1)[1] for name in unneeded(read_records(study), StudyOptions(mode=mode), 3)
    } == gone
    fewer = {name.split("/", 1)[1] for name in unneeded(read_records(study), StudyOptions(mode=mode), 2)}
    assert fewer - gone == {"0000/checkpoints/best.ckpt"}


def test_the_base_configs_best_is_kept_however_bad_it_is():
    study = optuna.create_study(direction="maximize")
    add(study, TrialState.COMPLETE, 0.1, values={})
    for value in (0.2, 0.9):
        add(study, TrialState.COMPLETE, value, values={"key": 1})
    best = [name for name in unneeded(read_records(study), StudyOptions(), 1) if name.endswith("best.ckpt")]
    assert best == ["trials/0001/checkpoints/best.ckpt"]


@pytest.mark.parametrize("has_storage", [False, True])
def test_checkpoints_are_deleted_here_and_where_they_are_kept(tmp_path, monkeypatch, printed, has_storage):
    study = optuna.create_study(direction="maximize")
    folder = StudyFolder(tmp_path / "study")
    storage = Storage(str(tmp_path / "kept")) if has_storage else None
    for value in (0.1, 0.9):
        add(study, TrialState.COMPLETE, value)
    names = [f"trials/{number:04d}/checkpoints/{kind}.ckpt" for number in (0, 1) for kind in ("best", "last")]
    for root in (folder.path, tmp_path / "kept"):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    sweeper = CheckpointSweeper(study, folder, storage, StudyOptions(), 1)
    with monkeypatch.context() as patch:
        # One request that fails costs neither the search nor the room.
        patch.setattr(Storage, "exists", lambda self, name: (_ for _ in ()).throw(StudyError("away")))
        sweeper.sweep()
    assert ("cannot be deleted: away" in printed()) == has_storage
    sweeper.sweep()
    for root in (folder.path, *([tmp_path / "kept"] if has_storage else [])):
        assert [name for name in names if (root / name).exists()] == ["trials/0001/checkpoints/best.ckpt"]


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "best.yaml"
    path.write_text("old")

    def half():
        with atomic_write(path) as partial:
            partial.write_text("ne")
            raise OSError(28, "the disk is full")

    with pytest.raises(OSError, match="full"):
        half()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"best.yaml": "old"}
    with atomic_write(path) as partial:
        partial.write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"best.yaml": "new"}


@pytest.fixture
def folder(tmp_path):
    """A study of two trials."""
    folder = StudyFolder(tmp_path)
    study = open_study(folder, StudyOptions())
    for value in (0.5, 0.6):
        trial = study.ask()
        trial.report(value, 1)
        study.tell(trial, value)
    return folder


def values(folder):
    return [trial.value for trial in open_study(folder, StudyOptions()).trials]


@pytest.mark.parametrize("cut", range(1, 70, 4))
def test_a_line_that_was_cut_off_is_taken_back(folder, cut):
    whole = folder.journal.read_bytes()
    last = len(whole.splitlines()[-1]) + 1
    folder.journal.write_bytes(whole[: len(whole) - min(cut, last - 1)])
    study = open_study(folder, StudyOptions())
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    # What comes next can be read.
    study.tell(1, 0.7)
    assert values(folder) == [0.5, 0.7]


@pytest.mark.parametrize("tail", [b"\0" * 9, b"\0" * 70_000, b"\0\0\n", b'{"op'])
def test_what_a_power_cut_leaves_is_taken_back(folder, tail):
    whole = folder.journal.read_bytes()
    folder.journal.write_bytes(whole + tail)
    assert values(folder) == [0.5, 0.6]
    assert folder.journal.read_bytes() == whole


def test_a_whole_line_of_something_else_is_left_and_told(folder):
    folder.journal.write_bytes(folder.journal.read_bytes() + b"not ours\n")
    with pytest.raises(StudyError, match=r"its last line cannot be read.*--resume"):
        repair_journal(folder.journal)
    assert folder.journal.read_bytes().endswith(b"not ours\n")


def test_a_lock_of_a_dead_driver_is_removed(folder):
    os.symlink(folder.journal, f"{folder.journal}.lock")
    assert values(folder) == [0.5, 0.6]


def test_a_line_that_could_not_be_written_leaves_no_trace(folder, monkeypatch):
    """The disk is full after half of it: Optuna's own backend would write the next one behind it."""
    before = folder.journal.read_bytes()
    backend = AtomicJournalBackend(str(folder.journal))
    fsync = os.fsync

    def full(number):
        os.ftruncate(number, len(before) + 9)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        backend.append_logs([{"op_code": 8, "trial_id": 0}])
    assert folder.journal.read_bytes() == before
    monkeypatch.setattr(os, "fsync", fsync)
    backend.append_logs([{"worker_id": "x"}])
    assert json.loads(folder.journal.read_bytes().splitlines()[-1]) == {"worker_id": "x"}


def test_lines_that_belong_together_wait_for_the_disk_once(folder, monkeypatch):
    backend, waits, fsync = AtomicJournalBackend(str(folder.journal)), [], os.fsync

    def counted(number):
        waits.append(number)
        fsync(number)

    monkeypatch.setattr(os, "fsync", counted)
    with backend.batched_writes():
        for name in "ab":
            backend.append_logs([{"worker_id": name}])
        assert folder.journal.read_bytes().endswith(b'{"worker_id":"a"}\n{"worker_id":"b"}\n')
        assert not waits
    assert len(waits) == 1
    backend.append_logs([{"worker_id": "c"}])
    assert len(waits) == 2


def test_the_report_reads_while_a_line_is_being_written(folder):
    """Readers do not mend: who writes is alive."""
    folder.journal.write_bytes(folder.journal.read_bytes() + b'{"op')
    storage = open_journal(folder.journal)
    assert len(storage.get_all_trials(0)) == 2
