"""What a user without a checkout gets: the wheel's contents, and commands that work from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import otter_ray

ROOT = Path(otter_ray.__file__).parents[1]
# What the build reads.
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "otter_ray", "configs", "search_spaces"]
BUILD = "from hatchling.build import build_wheel; build_wheel('.')"


def run(line, folder, **environment):
    """Runs a command that does not see the checkout; gives what it printed."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in line],
        cwd=folder,
        env={**inherited, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the checkout, built as `pip install` builds it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    run([sys.executable, "-c", BUILD], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    """The folder of a fresh environment's commands: the wheel, and the other packages of this one.

    A folder that a `.pth` file names is searched for packages; its own `.pth` files, one of which leads to
    the checkout, are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", folder], folder)
    python = folder / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel], folder)
    paths = {key: sysconfig.get_path(key) for key in ("purelib", "platlib")}
    inside = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    Path(inside, "packages.pth").write_text("\n".join(dict.fromkeys(paths.values())) + "\n")
    found = run([python, "-c", "import otter_ray; print(otter_ray.__file__)"], folder).strip()
    assert Path(found).is_relative_to(folder)
    return python.parent


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder to start commands in."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return tmp_path


def test_the_wheel_holds_every_file_of_the_package_and_the_examples(wheel):
    files = {
        f"{prefix}{path.relative_to(ROOT)}"
        for name, prefix in {"otter_ray": "", "configs": "otter_ray/", "search_spaces": "otter_ray/"}.items()
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in packed if ".dist-info/" not in name} == files
    assert {
        "otter_ray/py.typed",
        "otter_ray/configs/demo.yaml",
        "otter_ray/init/template/common/gitignore",
        "otter_ray/projects/mrzscanner/fonts/OCRB.otf",
        "otter_ray/projects/mrzscanner/fonts/NOTICE",
    } <= packed


def test_the_wheel_says_what_the_package_says(wheel):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("/METADATA")]
        text = packed.read(name).decode()
    about = metadata.PathDistribution(zipfile.Path(wheel, name.removesuffix("METADATA"))).metadata
    assert about["Version"] == otter_ray.__version__
    assert "verified ONNX file" in about["Summary"]
    assert "Typing :: Typed" in about.get_all("Classifier")
    assert "Requires-Dist: ray[default,train,tune]" in text


def test_the_commands_are_one_command(commands, empty):
    assert run([commands / "otter-ray", "--version"], empty) == f"otter-ray {otter_ray.__version__}\n"
    listed = run([commands / "otter-ray", "--help"], empty)
    for name in ("tune", "train", "export", "report", "doctor", "init"):
        assert re.search(rf"│ {name} +\w", listed), listed


def test_a_dry_run_from_an_empty_folder(commands, empty):
    output = run([commands / "otter-ray", "tune", "demo", "--dry-run", "--samples", "1"], empty)
    assert "best valid_fpr@4 (max)" in output
    assert list(empty.iterdir()) == []


def test_two_trials_from_an_empty_folder_end_with_an_onnx_file(commands, empty, tiny_sets):
    line = [commands / "otter-ray", "tune", "demo", "--trials", "2", "--name", "a", *tiny_sets]
    output = run(
        [*line, "--set", "trainer.max_epochs=1"], empty, OMP_NUM_THREADS="1", OTTER_RAY_DASHBOARD="1"
    )
    assert "dashboard: http://127.0.0.1:" in output
    (onnx,) = (empty / "runs/demo/a").glob("*.onnx")
    assert f"onnx: {onnx}" in output
    # What it exports and shows comes from the wheel alone.
    assert str(ROOT) not in output
