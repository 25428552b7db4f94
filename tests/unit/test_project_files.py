"""The files around the package agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import otter_ray

ROOT = Path(otter_ray.__file__).parents[1]
FORMS = ["bug_report.yml", "feature_request.yml"]


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(project):
    dev = project["optional-dependencies"]["dev"]
    return [Requirement(text) for text in [*project["dependencies"], *dev]]


def test_there_is_one_version(project):
    assert project["version"] == otter_ray.__version__
    assert str(read_yaml("CITATION.cff")["version"]) == otter_ray.__version__
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", otter_ray.__version__]


def test_ci_runs_every_python_that_the_package_names(project):
    named = [text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)]
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    assert jobs["pinned"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"
    tried = {(row["python"], row["resolution"]) for row in jobs["versions"]["strategy"]["matrix"]["include"]}
    assert tried == {(named[0], "lowest-direct"), (named[-1], "highest")}


def test_every_requirement_says_from_which_version_on(project):
    """Without one, the lowest versions that CI tries would be the oldest that were ever published."""
    assert [str(entry) for entry in requirements(project) if ">=" not in str(entry.specifier)] == []


def test_whose_private_parts_are_used_has_an_upper_bound(project):
    bounded = {entry.name for entry in requirements(project) if "<" in str(entry.specifier)}
    assert {"optuna", "ray"} <= bounded


def test_every_requirement_is_pinned(project):
    pins = {
        line.partition("==")[0].strip().lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert {entry.name.lower() for entry in requirements(project)} <= pins


def test_no_file_names_a_package_index():
    for name in ("pyproject.toml", "constraints.txt", "Makefile", ".github/workflows/release.yml"):
        text = (ROOT / name).read_text()
        assert not re.search(
            r"--(extra-)?index-url|index_url|simple/", text.replace("--no-emit-index-url", "")
        ), name


@pytest.mark.parametrize("name", FORMS)
def test_an_issue_form_asks_for_something(name):
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}")
    assert any(field.get("validations", {}).get("required") for field in form["body"])
