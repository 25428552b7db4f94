"""Every file of a study that is read back, damaged in every way: it is named, and the rest is read."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otter_ray.errors import FileError, OtterError, StudyError
from otter_ray.report.study_data import StudyData
from otter_ray.space import StudyOptions
from otter_ray.study.diff import compare
from otter_ray.study.journal import open_journal
from otter_ray.study.layout import JOURNAL, StudyFolder
from otter_ray.study.opening import open_study, study_lock
from otter_ray.study.storage import storage_of
from otter_ray.tune.constraints import ModelStatsCache
from otter_ray.tune.request import load_problem, load_study
from tests.support import damage, made_study
from tests.support.damage import DAMAGES, as_nobody

pytestmark = pytest.mark.timeout(60)  # a FIFO that is read waits for ever
CURVE_OF = {"title": "ROC", "x_title": "x", "y_title": "y", "log_x": True, "x": [0.1], "y": [0.2],
            "mark": {"x": 0.1, "y": 0.2, "text": "t"}}  # fmt: skip
SHOWN = ["config.yaml", "space.yaml", "environment.json", "gallery.json", "demo_fp32.json",
         "finals/study.journal"]  # fmt: skip


@pytest.fixture(scope="module")
def made():
    """A finished study, where a process without rights can see it."""
    folder = Path(tempfile.mkdtemp(prefix="otter_ray_test_")) / "runs/demo/whole"
    data = made_study.make(folder, made_study.drawn(3))
    made_study.export(data, 0, {"curves": [CURVE_OF]})
    made_study.make(folder / "finals", [])
    (folder / "finals/trials/0000").mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps({"command": ["python"], "gpus": [{"name": "a"}]}))
    (folder / "figures.json").write_text(json.dumps({"figures": {"a": {"macs": 1.0}}, "tried": ["b"]}))
    (folder / "storage.txt").write_text("/kept/demo/whole\n")
    for number in range(3):
        (folder / f"trials/{number:04d}").mkdir(parents=True)
    folder.parents[2].chmod(0o755)
    yield folder
    shutil.rmtree(folder.parents[2])


@pytest.fixture
def folder(made):
    """A copy."""
    copy = Path(shutil.copytree(made, made.with_name("copy")))
    yield copy
    shutil.rmtree(copy)


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("hurt", DAMAGES)
def test_a_report_names_what_it_cannot_read_and_shows_the_rest(folder, name, hurt):
    hurt(folder / name)
    with as_nobody():
        data = StudyData.open(folder)
        [error] = data.unreadable() or [""]
    # Half a line of a journal is one that is being written.
    assert (str(folder / name) in error) or (hurt, name) == (damage.torn, SHOWN[-1])
    assert len(data.rows) == 3
    assert (data.config is None) == (name == "config.yaml")
    assert (data.space is None) == (name == "space.yaml")
    assert (data.environment == {}) == (name == "environment.json")
    assert (data.model is None) == (name == "demo_fp32.json")
    assert (data.pictures == {}) == (name in ("demo_fp32.json", "gallery.json"))


@pytest.mark.parametrize("hurt", DAMAGES)
def test_a_journal_that_cannot_be_read_is_named(folder, hurt):
    hurt(folder / JOURNAL)
    with as_nobody():
        if hurt is damage.torn:
            assert len(StudyData.open(folder).rows) < 3
            return
        with pytest.raises(OtterError, match=f"{folder / JOURNAL}: .*Restore it from a copy"):
            StudyData.open(folder)


ALIEN = [
    b"[]",
    b"{}",
    b"7",
    b'{"op_code": 99}',
    b'{"op_code": 4}',
    b'{"op_code": 8, "trial_id": 0}',
    b"\xff\xfe",
    b'{"op_code": 2, "worker_id": "a", "study_id": 0, "user_attr": {"objectives": [1]}}',
]


@pytest.mark.parametrize("line", ALIEN)
def test_a_line_that_optuna_has_not_written_is_no_bug(folder, line):
    lines = (folder / JOURNAL).read_bytes().splitlines()
    (folder / JOURNAL).write_bytes(b"\n".join([*lines[:-2], line, *lines[-2:]]) + b"\n")
    with pytest.raises(FileError, match=f"{folder / JOURNAL}: cannot be read as a study's journal"):
        StudyData.open(folder)


@pytest.mark.parametrize("hurt", DAMAGES)
def test_a_study_whose_journal_is_lost_is_neither_resumed_nor_begun_again(folder, hurt):
    journal = folder / JOURNAL
    hurt(journal)
    before = journal.read_bytes() if journal.is_file() and not journal.is_symlink() else None
    with as_nobody():
        if hurt in (damage.torn, damage.anothers):
            return
        with pytest.raises(OtterError, match=f"{journal}: "):
            open_study(StudyFolder(folder), StudyOptions())
    # Somebody may be able to restore it.
    assert before is None or journal.read_bytes() == before


def test_a_journal_without_its_first_line_is_not_that_of_a_new_study(folder):
    """Optuna passes over all lines of a study that does not exist."""
    journal = folder / JOURNAL
    journal.write_bytes(journal.read_bytes().partition(b"\n")[2])
    assert open_journal(journal).get_all_studies() == []
    begun = []
    lost = f"{journal}: the beginning of study copy is missing. It has trials in .*trials.*another --name"
    with pytest.raises(StudyError, match=lost):
        open_study(StudyFolder(folder), StudyOptions(), begin=begun.append)
    with pytest.raises(StudyError, match=lost):
        StudyData.open(folder)
    # Its trials may be in a storage alone.
    shutil.rmtree(folder / "trials")
    with pytest.raises(StudyError, match=r"the beginning of study copy is missing\. Restore"):
        open_study(StudyFolder(folder), StudyOptions(), begin=begun.append)
    journal.unlink()
    (folder / "trials/0000").mkdir(parents=True)
    with pytest.raises(StudyError, match=lost):
        open_study(StudyFolder(folder), StudyOptions(), begin=begun.append)
    assert begun == []


RESUMED = {
    "config.yaml": lambda folder: load_study(folder, None, []),
    "space.yaml": lambda folder: compare(folder, load_problem("demo", None, [])),
    "storage.txt": storage_of,
    "figures.json": lambda folder: ModelStatsCache(["macs"], folder.path / "figures.json"),
}


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("hurt", DAMAGES)
def test_a_resume_names_what_it_cannot_read(folder, name, hurt):
    hurt(folder / name)
    if name == "storage.txt" and hurt in (damage.torn, damage.another):
        return  # any text may be a path
    with as_nobody(), pytest.raises(OtterError, match=f"{folder / name}:"):
        RESUMED[name](StudyFolder(folder))


def test_a_folder_that_cannot_be_written_is_named(folder):
    message = f"{folder}/.lock: cannot be written"
    folder.chmod(0o555)
    with as_nobody(), pytest.raises(StudyError, match=message), study_lock(StudyFolder(folder)):
        pytest.fail("it has been locked")
    folder.chmod(0o755)
    (folder / ".lock").mkdir()
    with pytest.raises(StudyError, match=message), study_lock(StudyFolder(folder)):
        pytest.fail("it has been locked")


def test_the_command_draws_what_it_can(folder):
    import typer

    from otter_ray.report.__main__ import report

    for name in SHOWN:
        damage.torn(folder / name)
    app = typer.Typer()
    app.command()(report)
    done = CliRunner().invoke(app, [str(folder)])
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text()
    for name in SHOWN[:-1]:
        assert f"{folder / name}" in done.output
        assert f"Left out: {folder / name}" in page
