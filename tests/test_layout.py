"""The house's rules, read from the source: who may import whom, and what nobody does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import otter_ray

ROOT = Path(otter_ray.__file__).parent
FOLDERS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
FILES = sorted(ROOT.rglob("*.py"))
# Arrows only go down. `errors` and `cli` belong to everyone.
MAY_IMPORT = {
    "config": set(),
    "train": {"config"},
    "report": {"config"},
    "export": {"train", "config"},
    "tune": {"export", "report", "train", "config"},
    "doctor": {"tune", "train", "config"},
    "init": {"export", "train", "config"},  # the project that it makes
    "docclassifier": {"train", "config"},
}


def folder_of(path):
    return path.relative_to(ROOT).parts[0]


def imported(path):
    """Dotted names of every module that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def house(path):
    """Folders of the house that a file imports."""
    parts = [name.split(".") for name in imported(path)]
    return {part[1] for part in parts if part[0] == "otter_ray" and part[1:2] and part[1] in FOLDERS}


def calls(path):
    """(dotted name, node) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_every_folder_is_in_the_plan():
    assert set(MAY_IMPORT) == FOLDERS


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_arrows_only_go_down(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert house(path) <= MAY_IMPORT[folder] | {folder}, path


def test_only_tune_imports_ray():
    importing = {
        folder_of(path) for path in FILES if any(name.split(".")[0] == "ray" for name in imported(path))
    }
    assert importing == {"tune"}


def test_no_one_names_a_project():
    """Beside the schema's default, a project is found by what the config says."""
    for path in FILES:
        if folder_of(path) != "docclassifier":
            words = path.read_text().replace('project: Name = "docclassifier"', "")
            assert "docclassifier" not in words.lower(), path


def test_the_projects_folder_exports_what_configs_name():
    from otter_ray import docclassifier

    for name in ("ClassifierModel", "CosFace", "ArcFace", "Backbone", "WarpFeatureLearning", "SynthDataset"):
        assert isinstance(getattr(docclassifier, name), type)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("otter_ray", ["torch", "ray", "optuna", "lightning", "numpy", "pydantic"]),
        ("otter_ray.config", ["torch", "ray", "optuna", "lightning", "numpy"]),
        ("otter_ray.train.__main__", ["torch", "ray", "optuna"]),
        ("otter_ray.export.run", ["ray", "optuna"]),
        ("otter_ray.doctor.case", ["torch", "ray", "optuna", "lightning", "numpy"]),
        ("otter_ray.init.project", ["torch", "ray", "optuna", "lightning", "numpy", "pydantic"]),
        ("otter_ray.report.render, otter_ray.report.compare", ["torch", "ray"]),
    ],
)
def test_what_an_import_leaves_out(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_runs_what_a_file_says():
    for path in FILES:
        assert not {"pickle", "cloudpickle", "dill", "joblib", "marshal"} & set(imported(path)), path
        for name, node in calls(path):
            assert name not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"), path
            if name.endswith(("torch.load", "load_from_checkpoint")) or name in ("load", "os.system"):
                assert "weights_only=True" in ast.unparse(node), path
            assert "shell=True" not in ast.unparse(node), path


def test_otters_blocks_come_from_the_top():
    for name in otter_ray.__all__:
        block = getattr(otter_ray, name)
        assert block.__module__.startswith("otter_ray.")
        assert len(block.__doc__) > 60, name
    with pytest.raises(AttributeError, match="has no attribute 'build_nothing'"):
        _ = otter_ray.build_nothing


def test_what_otters_page_names_is_there():
    """Its tables name files below the package and below the tests; short names follow a long one."""
    root = ROOT.parent
    for line in (root / "docs" / "otter.md").read_text().splitlines():
        cells = line.split("|")
        for cell in cells[2:4] if len(cells) == 5 else ():
            folder = ""
            for name in re.findall(r"`([\w/.]+(?:\.py|/))`", cell):
                folder = name.rpartition("/")[0] or folder
                path = f"{folder}/{name.rpartition('/')[2]}"
                places = [root / "otter_ray" / path, root / "tests" / path, root / path]
                places += [root / "otter_ray" / name, root / "tests" / name, root / name]
                assert any(place.exists() for place in places), (name, line)
