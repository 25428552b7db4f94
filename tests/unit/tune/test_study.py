"""A study from Python: what it asks for, and what it gives back, without a Ray."""

import html
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import timedelta

import optuna
import pandas as pd
import pytest
import torch

from otter_ray import OtterError, Study
from otter_ray.config import Config, load_config, to_yaml
from otter_ray.errors import ConfigError, ExportError, StudyError
from otter_ray.space import load_space
from otter_ray.study.diff import check_or_record
from otter_ray.study.opening import create_folder
from otter_ray.train.checkpoint.checkpoint_io import read_checkpoint
from otter_ray.tune.selection.study_result import StudyResult
from tests.support import made_study
from tests.support.trained_study import add_trial, trained_study


def test_a_request_is_made_of_names_paths_or_objects(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(to_yaml(load_config("demo")))
    changes = {"optimizer.options.lr": 1e-5, "trainer.max_epochs": 2}
    given = Study(config, "demo", set=changes, trials=3, runs=tmp_path, time_budget=90, patience=4).request()
    assert given.problem.config.name == "mine"
    assert (given.runs, given.address, given.is_connected) == (tmp_path, None, False)
    assert (given.criteria.seconds, given.criteria.patience) == (90.0, 4)
    objects = Study(load_config("demo"), load_space("demo"), set=changes, trials=3).request().problem
    named = Study("demo", set=["optimizer.options.lr=0.00001", "trainer.max_epochs=2"], trials=3).request()
    assert objects == named.problem
    assert objects.config.get("optimizer.options.lr") == 1e-5
    assert objects.options.num_trials == 3
    assert Study(load_config("demo")).request().problem.space == load_space("demo")
    fewer = (
        Study("demo", load_space("demo"), set_space=["study.retries=1"], trials=2).request().problem.options
    )
    assert (fewer.retries, fewer.num_trials) == (1, 2)
    hours = Study("demo", set=None, enqueue=None, time_budget=timedelta(hours=2)).request()
    assert hours.criteria.seconds == 7200
    assert hours.problem.config == load_config("demo")


def test_the_folder_of_a_study_is_enough_to_resume_it(tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    problem = Study("demo", set={"common.seed": 5}, trials=3).request().problem
    check_or_record(folder, problem)
    wider = Study(folder.path, resume=True, set_space=["study.num_trials=9"]).request().problem.options
    assert wider.num_trials == 9
    request = Study(folder.path, resume=True).request()
    assert (request.name, request.runs) == ("first", tmp_path)
    assert request.problem.config.common.seed == 5
    with pytest.raises(StudyError, match="--name: 'other' is not the study in"):
        Study(folder.path, resume=True, name="other").request()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": "dmo"}, "no config 'dmo'.* Did you mean 'demo'"),
        ({"space": "demmo"}, "no search space 'demmo'.* Did you mean 'demo'"),
        ({"trials": 0}, "--trials: 0 is not a whole number >= 1"),
        ({"patience": True}, "--patience: True is not a whole number >= 1"),
        ({"time_budget": "soon"}, "--time-budget: 'soon' is not a duration"),
        ({"time_budget": float("inf")}, "--time-budget: inf is not a duration"),
        ({"name": "../other"}, "--name: '../other' cannot be the name"),
        ({"export": "all"}, "--export: 'all' is not a selection"),
        ({"set": {"optimizer.options": 3}}, "--set: optimizer.options: 3 is not a mapping"),
        ({"set": {"trainer.max_epochs": object()}}, "--set: trainer.max_epochs: cannot be set"),
        ({"set": {"study.num_trials": 3}}, "--set: study.num_trials: is a key of the search space"),
        ({"set": [1]}, r"set: \[1\] is neither a mapping nor a list of KEY=VALUE"),
        ({"set_space": {"study.num_trial": 3}}, "--set-space: study.num_trial: is not a known key"),
        ({"set_space": [1]}, r"set_space: \[1\] is neither a mapping nor a list of KEY=VALUE"),
        ({"set": "a.b=1"}, "set: 'a.b=1' is neither a mapping nor a list"),
        ({"enqueue": ({"lr": lr} for lr in (0.001,))}, "enqueue: <generator .* is not a list of mappings"),
        ({"time_budget": True}, "--time-budget: True is not a duration"),
        ({"time_budget": 10**400}, "--time-budget: 1000.* is not a duration"),
        ({"time_budget": timedelta(0)}, "--time-budget: .* is not a duration"),
        ({"export": None}, "--export: None is not a selection"),
        ({"name": 3}, "--name: 3 cannot be the name"),
        ({"config": 3}, "config: 3 is not a text or a path"),
        ({"space": 3}, "--space: 3 is not a text or a path"),
        ({"runs": None}, "--runs: None is not a text or a path"),
        ({"storage": b"x"}, "--storage: b'x' is not a text or a path"),
        ({"address": 3}, "--address: 3 is not a text or a path"),
        ({"config": Config.from_dict(load_config("demo").to_dict())}, "the config's name is ''"),
    ],
)  # fmt: skip
def test_mistakes_are_messages(arguments, message):
    with pytest.raises(OtterError, match=message) as raised:
        Study(**{"config": "demo", **arguments}).request()
    if isinstance(raised.value, ConfigError):
        assert len(raised.value.problems) <= 2


def test_asking_waits_for_no_import():
    code = (
        "import sys; from otter_ray import Study; Study('demo', trials=3).request(); "
        "print([name for name in ('torch', 'ray', 'optuna', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def as_it_is():
    """What a program and a study share; Ray and onnxruntime add folders of theirs when they are imported."""
    streams = sys.stdout, sys.stderr, sys.stdout.errors, sys.stderr.errors
    folders = [folder for folder in sys.path if "site-packages/" not in folder]
    return {**os.environ}, folders, streams, tempfile.tempdir, optuna.logging.get_verbosity()


def test_a_study_that_is_done_gives_its_result(tiny_config, tiny_run, tmp_path, capsys, monkeypatch):
    """Nothing is left to train: no Ray starts, but all else is what a command does."""
    context = trained_study(tmp_path / "runs", tiny_config, tiny_run.best)
    add_trial(context, tiny_run.best, 0.3)
    folder = context.folder.path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTTER_RAY_FORK_SERVER", "0")  # this process has imported torch already
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("HOME", raising=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    before = as_it_is()
    result = Study(tiny_config, trials=2, name="first", resume=True).run()
    assert as_it_is() == before
    assert (result.folder, result.is_interrupted) == (folder, False)
    best = result.best
    assert (best.trial, best.params) == (1, {"optimizer.options.lr": 0.001})
    assert best.value == best.facts["gate"]["recorded"]
    assert (best.onnx.parent, best.checkpoint) == (folder, folder / "best.ckpt")
    assert best.facts["gate"]["metric"] == "valid_fpr@4"
    pd.testing.assert_frame_equal(result.trials, pd.read_parquet(folder / "trials.parquet"))
    assert [*result.trials["value"]] == [0.2, 0.3]
    model = result.load()
    assert not model.training
    kept = read_checkpoint(best.checkpoint)["state_dict"]
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert f"onnx: {best.onnx}" in capsys.readouterr().out
    assert as_it_is() == before
    optuna.logging.set_verbosity(optuna.logging.INFO)


def test_a_model_of_a_trial_that_the_journal_lacks_is_named(tmp_path):
    made_study.export(made_study.make(tmp_path / "demo/first", made_study.drawn(3)), 7)
    with pytest.raises(ExportError, match="is about trial 7, which the study's journal"):
        _ = StudyResult(tmp_path / "demo/first", "docclassifier").best


def test_a_study_without_a_report_names_the_command_that_writes_it(tmp_path):
    folder = tmp_path / "my <runs>"
    shown = StudyResult(folder, "docclassifier")._repr_html_()
    command = html.unescape(shown.partition("<code>")[2].partition("</code>")[0])
    assert shlex.split(command) == ["python", "-m", "otter_ray.report", str(folder)]
    assert "<runs>" not in shown


def test_a_study_without_a_model_says_why(tiny_config, tiny_run, tmp_path):
    context = trained_study(tmp_path, tiny_config, tiny_run.best)
    result = StudyResult(context.folder.path, "docclassifier", is_interrupted=True)
    assert len(result.trials) == 1
    for ask in (lambda: result.best, result.load):
        with pytest.raises(ExportError, match="no trial produced a model that passed the gate"):
            ask()
