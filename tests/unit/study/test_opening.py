import dataclasses
import fcntl
import io
import os
import re
import threading
from datetime import datetime
from unittest.mock import Mock

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from otter_ray.config import load_config
from otter_ray.direction import Direction
from otter_ray.errors import StudyError
from otter_ray.report.tables import trials_table
from otter_ray.space import StudyOptions
from otter_ray.study import opening
from otter_ray.study.layout import LOCK, StudyFolder
from otter_ray.study.opening import (
    base_config_of,
    create_folder,
    is_locked,
    open_folder,
    open_or_create_in_storage,
    open_study,
    refuse_links_out,
    study_lock,
)
from otter_ray.study.status import TrialStatus
from otter_ray.study.storage import storage_of
from otter_ray.study.trials import TrialRecord, rank, write_parquet
from otter_ray.tune.samplers.factory import make_sampler


def make(runs, name):
    folder = create_folder(runs, "demo", name)
    open_study(folder, StudyOptions())
    return folder


def test_an_existing_name_says_how_to_resume_or_rename(tmp_path):
    make(tmp_path, "first")
    with pytest.raises(StudyError, match=r"'first' exists.*--resume.*--name"):
        create_folder(tmp_path, "demo", "first")


def test_studies_that_nobody_named_begin_in_the_same_second(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "datetime", Mock(now=lambda: datetime(2026, 11, 30, 12, 0, 0)))
    names = [create_folder(tmp_path, "demo", None).name for _ in range(3)]
    assert names == ["20261130-120000", "20261130-120000-2", "20261130-120000-3"]
    place = str(tmp_path / "kept")
    (tmp_path / "kept/demo/20261130-120000-4").mkdir(parents=True)
    (tmp_path / "kept/demo/20261130-120000-4/study.journal").touch()
    folder, storage = open_or_create_in_storage(tmp_path, "demo", None, place, resume=False)
    assert (folder.name, storage.uri) == ("20261130-120000-5", f"{place}/demo/20261130-120000-5")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"file/demo/x cannot be .*--runs"):
        create_folder(tmp_path / "file", "demo", "x")


def test_resuming_takes_the_newest_and_lists_what_there_is(tmp_path):
    make(tmp_path, "first")
    newest = make(tmp_path, "second")
    os.utime(newest.journal, (2e9, 2e9))  # no trial has begun in either
    assert open_folder(tmp_path, "demo", None).path == newest.path
    with pytest.raises(StudyError, match="There are: first, second"):
        open_folder(tmp_path, "demo", "third")
    with pytest.raises(StudyError, match="none yet"):
        open_folder(tmp_path, "other", None)


@pytest.mark.parametrize("zone", ["", "+00:00"], ids=["optuna 4", "optuna 5"])
def test_the_newest_study_is_that_whose_journal_says_so(tmp_path, zone):
    """A copy's files are younger than what is in them."""
    older, newer = make(tmp_path, "a"), make(tmp_path, "b")
    for folder in (older, newer):
        study = open_study(folder, StudyOptions())
        study.tell(study.ask(), 0.5)
    journal = re.sub(r'(T[0-9:.]+)\+00:00"', rf'\1{zone}"', newer.journal.read_text())
    newer.journal.write_text(journal)
    older.journal.write_text(re.sub("20[0-9]{2}-", "2019-", older.journal.read_text()))
    os.utime(older.journal, (2e9, 2e9))
    assert open_folder(tmp_path, "demo", None).name == "b"
    broken = make(tmp_path, "broken")
    broken.journal.unlink()
    os.mkfifo(broken.journal)
    os.utime(broken.journal, (1e9, 1e9))
    assert open_folder(tmp_path, "demo", None).name == "b"


def test_a_study_has_one_driver(tmp_path):
    folder = make(tmp_path, "first")
    with (
        study_lock(folder),
        pytest.raises(StudyError, match="running in another process"),
        study_lock(folder),
    ):
        pass
    with study_lock(folder):
        pass


def test_a_resumed_study_draws_other_random_numbers(tmp_path):
    options = StudyOptions(sampler={"name": "RandomSampler"})
    folder = create_folder(tmp_path, "demo", "first")
    first, second = (
        open_study(folder, options, make_sampler(options, 0)).ask().suggest_float("x", 0, 1) for _ in range(2)
    )
    assert first != second


def test_a_renamed_study_is_still_one_study(tmp_path):
    folder = make(tmp_path, "first")
    open_study(folder, StudyOptions()).ask()
    moved = StudyFolder(folder.path.rename(tmp_path / "moved"))
    assert len(open_study(moved, StudyOptions()).trials) == 1


def row(number, value, state="complete", **values):
    return TrialRecord(
        number,
        number == 0,
        TrialStatus(state),
        value,
        1,
        1,
        values,
        [value],
        [{"epoch": 1, "loss": 0.5}],
        1.0,
        "host",
        None,
        f"trials/{number:04d}/log.txt",
        None,
    )


def test_parquet_holds_a_column_for_each_key_and_mixed_types(tmp_path):
    rows = [row(0, 0.1), row(1, 0.2, a=1, b="x"), row(2, 0.3, a="one", b="y")]
    write_parquet(rows, tmp_path / "trials.parquet", load_config("demo"))
    table = pq.read_table(tmp_path / "trials.parquet").to_pydict()
    assert table["a"] == [None, "1", "one"]
    assert table["value"] == [0.1, 0.2, 0.3]


def test_parquet_has_plain_columns_for_parameters_and_metrics(tmp_path):
    """The base config's trial has its own values, and a metric is a number."""
    lr, name = "optimizer.options.lr", "model.loss.name"
    changed = dataclasses.replace(row(1, 0.3), values={lr: 0.01, "absent.key": 1}, best_epoch=2, epochs=3)
    epochs = [{"epoch": epoch, "loss": loss} for epoch, loss in ((1, 0.9), (2, 0.4), (3, 0.5))]
    earlier = dataclasses.replace(row(2, 0.2), values={name: "ArcFace"}, config="config.1.yaml")
    rows = [row(0, 0.1), dataclasses.replace(changed, metrics=epochs), earlier]
    write_parquet(rows, tmp_path / "trials.parquet", load_config("demo"))
    table = pq.read_table(tmp_path / "trials.parquet").to_pydict()
    assert table[lr] == [0.003, 0.01, None]  # the third had another config
    assert table[name] == ["CosFace", "CosFace", "ArcFace"]
    assert table["metrics.loss"] == [0.5, 0.4, 0.5]
    assert table["curves.loss"] == [[0.5], [0.9, 0.4, 0.5], [0.5]]
    assert "metrics.epoch" not in table
    kinds = {str(column.type) for column in pq.read_schema(tmp_path / "trials.parquet")}
    assert kinds <= {"int64", "double", "bool", "string", "list<element: double>", "null"}, kinds


@pytest.mark.parametrize(("mode", "order"), [(Direction.MAX, [2, 0, 1]), (Direction.MIN, [0, 1, 2])])
def test_ranking_breaks_ties_by_age(mode, order):
    rows = [row(0, 0.1), row(1, 0.1), row(2, 0.3), row(3, 0.9, "failed")]
    assert [found.number for found in rank(rows, mode)] == order


def test_brackets_in_an_error_are_no_markup():
    output = io.StringIO()
    broken = dataclasses.replace(row(1, None, "failed"), curve=[], error="cannot read [/data/x.jpg]")
    Console(file=output, width=200).print(
        trials_table([row(0, 0.1), broken], [], "valid_fpr@4", Direction.MAX)
    )
    assert "cannot read [/data/x.jpg] (trials/0001/log.txt)" in output.getvalue()


@pytest.mark.parametrize("name", ["../../other.yaml", "/etc/passwd", "trials/x.yaml", "", 7])
def test_a_journal_names_no_file_outside_the_study(tmp_path, demo, name):
    folder = make(tmp_path, "first")
    with pytest.raises(StudyError, match="which is no file of the study"):
        base_config_of(folder, name, demo[0])


def test_a_study_whose_files_lead_elsewhere_is_not_resumed(tmp_path):
    folder = make(tmp_path, "first")
    (tmp_path / "disk").mkdir()
    folder.path.joinpath("trials/0000").symlink_to(tmp_path / "disk")
    folder.path.joinpath("newest.txt").symlink_to(folder.journal)
    refuse_links_out(folder)
    (tmp_path / "profile").write_text("mine")
    folder.path.joinpath("changes.txt").symlink_to(tmp_path / "profile")
    with pytest.raises(StudyError, match=r"changes.txt is a link to .*profile.*Replace it"):
        refuse_links_out(folder)


def test_a_download_follows_no_link_out_of_the_study(tmp_path):
    """A study's folder and its storage may both be somebody else's."""
    runs, place = tmp_path / "runs", str(tmp_path / "theirs")
    folder, _ = open_or_create_in_storage(runs, "demo", "a", place, resume=False)
    theirs, mine = tmp_path / "theirs/demo/a", tmp_path / "mine.txt"
    theirs.mkdir(parents=True)
    for name in ("study.journal", "config.yaml"):
        (theirs / name).write_text("theirs\n")
    mine.write_text("mine\n")
    (folder.path / "config.yaml").symlink_to(mine)
    with pytest.raises(StudyError, match="is a link to"):
        open_or_create_in_storage(runs, "demo", "a", place, resume=True)
    assert mine.read_text() == "mine\n"


def test_a_login_in_a_studys_own_file_is_refused(tmp_path):
    folder = make(tmp_path, "a")
    (folder.path / "storage.txt").write_text("s3://KEY:SECRET@bucket/demo/a\n")
    with pytest.raises(StudyError, match="holds a secret") as caught:
        storage_of(folder)
    assert "KEY:" not in str(caught.value)


def test_a_look_at_the_lock_keeps_no_study_from_starting(tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    with study_lock(folder):
        pass
    look = os.open(folder.path / LOCK, os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    timer = threading.Timer(0.1, os.close, [look])
    timer.start()
    with study_lock(folder):
        assert is_locked(folder)
    timer.join()
