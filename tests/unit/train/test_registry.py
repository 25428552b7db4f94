import importlib.util
import pkgutil
import sys

import lightning.pytorch.callbacks
import pytest
import torch

import otter_ray
from otter_ray import projects
from otter_ray.errors import ConfigError
from otter_ray.projects import docclassifier
from otter_ray.projects.docclassifier import CosFace
from otter_ray.train.callbacks import CustomTQDMProgressBar
from otter_ray.train.registry import accepted, by_project, find_class, load_project, unknown_arguments
from otter_ray.train.schedules import PolynomialLRWarmup

PROJECT = """
class AdamW:
    "A project's own, of a library's name."

class Lonely:
    pass

NotAClass = 3
"""
PARTS = [*pkgutil.iter_modules(otter_ray.__path__)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "papers_project.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "papers_project"


def test_a_clone_that_is_seen_from_its_parent_folder(tmp_path, monkeypatch):
    (tmp_path / "sketches_clone" / "sketches_clone").mkdir(parents=True)
    (tmp_path / "sketches_clone" / "sketches_clone" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        load_project("sketches_clone")
    assert str(caught.value) == (
        f"project: 'sketches_clone' is the folder {tmp_path}/sketches_clone here, which holds no "
        "__init__.py. Start the command in your project's folder, the one that holds configs/."
    )


@pytest.mark.parametrize(
    ("kind", "name", "cls"),
    [
        ("loss", "CosFace", CosFace),
        ("optimizer", "AdamW", torch.optim.AdamW),
        ("lr_scheduler", "PolynomialLRWarmup", PolynomialLRWarmup),
        ("lr_scheduler", "MultiStepLR", torch.optim.lr_scheduler.MultiStepLR),
        ("callback", "CustomTQDMProgressBar", CustomTQDMProgressBar),
        ("callback", "EarlyStopping", lightning.pytorch.callbacks.EarlyStopping),
        ("logger", "CSVLogger", lightning.pytorch.loggers.CSVLogger),
    ],
)
def test_where_a_name_is_found(kind, name, cls):
    assert find_class(name, kind, "docclassifier") is cls


def test_the_project_comes_first(project):
    assert find_class("AdamW", "optimizer", project) is load_project(project).AdamW
    assert find_class("SGD", "optimizer", project) is torch.optim.SGD
    assert find_class("Lonely", "head", project) is load_project(project).Lonely


def test_a_library_is_searched_for_its_own_kind_only():
    with pytest.raises(LookupError, match=r"no class 'AdamW' in otter_ray.projects.docclassifier\."):
        find_class("AdamW", "loss", "docclassifier")


@pytest.mark.parametrize(
    ("kind", "wrong", "near"), [("loss", "CosFce", "CosFace"), ("optimizer", "adamw", "AdamW")]
)
def test_near_misses_are_named(kind, wrong, near):
    with pytest.raises(LookupError, match=f"no class '{wrong}' in .* Did you mean '{near}'"):
        find_class(wrong, kind, "docclassifier")


def test_a_thing_that_is_no_class_is_not_found(project):
    with pytest.raises(LookupError, match="no class 'NotAClass'"):
        find_class("NotAClass", "head", project)


@pytest.mark.parametrize("name", ["docklassifier", "no.such.project", "docclassifier.no_such_part"])
def test_an_unknown_project(name):
    with pytest.raises(ConfigError, match=f"project: '{name}' is neither a project of otter_ray nor"):
        load_project(name)


def test_a_project_of_otter_ray_is_found_by_its_name():
    assert load_project("docclassifier") is docclassifier


@pytest.mark.parametrize("name", [name for _, name, is_package in PARTS if is_package])
def test_a_package_of_otter_ray_is_no_project(name):
    """`project: report` once meant otter_ray.report. No module of these names can be imported otherwise."""
    assert importlib.util.find_spec(f"otter_ray.{name}")
    with pytest.raises(ConfigError, match=f"project: '{name}' is neither"):
        load_project(name)


def test_a_users_module_may_have_the_name_of_a_package_of_otter_ray(tmp_path, monkeypatch):
    (tmp_path / "report.py").write_text("class Mine: ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "report", raising=False)
    assert load_project("report").__file__ == str(tmp_path / "report.py")
    assert find_class("Mine", "model", "report").__module__ == "report"
    del sys.modules["report"]


def test_what_a_project_itself_misses_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "needy_project.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_project("needy_project")


def test_what_a_project_of_otter_ray_misses_is_its_own_error(tmp_path, monkeypatch):
    """Also where a module of the user's has the same name: it is not taken instead."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "needy.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "needy.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(projects, "__path__", [*projects.__path__, str(tmp_path / "inside")])
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_project("needy")


def test_where_a_class_of_the_users_belongs_is_said(project, tmp_path):
    with pytest.raises(LookupError, match=r"Import your own classes in papers_project\.py\."):
        find_class("Lonly", "head", project)
    (tmp_path / "letters_project").mkdir()
    (tmp_path / "letters_project" / "__init__.py").touch()
    with pytest.raises(LookupError, match=r"Import your own classes in letters_project/__init__\.py\."):
        find_class("Head", "head", "letters_project")


def test_arguments_by_name():
    class Taking:
        def __init__(self, first, second=2):
            pass

    class TakingAll(Taking):
        def __init__(self, first, **others):
            pass

    wrong = unknown_arguments(Taking, {"first": 1, "secnd": 2})
    message = "Taking has no argument 'secnd'. Did you mean 'second'? Its arguments: first, second."
    assert wrong == {"secnd": message}
    assert unknown_arguments(TakingAll, {"anything": 1}) == {}
    assert accepted(Taking, {"second": 5, "third": 6}) == {"second": 5}


def test_a_project_may_do_a_step_in_its_own_way(tmp_path, monkeypatch, tiny_config):
    (tmp_path / "own_project.py").write_text(
        "class OWN:\n    @staticmethod\n    def step(config, number):\n        return -number\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    @by_project
    def step(config, number):
        return number

    assert step(tiny_config, 3) == 3
    assert step(tiny_config.with_values({"project": "own_project"}), number=3) == -3
