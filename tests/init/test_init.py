"""A project that is made passes its own test, and every command finds it from its folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from otter_ray.config import load_config
from otter_ray.errors import ProjectError
from otter_ray.init.project import TEMPLATE, create_project
from otter_ray.train.check import first_score

ROOT = Path(__file__).parents[2]


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
    assert "project: sketches" in output


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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-project", "is no name of a Python package"),
        ("2d", "is no name of a Python package"),
        ("class", "is no name of a Python package"),
        ("_shapes", "is no name of a Python package"),
        ("../up", "is no name of a Python package"),
        ("torch", "is also that of the module torch ("),
        ("json", "is also that of the module json ("),
        ("otter_ray", "is also that of the module otter_ray ("),
        ("train", "is also that of the module otter_ray.train ("),
        ("configs", "is also that of a folder within each project"),
        ("there", "is there already. Take another name."),
    ],
)
def test_a_name_that_cannot_be(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    with pytest.raises(ProjectError, match=r"^NAME '") as caught:
        create_project(name, Path(name))
    assert says in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_mistake_is_told_without_a_traceback(tmp_path):
    assert run(tmp_path, "otter_ray.init", "torch")[0] == 2
    code, output = run(tmp_path, "otter_ray.init", "my-project")
    assert (code, output.startswith("error: NAME 'my-project' is no name"), "Traceback" in output) == (
        2,
        True,
        False,
    )


def test_the_template_is_part_of_what_is_installed(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "otter_ray", tmp_path / "otter_ray", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    wanted = {path for path in TEMPLATE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(ROOT)) for path in wanted} <= {*zipfile.ZipFile(wheel).namelist()}
