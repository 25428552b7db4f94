"""Names that a project cannot have, and one that it can."""

from pathlib import Path

import pytest

from otter_ray.errors import ProjectError
from otter_ray.init.project import create_project


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-project", "is not a name for a Python package"),
        ("2d", "is not a name for a Python package"),
        ("class", "is not a name for a Python package"),
        ("_shapes", "is not a name for a Python package"),
        ("../up", "is not a name for a Python package"),
        ("torch", "is also the name of the module torch ("),
        ("json", "is also the name of the module json ("),
        ("otter_ray", "is also the name of the module otter_ray ("),
        ("docclassifier", "is also the name of the module otter_ray.projects.docclassifier ("),
        ("configs", "is also the name of a folder within each project"),
        ("there", "exists already. Choose another name."),
    ],
)
def test_a_name_that_cannot_be(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    with pytest.raises(ProjectError, match=r"^NAME '") as caught:
        create_project(name, Path(name))
    assert says in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_name_with_a_word_of_the_template(tmp_path):
    create_project("ALL_PURPOSE", tmp_path / "ALL_PURPOSE")
    test = (tmp_path / "ALL_PURPOSE/tests/test_ALL_PURPOSE.py").read_text()
    readme = (tmp_path / "ALL_PURPOSE/README.md").read_text()
    assert "from ALL_PURPOSE.data import" in test
    assert readme.startswith("# ALL_PURPOSE\n")
    assert "A project of otter_ray: which of four shapes" in readme
