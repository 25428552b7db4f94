"""What a command that resumes a study takes from the study's folder, and what it has to be told again."""

import shlex

import pytest

from otter_ray.config import load_config, to_yaml
from otter_ray.errors import StudyError
from otter_ray.study.diff import check_or_record, compare
from otter_ray.study.opening import create_folder
from otter_ray.tune.preparation import resume_command
from otter_ray.tune.request import ExportSelection, StudyRequest, load_problem, load_study

SETS = ["trainer.max_epochs=7", "common.seed=3", "optimizer.options.weight_decay=0.5"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of a study that began with these `--set`s, and with other trials than its space says."""
    monkeypatch.chdir(tmp_path)
    folder = create_folder(tmp_path / "runs", "demo", "first")
    check_or_record(folder, load_problem("demo", None, SETS).with_trials(5))
    return folder


def test_the_folder_says_what_the_study_is_about(folder):
    problem = load_study(folder, None, [])
    assert problem.config == load_config("demo", SETS)
    assert problem.options.num_trials == 5
    assert not compare(folder, problem)
    changes = compare(folder, load_problem("demo", None, [])).config
    assert {change.key for change in changes} == {text.partition("=")[0] for text in SETS}


def test_what_is_given_is_compared(folder):
    [change] = compare(folder, load_study(folder, None, ["common.seed=4", "trainer.max_epochs=7"])).config
    assert str(change) == "common.seed: 3 -> 4"


def test_what_may_always_change_is_remembered(folder):
    check_or_record(folder, load_study(folder, None, []).with_trials(64))
    assert load_study(folder, None, []).options.num_trials == 64


def test_a_folder_that_does_not_say_what_its_study_is_about_is_named(folder):
    folder.space_file.unlink()
    with pytest.raises(StudyError, match=r"first/space\.yaml: there is no such file.*CFG --name first"):
        load_study(folder, None, [])


def test_code_that_only_the_folder_names_is_not_run(folder, tmp_path):
    """A study's folder may come from anywhere."""
    config = load_config("demo").with_values({"project": "evil"})
    folder.config_file.write_text(to_yaml(config))
    with pytest.raises(StudyError, match=r"'evil' does not come with otter_ray.*--set project=evil"):
        load_study(folder, None, [])
    assert load_study(folder, None, ["project=evil"]).config.project == "evil"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.yaml").write_text(to_yaml(config))
    assert load_study(folder, None, []).config.project == "evil"


@pytest.mark.parametrize(
    ("values", "asked", "more"),
    [
        ({}, {}, ""),
        ({}, {"address": "10.0.0.1:6379"}, " --address 10.0.0.1:6379"),
        ({}, {"exports": ExportSelection(count=3)}, " --export top3"),
        ({}, {"exports": ExportSelection(is_front=True)}, " --export pareto"),
        ({"project": "mine"}, {}, " --set project=mine"),
    ],
)
def test_the_command_that_continues_a_study_says_what_the_folder_does_not(folder, values, asked, more):
    problem = load_problem("demo", None, SETS)
    problem = type(problem)(problem.config.with_values(values), problem.space)
    assert resume_command(StudyRequest(problem, **asked), folder) == (
        f"python -m otter_ray.tune --resume runs/demo/first{more}"
    )


def test_the_command_can_be_pasted(tmp_path):
    folder = create_folder(tmp_path / "my runs", "demo", "first one")
    command = resume_command(StudyRequest(load_problem("demo", None, [])), folder)
    assert shlex.split(command)[-1] == str(folder.path)
