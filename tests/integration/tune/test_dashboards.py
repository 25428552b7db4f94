"""A study in the dashboards that people know: TensorBoard and optuna-dashboard, asked over HTTP."""

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.trial import TrialState, create_trial
from tensorboard import program

from otter_ray.space import StudyOptions
from otter_ray.study.journal import newest_study, open_journal
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.trials import read_records
from tests.support.commands import wait_for

METRIC = "valid_fpr@4"


def ask(url, **question):
    """What is answered, from JSON; None where nobody listens yet. A question makes it a POST."""
    data = json.dumps(question).encode() if question else None
    try:
        with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
            return json.load(answer)
    except HTTPError as exc:
        pytest.fail(f"{url}: {exc}: {exc.read().decode()}")
    except URLError:
        return None


def rows_of(folder):
    return read_records(newest_study(open_journal(folder / "study.journal")))


@pytest.fixture(scope="module")
def tensorboard(searched):
    """The address of TensorBoard on the study's folder, and its runs once it has read them."""
    board = program.TensorBoard()
    argv = ["", "--logdir", str(searched[0]), "--port", "0", "--load_fast", "false"]
    # All is read before anything is answered.
    board.configure(argv=[*argv, "--reload_task", "blocking", "--reload_interval", "0"])
    url = board.launch()
    return url, wait_for(lambda: ask(f"{url}data/runs"))


def test_tensorboards_runs_are_named_by_their_trials(tensorboard):
    assert sorted(tensorboard[1]) == [f"trials/{number:04d}/logger" for number in range(4)]


def test_every_trial_is_in_the_hparams_table_with_what_was_searched_and_the_metric(searched, tensorboard):
    url, _ = tensorboard
    url = f"{url}data/plugin/hparams"
    table = ask(f"{url}/experiment", experimentName="")
    assert METRIC in [info["name"]["tag"] for info in table["metricInfos"]]
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    columns = [{"hparam": info["name"], "includeInResult": True} for info in table["hparamInfos"]]
    question = {"allowedStatuses": statuses, "colParams": columns, "startIndex": 0, "sliceSize": 100}
    groups = ask(f"{url}/session_groups", **question)["sessionGroups"]
    rows = {f"demo/{row.number:04d}": row for row in rows_of(searched[0])}
    assert sorted(group["name"].split()[0] for group in groups) == sorted(rows)
    for group in groups:
        row = rows[group["name"].split()[0]]
        names = {"optimizer.options.lr", "model.loss.name", "model.loss.options.s", "model.loss.options.m"}
        assert set(group["hparams"]) == names
        assert {**group["hparams"], **row.values} == pytest.approx(group["hparams"])
        values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
        assert values[METRIC] == pytest.approx(row.curve[-1])
        assert "hp_metric" not in values
        [session] = group["sessions"]
        assert session["status"] == "STATUS_SUCCESS"


@contextmanager
def dashboard(journal):
    """The address of `optuna-dashboard JOURNAL`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("optuna-dashboard"), "--quiet", "--port", str(port), journal]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


def test_optuna_dashboard_opens_the_journal(searched):
    with dashboard(searched[0] / "study.journal") as url:
        [study] = wait_for(lambda: ask(f"{url}api/studies"), 120)["study_summaries"]
        found = ask(f"{url}api/studies/{study['study_id']}")
    rows = rows_of(searched[0])
    assert [trial["number"] for trial in found["trials"]] == [row.number for row in rows]
    states = {"complete": "Complete", "pruned": "Pruned"}
    assert [trial["state"] for trial in found["trials"]] == [states[row.state] for row in rows]
    curves = [[step["value"] for step in trial["intermediate_values"]] for trial in found["trials"]]
    assert curves == [pytest.approx(row.curve) for row in rows]


def test_optuna_dashboard_opens_objectives_and_runs_that_are_to_come(tmp_path):
    """A journal as finalists' runs leave it: trials without parameters, begun before they were trained."""
    import optuna_dashboard

    options = StudyOptions(objectives={"macs": "min"})
    study = open_study(StudyFolder(tmp_path), options)
    notes = {"values": {"common.seed": 1}, "finalist": 5}
    steps = {1: 0.25, 2: 0.5}
    study.add_trial(create_trial(values=[0.5, 2e6], user_attrs=notes, intermediate_values=steps))
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=notes))
    app = optuna_dashboard.wsgi(open_journal(tmp_path / "study.journal"))

    def answer(path):
        environment = {"PATH_INFO": path}
        setup_testing_defaults(environment)
        return json.loads(b"".join(app(environment, lambda *about: None)))

    [summary] = answer("/api/studies")["study_summaries"]
    assert summary["directions"] == ["maximize", "minimize"]
    found = answer(f"/api/studies/{summary['study_id']}")
    assert found["objective_names"] == [options.metric, "macs"]
    assert [(trial["state"], trial.get("values")) for trial in found["trials"]] == [
        ("Complete", [0.5, 2e6]),
        ("Running", None),
    ]
