"""What users import from a package is what its `__all__` says, whole and in order."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import otter_ray
from otter_ray.init.project import TEMPLATE

PUBLIC = [
    "otter_ray",
    "otter_ray.config",
    "otter_ray.export",
    "otter_ray.projects.docclassifier",
    "otter_ray.space",
    "otter_ray.train",
]


def top_level(statements):
    """Every statement of a module that is not within a function or a class."""
    for statement in statements:
        if isinstance(statement, ast.If):
            yield from top_level([*statement.body, *statement.orelse])
        else:
            yield statement


def own_names(package):
    """Names of otter_ray that a package's file binds; its modules are not meant."""
    for node in top_level(ast.parse(Path(package.__file__).read_text()).body):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("otter_ray."):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for name in node.targets)


def in_order(name):
    """Constants, classes, functions: as ruff's RUF022 has it."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", PUBLIC)
def test_all_says_every_public_name_in_order(name):
    package = import_module(name)
    own = {member for member in own_names(package) if not member.startswith("_")}
    assert package.__all__ == sorted(own, key=in_order)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_explained(name):
    package = import_module(name)
    for member in package.__all__:
        value = getattr(package, member)
        assert member.isupper() or value.__doc__, member


@pytest.mark.parametrize("name", PUBLIC)
def test_no_other_name_is_there(name):
    with pytest.raises(AttributeError, match=rf"module '{name}' has no attribute 'build_nothing'"):
        _ = import_module(name).build_nothing


@pytest.mark.parametrize("path", TEMPLATE.rglob("*.py"), ids=lambda path: str(path.relative_to(TEMPLATE)))
def test_a_new_project_imports_public_names_only(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name.startswith("otter_ray")} <= {*PUBLIC}


def test_a_lazy_name_is_loaded_once():
    code = (
        "import sys, otter_ray; assert 'otter_ray.config' not in sys.modules; "
        "first = otter_ray.load_config; assert vars(otter_ray)['load_config'] is first"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    names = {}
    exec("from otter_ray import *", names)
    assert names["load_config"] is otter_ray.load_config
    assert names["BaseMixin"] is otter_ray.BaseMixin


def test_packages_say_that_they_are_typed():
    assert Path(otter_ray.__file__).with_name("py.typed").is_file()
