"""A user's own project on a Ray whose processes cannot see its folder: started beside it, and submitted."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import free_port

RAY = str(Path(sys.executable).with_name("ray"))
HEAD = "FeatureLearningSqueezeLBNHead"
# $1 is the folder to hide, $2 on the command to start.
HIDDEN = 'mount -t tmpfs none "$1" && shift && exec "$@"'


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
        "from otter_ray.projects.docclassifier import *\nfrom my_part import MyHead\n"
    )
    (folder / "my_part.py").write_text(
        f"from otter_ray.projects.docclassifier import {HEAD}\nclass MyHead({HEAD}):\n    pass\n"
    )
    for kind in ("configs", "search_spaces"):
        (folder / kind).mkdir()
        text = (Path(__file__).parents[3] / kind / "demo.yaml").read_text()
        text = text.replace("project: docclassifier", "project: my_project")
        (folder / kind / "mine.yaml").write_text(text.replace(HEAD, "MyHead"))
    return folder


@pytest.fixture(scope="module")
def apart(project, session_cache, tmp_path_factory):
    """A Ray for which the project's folder is empty."""
    if not can_hide():
        pytest.skip("needs root and mount namespaces, to hide a folder from a Ray")
    home = tmp_path_factory.mktemp("home")
    port, dashboard, agent = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="ray_") as temporary:  # short: paths of sockets have 107 bytes
        environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": temporary}
        # Every Ray's job agent would listen on port 52365: beside another Ray it ends, and jobs find none.
        line = [
            RAY, "start", "--head", "--block", "--num-cpus=1", "--object-store-memory=100000000",
            "--node-ip-address=127.0.0.1", f"--port={port}",
            f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", HIDDEN, "sh", str(project), *line],
            env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        for printed in process.stdout:
            if "Ray runtime started" in printed:
                break
        yield Apart(f"127.0.0.1:{port}", f"127.0.0.1:{dashboard}", home)
        process.terminate()
        process.communicate(timeout=60)


def test_the_projects_code_travels(apart, project, tune, tiny_sets, tmp_path):
    arguments = ["--runs", tmp_path, "--name", "far", "--trials", 1]
    code, output = tune("mine", "--address", apart.address, *arguments, *tiny_sets, folder=project).end()
    assert code == 0, output
    assert list(tmp_path.glob("mine/far/*.onnx"))


def test_a_submitted_job_finds_its_ray_and_keeps_its_study(apart, project, tiny_sets):
    submit = [RAY, "job", "submit", "--address", f"http://{apart.dashboard}", "--working-dir", str(project)]
    study = [sys.executable, "-m", "otter_ray.tune", "mine", "--name", "sent", "--trials", "1", *tiny_sets]
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    ended = subprocess.run(
        [*submit, "--", *study], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(apart.home.glob("runs/mine/sent/*.onnx"))
