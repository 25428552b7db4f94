"""Which of a project's code travels to a Ray, and what a submitted job takes from its environment."""

from pathlib import Path

import pytest

from otter_ray.tune.cluster.job_submission import code_of, job_address, persistent_path


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The working directory, with a project of two modules."""
    (tmp_path / "my_project.py").write_text("from my_part import MyHead\n")
    (tmp_path / "my_part.py").write_text("class MyHead:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_travels_is_what_is_imported_from_the_working_directory(beside):
    assert code_of("my_project") == [str(beside / "my_part.py"), str(beside / "my_project.py")]


def test_of_a_submitted_job_ray_sends_the_whole_directory(beside, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert code_of("my_project") == []
    assert job_address() == "192.0.2.1:6379"
    assert persistent_path(Path("runs")) == Path.home() / "runs"
    assert persistent_path(Path("/nfs/runs")) == Path("/nfs/runs")


def test_an_address_in_the_environment_alone_makes_no_job(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    assert job_address() is None
    assert persistent_path(Path("runs")) == Path("runs")
