import lightning.pytorch.callbacks
import pytest
import torch

from otter_ray.docclassifier import CosFace
from otter_ray.errors import ConfigError
from otter_ray.train.callbacks import CustomTQDMProgressBar
from otter_ray.train.components import accepted, find_class, load_project, unknown_arguments
from otter_ray.train.schedules import PolynomialLRWarmup

PROJECT = """
class AdamW:
    "A project's own, of a library's name."

class Lonely:
    pass

NotAClass = 3
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "papers_project.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "papers_project"


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
    with pytest.raises(LookupError, match=r"no class 'AdamW' in otter_ray.docclassifier\."):
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


@pytest.mark.parametrize("name", ["docklassifier", "no.such.project"])
def test_an_unknown_project(name):
    with pytest.raises(ConfigError, match=f"project: '{name}' is neither a project of otter_ray nor"):
        load_project(name)


def test_what_a_project_itself_misses_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "needy_project.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_project("needy_project")


def test_arguments_by_name():
    class Taking:
        def __init__(self, first, second=2):
            pass

    class TakingAll(Taking):
        def __init__(self, first, **others):
            pass

    wrong = unknown_arguments(Taking, {"first": 1, "secnd": 2})
    assert wrong == {"secnd": "Taking takes no 'secnd'. It takes first, second. Did you mean 'second'?"}
    assert unknown_arguments(TakingAll, {"anything": 1}) == {}
    assert accepted(Taking, {"second": 5, "third": 6}) == {"second": 5}
