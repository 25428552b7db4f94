import dataclasses
import io
import os

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from otter_ray.config import StudyOptions
from otter_ray.errors import StudyError
from otter_ray.report.rows import TrialRow, rank, write_parquet
from otter_ray.report.tables import trials_table
from otter_ray.tune.folder import (
    StudyFolder,
    create_folder,
    open_folder,
    open_study,
    sole_driver,
)


def make(runs, name):
    folder = create_folder(runs, "demo", name)
    open_study(folder, StudyOptions())
    return folder


def test_an_existing_name_says_how_to_resume_or_rename(tmp_path):
    make(tmp_path, "first")
    with pytest.raises(StudyError, match=r"'first' exists.*--resume.*--name"):
        create_folder(tmp_path, "demo", "first")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"file/demo/x cannot be .*--runs"):
        create_folder(tmp_path / "file", "demo", "x")


def test_resuming_takes_the_newest_and_lists_what_there_is(tmp_path):
    make(tmp_path, "first")
    newest = make(tmp_path, "second")
    os.utime(newest.journal, (2e9, 2e9))
    assert open_folder(tmp_path, "demo", None).path == newest.path
    with pytest.raises(StudyError, match="There are: first, second"):
        open_folder(tmp_path, "demo", "third")
    with pytest.raises(StudyError, match="none yet"):
        open_folder(tmp_path, "other", None)


def test_a_study_has_one_driver(tmp_path):
    folder = make(tmp_path, "first")
    with (
        sole_driver(folder),
        pytest.raises(StudyError, match="running in another process"),
        sole_driver(folder),
    ):
        pass
    with sole_driver(folder):
        pass


def test_a_resumed_study_draws_other_random_numbers(tmp_path):
    options = StudyOptions(sampler={"name": "RandomSampler"})
    folder = create_folder(tmp_path, "demo", "first")
    first = open_study(folder, options).ask().suggest_float("x", 0, 1)
    assert open_study(folder, options).ask().suggest_float("x", 0, 1) != first


def test_a_renamed_study_is_still_one_study(tmp_path):
    folder = make(tmp_path, "first")
    open_study(folder, StudyOptions()).ask()
    moved = StudyFolder(folder.path.rename(tmp_path / "moved"))
    assert len(open_study(moved, StudyOptions()).trials) == 1


def row(number, value, state="complete", **values):
    return TrialRow(
        number,
        number == 0,
        state,
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
    write_parquet(rows, tmp_path / "trials.parquet")
    table = pq.read_table(tmp_path / "trials.parquet").to_pydict()
    assert table["a"] == [None, "1", "one"]
    assert table["value"] == [0.1, 0.2, 0.3]
    assert dict(table["metrics"][1][0])["loss"] == 0.5


@pytest.mark.parametrize(("mode", "order"), [("max", [2, 0, 1]), ("min", [0, 1, 2])])
def test_ranking_breaks_ties_by_age(mode, order):
    rows = [row(0, 0.1), row(1, 0.1), row(2, 0.3), row(3, 0.9, "failed")]
    assert [found.number for found in rank(rows, mode)] == order


def test_brackets_in_an_error_are_no_markup():
    output = io.StringIO()
    broken = dataclasses.replace(row(1, None, "failed"), curve=[], error="cannot read [/data/x.jpg]")
    Console(file=output, width=200).print(trials_table([row(0, 0.1), broken], [], "valid_fpr@4", "max"))
    assert "cannot read [/data/x.jpg] (trials/0001/log.txt)" in output.getvalue()
