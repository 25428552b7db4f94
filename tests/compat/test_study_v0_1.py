"""Studies that otter_ray 0.1.0 wrote (commit 88bfbc3) are read, resumed, extended, exported and started from.

The `report.html` of the finished study is left out: it weighs 5 MB, and a report is drawn again anyway.
"""

import json
import shutil
from pathlib import Path

import pytest

from otter_ray.errors import StudyError
from otter_ray.report.__main__ import report
from otter_ray.study.journal import newest_study, open_journal
from otter_ray.study.schema import FORMAT, FORMAT_VERSION, METRIC
from otter_ray.study.trials import read_records
from otter_ray.tune.worker.forks import SWITCH
from tests.support.commands import run_here

HERE = Path(__file__).with_name("study_v0_1")
SETS = [
    "--set", "trainer.max_epochs=3",
    "--set", "trainer.accelerator=cpu",
    "--set", "dataset.valid_options.options.count=128",
    "--set", "dataloader.train_options.num_workers=0",
]  # fmt: skip
FINISHED = [*SETS, "--set", "dataset.train_options.options.count=256"]
INTERRUPTED = [*SETS, "--set", "dataset.train_options.options.count=1024"]
DONE = ("complete", "pruned")


@pytest.fixture
def project(tmp_path):
    """A copy of the project with its two studies."""
    return shutil.copytree(HERE, tmp_path / "project")


def study_in(project, name):
    return newest_study(open_journal(project / "runs/frozen" / name / "study.journal"))


def records(project, name):
    return read_records(study_in(project, name))


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("finished", ["complete", "complete", "pruned", "pruned"]),
        ("interrupted", ["complete", "pruned", "unfinished", "unfinished"]),
    ],
)
def test_a_study_is_reported_on(project, capsys, name, states):
    report([project / "runs/frozen" / name])
    assert [record.state for record in records(project, name)] == states
    assert "valid_accuracy" in capsys.readouterr().out
    assert (project / "runs/frozen" / name / "report.html").stat().st_size > 100_000


def test_a_dry_run_of_a_resume_checks_it_and_changes_nothing(project, fork_server, monkeypatch):
    monkeypatch.setenv(SWITCH, fork_server)
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    resume = ["--name", "interrupted", "--resume", "--dry-run"]

    def content():
        return {path: path.read_bytes() for path in (project / "runs").rglob("*") if path.is_file()}

    before = content()
    done = run_here("otter_ray.tune", "frozen", *INTERRUPTED, *resume)
    assert done.returncode == 0, done.stderr
    assert "plan: 10 trials" in done.stdout  # of 12, two of which have ended
    changed = run_here("otter_ray.tune", "frozen", *INTERRUPTED, "--set", "common.seed=9", *resume)
    assert changed.returncode == 2
    assert "common.seed: 0 -> 9" in changed.stderr
    assert content() == before


def test_the_interrupted_study_ends_with_every_trial_exactly_once(project, tune):
    before = records(project, "interrupted")
    code, output = tune(
        "frozen", *INTERRUPTED, "--trials", 5, "--resume", "--name", "interrupted", folder=project
    ).end()
    assert code == 0, output
    after = records(project, "interrupted")
    assert [record.number for record in after] == [0, 1, 2, 3, 4]
    assert all(record.state in DONE for record in after), [record.state for record in after]
    ended = [record for record in before if record.state in DONE]
    assert after[: len(ended)] == ended


def test_the_finished_study_is_extended_exported_and_started_from(project, tune, monkeypatch):
    before = records(project, "finished")
    arguments = [*FINISHED, "--resume", "--name", "finished", "--trials", 5]
    code, output = tune("frozen", *arguments, folder=project).end()
    assert code == 0, output
    after = records(project, "finished")
    assert after[:4] == before
    assert after[4].state in DONE
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    exported = run_here("otter_ray.export", "runs/frozen/finished", "--folder", "exported")
    assert exported.returncode == 0, exported.stderr
    [file] = (project / "exported").glob("*.json")
    facts = json.loads(file.read_text())
    assert facts["gate"]["metrics"]["valid_accuracy"] > 0.25
    arguments = [*FINISHED, "--warm-start", "finished", "--trials", 2, "--name", "warm"]
    code, output = tune("frozen", *arguments, folder=project).end()
    assert code == 0, output
    best = max(after[1:], key=lambda record: record.value)
    assert records(project, "warm")[1].values == best.values


def test_a_journal_carries_its_format(project):
    study = study_in(project, "finished")
    assert FORMAT not in study.user_attrs
    study.set_user_attr(FORMAT, FORMAT_VERSION)
    assert study_in(project, "finished").user_attrs[METRIC] == "valid_accuracy"


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "2.0"])
def test_a_format_of_the_future_is_refused(project, version):
    study_in(project, "finished").set_user_attr(FORMAT, version)
    with pytest.raises(
        StudyError, match=f"finished: its journal has format version {version}.*Upgrade otter_ray"
    ):
        study_in(project, "finished")
