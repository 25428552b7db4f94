"""A project that is made passes its own test, and every command finds it from its folder."""

import os
import subprocess
import sys

import pytest

from otter_ray.config import load_config
from otter_ray.train.model.declared_metrics import first_score


def run(folder, *line):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [sys.executable, "-m", *line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    code, output = run(folder, "otter_ray.init", "sketches")
    assert code == 0, output
    assert "cd sketches" in output
    return folder / "sketches"


def test_it_passes_its_own_test(project):
    code, output = run(project, "pytest", "-p", "no:cacheprovider")
    assert code == 0, output
    assert "5 passed" in output


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


def test_nothing_is_left_of_the_templates_name(project):
    files = [path for path in project.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(project)) for path in files} == {
        ".gitignore", "README.md", "pyproject.toml", "configs/sketches.yaml", "search_spaces/sketches.yaml",
        "sketches/__init__.py", "sketches/data.py", "sketches/model.py", "tests/test_sketches.py",
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
