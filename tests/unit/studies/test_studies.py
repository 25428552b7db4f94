"""`otter-ray studies`: real journals, whole and damaged, and nothing is written."""

import json
import os
import re
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from otter_ray.studies.__main__ import studies
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import study_lock
from otter_ray.study.schema import FINALISTS, WINNER
from tests.support import made_study
from tests.support.damage import as_nobody

TRIALS = 14  # that the demo's space asks for


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A finished study with a model, one with trials left, and a run without a search."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    data = made_study.make(tmp_path / "runs/demo/done", made_study.drawn(TRIALS))
    made_study.export(data, data.winner.number)
    made_study.make(tmp_path / "runs/demo/left", made_study.drawn(3), mode="min")
    (tmp_path / "runs/demo/run/checkpoints").mkdir(parents=True)
    return tmp_path / "runs"


def listed(*arguments):
    app = typer.Typer()
    app.command()(studies)
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def as_json(*arguments):
    code, output, _ = listed("--json", *arguments)
    assert code == 0
    return [json.loads(line) for line in output.splitlines()]


def everything(folder):
    return {path: path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_each_study_is_a_line(runs):
    before = everything(runs)
    code, output, _ = listed()
    assert code == 0
    done, left = (line.split() for line in output.splitlines() if " demo/" in line)
    assert done[:3] == ["demo/done", "finished", f"{TRIALS}/{TRIALS}"]
    assert done[-1] == "demo_fp32.onnx"
    assert done[4:6] == ["valid_fpr@4", "(max)"]
    assert left[:3] == ["demo/left", "interrupted", f"3/{TRIALS}"]
    assert left[-1] == "-"
    assert everything(runs) == before


def test_json_says_the_same(runs):
    done, left = as_json(runs)
    best = made_study.StudyData.open(runs / "demo/done").winner
    assert datetime.fromisoformat(done.pop("changed")).year == 2026
    assert done == {
        "config": "demo", "name": "done", "folder": str(runs / "demo/done"), "state": "finished",
        "trials": TRIALS, "asked": TRIALS, "metric": "valid_fpr@4", "mode": "max", "value": best.value,
        "trial": best.number, "onnx": str(runs / "demo/done/demo_fp32.onnx"),
    }  # fmt: skip
    assert (left["name"], left["mode"], left["onnx"]) == ("left", "min", None)


def test_a_study_that_a_process_holds_is_running(runs):
    with study_lock(StudyFolder(runs / "demo/left")):
        assert [entry["state"] for entry in as_json()] == ["finished", "running"]
        with study_lock(StudyFolder(runs / "demo/done")):
            assert [entry["state"] for entry in as_json()] == ["running", "running"]
    assert [entry["state"] for entry in as_json()] == ["finished", "interrupted"]


def test_finalists_that_are_left_make_a_study_interrupted(runs):
    space = runs / "demo/done/space.yaml"
    space.write_text(space.read_text() + "  finalists: {top: 2, seeds: 2}\n")
    data = made_study.StudyData.open(runs / "demo/done")
    data.study.set_user_attr("finalists", {"top": 2, "seeds": 2})
    assert as_json()[0]["state"] == "interrupted"


def test_what_cannot_be_read_is_named_in_one_line(runs):
    for name in ("torn", "lacking", "begun", "pipe"):
        shutil.copytree(runs / "demo/left", runs / "demo" / name)
    (runs / "demo/torn/study.journal").write_text("not\na journal\n")
    (runs / "demo/lacking/space.yaml").unlink()
    (runs / "demo/begun/study.journal").unlink()
    (runs / "demo/begun/trials").mkdir()
    (runs / "demo/pipe/space.yaml").unlink()
    os.mkfifo(runs / "demo/pipe/space.yaml")
    code, output, errors = listed()
    assert code == 0
    named = [line for line in output.splitlines() if "unreadable" in line]
    assert [line.partition(":")[0].rpartition("/")[2] for line in named] == [
        "begun",
        "lacking",
        "pipe",
        "torn",
    ]
    assert "Traceback" not in output + errors
    states = {entry["folder"].rpartition("/")[2]: entry["state"] for entry in as_json()}
    assert states == {
        "begun": "unreadable", "done": "finished", "lacking": "unreadable", "left": "interrupted",
        "pipe": "unreadable", "torn": "unreadable",
    }  # fmt: skip


def test_links_in_a_circle_end_and_a_link_to_another_disk_is_followed(runs, tmp_path):
    shutil.move(runs / "demo/left", tmp_path / "elsewhere")
    (runs / "demo/left").symlink_to(tmp_path / "elsewhere")
    (runs / "demo/again").symlink_to(runs)
    assert [entry["name"] for entry in as_json()] == ["done", "left"]


def test_a_link_takes_no_study_from_its_own_folder(runs):
    (runs / "current").symlink_to(runs / "demo/left")
    assert [(entry["config"], entry["name"]) for entry in as_json()] == [("demo", "done"), ("demo", "left")]


def test_a_folder_called_trials_hides_no_study(runs, tmp_path):
    (runs / "trials").mkdir()
    shutil.move(runs / "demo/left", runs / "trials/20260102-030405")
    (tmp_path / "trials/notes").mkdir(parents=True)
    found = [(entry["config"], entry["name"], entry["state"]) for entry in as_json(tmp_path)]
    assert found == [("demo", "done", "finished"), ("trials", "20260102-030405", "interrupted")]
    (tmp_path / "trials/0000").mkdir()
    lost, *others = as_json(tmp_path)
    assert (lost["folder"], lost["state"]) == (str(tmp_path), "unreadable")
    assert [entry["state"] for entry in others] == ["finished", "interrupted"]


def test_a_journal_of_something_else_ends_no_listing(runs):
    for name, key, value in (
        ("half", FINALISTS, {"top": 2}), ("listed", FINALISTS, [1]), ("won", WINNER, [1]),
        ("runs", FINALISTS, {"top": 2, "seeds": 2}),
    ):  # fmt: skip
        data = made_study.make(runs / "other" / name, made_study.drawn(2))
        data.study.set_user_attr(key, value)
        made_study.export(data, 0)
    made_study.make(runs / "other/runs/finals", made_study.drawn(2))
    code, output, errors = listed()
    assert code == 0
    assert "Traceback" not in output + errors
    named = {
        line.partition(":")[0].rpartition("/")[2]: line for line in output.splitlines() if ": un" in line
    }
    assert {*named} == {"half", "listed", "won", "runs"}
    assert "cannot be read as a study's journal: KeyError: 'seeds'" in named["half"]
    states = [entry["state"] for entry in as_json()]
    assert states == ["finished", "interrupted", *["unreadable"] * 4]


def test_no_secret_of_a_file_is_printed(runs):
    token = "ghp_" + "0aB1" * 9
    space = runs / "demo/left/space.yaml"
    space.write_text(re.sub(r"num_trials: \d+", f"num_trials: {token}", space.read_text()))
    for option in ((), ("--json",)):
        code, output, errors = listed(*option)
        assert code == 0
        assert token not in output + errors
        assert "***" in output


def test_one_study_no_study_and_no_folder(runs, tmp_path):
    assert [entry["name"] for entry in as_json("runs/demo/left")] == ["left"]
    (tmp_path / "empty").mkdir()
    assert listed("empty")[1].strip() == "no studies in empty"
    assert as_json("empty") == []
    code, _, errors = listed("nowhere")
    assert code == 2
    assert "nowhere: there is no such folder. Give the --runs of your studies." in errors


def test_a_closed_folder_is_named(runs):
    place = Path(tempfile.mkdtemp(prefix="otter_ray_test_"))
    try:
        shutil.copytree(runs, place / "runs")
        place.chmod(0o755)
        (place / "runs/demo/left").chmod(0)
        with as_nobody():
            found = as_json(place / "runs")
        (place / "runs/demo/left").chmod(0o755)
    finally:
        shutil.rmtree(place)
    assert [entry["state"] for entry in found] == ["finished", "unreadable"]
    assert "cannot be read: Permission denied" in found[1]["error"]
