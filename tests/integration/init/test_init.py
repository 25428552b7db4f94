"""A project that is made passes its own test, and every command finds it from its folder."""

import os
import subprocess
import sys

import pytest

from otter_ray.config import load_config
from otter_ray.direction import Direction
from otter_ray.init.project import create_project
from otter_ray.train.model.declared_metrics import best_direction, first_score


def run(folder, *line):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [sys.executable, *([] if line[0] == "-c" else ["-m"]), *line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


# The tests of all projects in one process, which imports torch once.
RUN_TESTS = """
import os, sys, pytest
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.path.insert(0, folder)
    code = pytest.main(["-p", "no:cacheprovider"])
    print(f"<{os.path.basename(folder)}: {int(code)}>", flush=True)
"""
NAMES = {"classifier": "sketches", "embedding": "alike", "corners": "sheets", "text": "numerals"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for kind, name in NAMES.items():
        create_project(name, folder / name, kind)
    return folder


@pytest.fixture(scope="module")
def project(made):
    return made / "sketches"


@pytest.fixture(scope="module")
def tested(made):
    """What the tests of each project printed, in their order."""
    code, output = run(made, "-c", RUN_TESTS, *(str(made / name) for name in NAMES.values()))
    assert code == 0, output
    return output


@pytest.mark.parametrize("kind", NAMES)
def test_it_passes_its_own_test(tested, kind):
    before, _, _ = tested.partition(f"<{NAMES[kind]}: 0>")
    assert before != tested, tested
    assert before.count("5 passed") == list(NAMES).index(kind) + 1


def test_the_command_makes_a_kind_of_project(tmp_path):
    code, output = run(tmp_path, "otter_ray.init", "reader", "--like", "text")
    assert (code, "cd reader" in output) == (0, True), output
    assert "which digits are drawn" in (tmp_path / "reader" / "README.md").read_text()
    code, output = run(tmp_path, "otter_ray.init", "other", "--like", "txt")
    assert code == 2
    assert "--like 'txt' is not a kind of project. Choose one of classifier, " in output


def test_a_study_finds_its_config_space_and_package(project):
    code, output = run(project, "otter_ray.tune", "sketches", "--dry-run", "--samples", "1")
    assert code == 0, output
    assert "pre-flight: 3 models, all exportable" in output
    assert "best valid_accuracy (max)" in output
    assert "the study can start" in output


def test_a_run_is_about_the_models_own_metric(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    assert first_score(load_config("sketches")) == "valid_accuracy"
    assert first_score(load_config("demo")) == "valid_fpr@4"


@pytest.mark.parametrize("kind", NAMES)
def test_a_study_knows_which_values_are_better(made, monkeypatch, kind):
    monkeypatch.chdir(made / NAMES[kind])
    monkeypatch.syspath_prepend(str(made / NAMES[kind]))
    config = load_config(NAMES[kind])
    better = Direction.MIN if kind == "corners" else Direction.MAX
    assert best_direction(config, first_score(config)) is better


def test_nothing_is_left_of_the_templates_name(project):
    files = [path for path in project.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(project)) for path in files} == {
        ".gitignore", "README.md", "pyproject.toml", "configs/sketches.yaml", "search_spaces/sketches.yaml",
        "sketches/__init__.py", "sketches/data.py", "sketches/model.py", "tests/conftest.py",
        "tests/test_sketches.py",
    }  # fmt: skip
    assert not [path for path in files if "my_project" in path.read_text()]


def test_a_mistake_is_told_without_a_traceback(tmp_path):
    assert run(tmp_path, "otter_ray.init", "torch")[0] == 2
    code, output = run(tmp_path, "otter_ray.init", "my-project")
    assert (code, output.startswith("error: NAME 'my-project' is not a name"), "Traceback" in output) == (
        2,
        True,
        False,
    )
