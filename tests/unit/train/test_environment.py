import json
import os
import subprocess
from importlib import metadata

import torch

from otter_ray.train.tracking.environment import write_environment


def test_the_environment(tmp_path):
    write_environment(tmp_path, "docclassifier")
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert {"ray", "lightning", "timm", "albumentations"} < facts["packages"].keys()
    assert facts["system"]["cpus"] == os.cpu_count()
    assert facts["system"]["memory_bytes"] > 10**9
    assert facts["cuda"] == torch.version.cuda
    assert len(facts["gpus"]) == torch.cuda.device_count()
    assert facts["command"]


def test_the_revisions_of_the_users_code_and_of_ours(tmp_path, monkeypatch):
    project = tmp_path / "clone" / "my_own_project"
    project.mkdir(parents=True)
    (project / "__init__.py").write_text("A = 1\n")
    git = ["git", "-C", str(project), "-c", "user.name=n", "-c", "user.email=e"]
    for line in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *line], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    revision = done.stdout.strip()
    monkeypatch.syspath_prepend(str(project.parent))

    def written(name):
        write_environment(tmp_path, name)
        return json.loads((tmp_path / "environment.json").read_text())

    facts = written("my_own_project")
    assert facts["project"] == {
        "name": "my_own_project", "folder": str(project.resolve()), "git_revision": revision
    }  # fmt: skip
    assert facts["git_revision"] != revision
    (project / "__init__.py").write_text("A = 2\n")
    assert written("my_own_project")["project"]["git_revision"] == f"{revision} (uncommitted changes)"
    # With a project of otter_ray's own the user's code is where a command starts.
    monkeypatch.chdir(project)
    assert written("docclassifier")["project"]["git_revision"] == f"{revision} (uncommitted changes)"
    monkeypatch.chdir(tmp_path)
    assert written("docclassifier")["project"]["git_revision"] is None


def test_a_repository_has_no_part_in_what_it_does_not_track(tmp_path, monkeypatch):
    """A virtual environment in a clone holds packages that are not of that clone."""
    package = tmp_path / "clone" / ".venv" / "installed_project"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("A = 1\n")
    clone = tmp_path / "clone"
    (clone / ".gitignore").write_text(".venv\n")
    git = ["git", "-C", str(clone), "-c", "user.name=n", "-c", "user.email=e"]
    for line in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *line], check=True)
    monkeypatch.syspath_prepend(str(package.parent))
    write_environment(tmp_path, "installed_project")
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["project"]["git_revision"] is None


def test_of_a_package_that_is_there_twice_the_first_is_imported(tmp_path, monkeypatch):
    for folder, text in (
        ("first", "Name: twice\nVersion: 1\n"),
        ("second", "Name: twice\nVersion: 2\n"),
        ("third", "Version: 3\n"),  # broken: it has no name
    ):
        about = tmp_path / folder / f"{folder}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\n{text}")
        monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.syspath_prepend(tmp_path / "first")
    write_environment(tmp_path, "docclassifier")
    assert json.loads((tmp_path / "environment.json").read_text())["packages"]["twice"] == "1"


def test_secrets_of_the_command_are_struck_out(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted/secret+key")
    line = [
        "python",
        "--storage",
        "s3://AKIA123:planted2@bucket/runs",
        "--set",
        "logger.options.api_key=planted3",
    ]
    monkeypatch.setattr(
        "sys.orig_argv", [*line, "--set", "common.seed=7", "s3://b?secret_key=planted/secret+key"]
    )
    write_environment(tmp_path, "docclassifier")
    text = (tmp_path / "environment.json").read_text()
    assert "planted" not in text
    assert "AKIA123" not in text
    assert all(part in text for part in ("s3://***@bucket/runs", "api_key=***", "common.seed=7"))


def test_a_standalone_run_writes_it(tiny_run):
    assert (tiny_run.folder / "environment.json").is_file()
