"""A user's own project on a Ray whose processes cannot see its folder: started beside it, and submitted."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from otter_ray.tune.job import code_of, job_address, lasting

A_RAY = """
import ray, sys
context = ray.init(
    address="local", num_cpus=1, object_store_memory=10**8, include_dashboard=True, dashboard_port=0
)
print(context.address_info["gcs_address"], context.dashboard_url, flush=True)
sys.stdin.readline()
"""
HEAD = "FeatureLearningSqueezeLBNHead"
HIDDEN = 'mount -t tmpfs none "$1" && exec "$2" -c "$3"'


def can_hide():
    return os.geteuid() == 0 and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode


@dataclass
class Apart:
    address: str
    dashboard: str
    home: Path


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a project of two modules, and the demo's config and space for it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "my_project.py").write_text(
        "from otter_ray.docclassifier import *\nfrom my_part import MyHead\n"
    )
    (folder / "my_part.py").write_text(
        f"from otter_ray.docclassifier import {HEAD}\nclass MyHead({HEAD}):\n    pass\n"
    )
    for kind in ("configs", "search_spaces"):
        (folder / kind).mkdir()
        text = (Path(__file__).parents[2] / kind / "demo.yaml").read_text()
        text = text.replace("project: docclassifier", "project: my_project")
        (folder / kind / "mine.yaml").write_text(text.replace(HEAD, "MyHead"))
    return folder


@pytest.fixture(scope="module")
def apart(project, session_cache, tmp_path_factory):
    """A Ray for which the project's folder is empty."""
    if not can_hide():
        pytest.skip("needs root and mount namespaces, to hide a folder from a Ray")
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "disabled"}
    line = ["unshare", "--mount", "sh", "-c", HIDDEN, "sh", str(project), sys.executable, A_RAY]
    process = subprocess.Popen(
        line, env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield Apart(*process.stdout.readline().split(), home)
    process.communicate("\n", timeout=60)


def test_the_projects_code_travels(apart, project, tune, tiny_sets, tmp_path):
    arguments = ["--runs", tmp_path, "--name", "far", "--trials", 1]
    code, output = tune("mine", "--address", apart.address, *arguments, *tiny_sets, folder=project).end()
    assert code == 0, output
    assert list(tmp_path.glob("mine/far/*.onnx"))


def test_a_submitted_job_finds_its_ray_and_keeps_its_study(apart, project, tiny_sets):
    submit = ["ray", "job", "submit", "--address", f"http://{apart.dashboard}", "--working-dir", str(project)]
    study = [sys.executable, "-m", "otter_ray.tune", "mine", "--name", "sent", "--trials", "1", *tiny_sets]
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    deadline = time.monotonic() + 200
    while True:
        ended = subprocess.run(
            [*submit, "--", *study], env=environment, capture_output=True, text=True, check=False
        )
        # Ray's own words while its job agent is still starting, on a busy machine for a while.
        if "No available agent" not in ended.stderr or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(apart.home.glob("runs/mine/sent/*.onnx"))


@pytest.fixture
def beside(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    return project


def test_what_travels_is_what_is_imported_from_the_working_directory(beside):
    assert code_of("my_project") == [str(beside / "my_part.py"), str(beside / "my_project.py")]


def test_of_a_submitted_job_ray_sends_the_whole_directory(beside, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert code_of("my_project") == []
    assert job_address() == "192.0.2.1:6379"
    assert lasting(Path("runs")) == Path.home() / "runs"
    assert lasting(Path("/nfs/runs")) == Path("/nfs/runs")


def test_an_address_in_the_environment_alone_makes_no_job(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    assert job_address() is None
    assert lasting(Path("runs")) == Path("runs")
