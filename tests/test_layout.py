"""The house's rules, read from the source: who may import whom, and what nobody does."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import otter_ray

ROOT = Path(otter_ray.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "template" not in path.parts)
TESTS = sorted((ROOT.parent / "tests").rglob("*.py"))
# Fixtures that start a Ray.
WITH_RAY = {"tune", "tune_here", "open_ray", "token_ray", "connected"}
# Modules at the top that everyone may import.
GROUND = {
    "errors",
    "direction",
    "cli",
    "files",
    "formatting",
    "cpus",
    "disk",
    "checkpoints",
    "lazy",
    "warn",
    "console",
    "user_folders",
    "host_program",
    "isolation",
    "redaction",
}
# Package -> what it may import beside the ground and itself. Arrows only go down; `tune.cluster` stands for
# otter_ray/tune/cluster/. What a name begins with is allowed with it: `projects` allows `projects.x`.
MAY_IMPORT = {
    "config": set(),
    "space": {"config"},
    "export.model_files": set(),  # names and JSON: whoever reads them needs no torch
    "study": {"config", "space", "export.model_files"},
    "train": {"config"},
    "export": {"config", "space", "train", "export.model_files"},
    "report": {"config", "space", "study", "export.model_files"},
    "vision": set(),
    "projects": {"config", "train", "vision"},
    "tune": set(),  # the folder's own __init__
    "tune.ray_compat": set(),
    "tune.messages": {"study"},
    "tune.cluster": {"config", "space", "study", "train", "tune.ray_compat"},
    "tune.constraints": {"config", "space", "study", "train", "export"},
    "tune.samplers": {"config", "space", "study"},
    "tune.preflight": {
        "config", "space", "study", "train", "export", "tune.cluster", "tune.constraints", "tune.samplers",
    },
    "tune.request": {"config", "space", "study"},
    "tune.context": {"config", "space", "study", "tune.constraints", "tune.request"},
    "tune.search": {
        "config", "space", "study", "tune.constraints", "tune.samplers", "tune.request", "tune.context",
        "tune.messages", "tune.ray_compat",
    },
    "tune.worker": {
        "config", "space", "study", "train", "tune.cluster", "tune.ray_compat", "tune.messages",
    },
    "tune.display": {
        "config", "space", "study", "tune.cluster", "tune.context", "tune.messages", "tune.ray_compat",
    },
    "tune.selection": {"config", "space", "study", "train", "export", "report", "tune.context"},
    "tune.driver": {
        "config", "space", "study", "tune.cluster", "tune.constraints", "tune.request", "tune.context",
        "tune.search", "tune.worker", "tune.display", "tune.messages", "tune.ray_compat",
    },
    "tune.dry_run": {
        "space", "study", "tune.cluster", "tune.constraints", "tune.samplers", "tune.request", "tune.context",
        "tune.preparation", "tune.display", "tune.selection",
    },
    "tune.resume": {"space", "study"},
    "tune.preparation": {
        "tune.resume",
        "space", "study", "train", "tune.cluster", "tune.constraints", "tune.preflight", "tune.request",
        "tune.context", "tune.samplers",
    },
    "tune.results": {
        "study", "report", "tune.context", "tune.search", "tune.display", "tune.selection",
    },
    "tune.pipeline": {"study", "tune"},
    "tune.study": {"config", "space", "study", "tune"},
    "tune.__main__": {"tune"},
    "doctor": {"config", "space", "study", "train", "tune"},
    "studies": {"config", "space", "study", "report"},
    "init": {"config", "train", "export"},
    "__main__": {"tune", "train", "export", "report", "studies", "doctor", "init"},
}  # fmt: skip


# Modules of a folder, beside its __init__.
MAX_MODULES = 12
# Folder -> why it is better flat than divided.
FULL_FOLDERS = {
    ".": "the ground: each module is one small thing that every package may need",
    "study": "what a study is on disk: each module is one file of its folder, or one record of its journal",
}
# Of a function, beside self.
MAX_PARAMETERS = 8
# Class that a config names -> why its arguments stay: they are keys of configs that people have written.
LONG_BY_CONTRACT = {
    "projects.docclassifier.data.training_set.SynthDataset.__init__": "`dataset.train_options.options`",
    "projects.docaligner.data.paper_dataset.PaperDataset.__init__": "`dataset.*_options.options`",
    "projects.docclassifier.data.evaluation_sets.CaptureDataset.__init__": "`dataset.valid_options.options`",
    "projects.mrzscanner.data.scene_dataset.SceneDataset.__init__": "`dataset.train_options.options`",
}
# Libraries whose private parts may change with any version.
FOREIGN = ("optuna", "ray", "torch", "lightning", "tensorboard")
# Private attributes of their objects, which are met under any name.
KNOWN_PRIVATE = {
    "_C", "_storage", "_study_id", "_trial_id", "_raylet", "_private", "_internal", "_get_file_writer",
    "_get_trials", "_file_path", "_backend",
}  # fmt: skip


def folder_path(path):
    """`tune/search` of a module in it; `.` of one at the top."""
    return path.relative_to(ROOT).parent.as_posix()


def module_of(path):
    """The dotted name below `otter_ray` of a file: `tune.search.pbt`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def package_of(module):
    """The entry of MAY_IMPORT that a module belongs to; None for the ground."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in MAY_IMPORT:
            return name
    return None


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
    """Modules of the house that a file imports, as dotted names below `otter_ray`.

    Of `from otter_ray.vision import drawing`, which imports a module from its package, that is the module.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if name.removeprefix("otter_ray.") in MODULES}
            found |= modules | ({node.module} if names - modules else set())
    names = {name.removeprefix("otter_ray.") for name in found if name.startswith("otter_ray.")}
    return names & MODULES.keys()


def allows(package, target):
    """Whether a module of `package` may import the module `target`."""
    of = package_of(target)
    if of is None:
        return target in GROUND
    return of == package or any(of == name or of.startswith(f"{name}.") for name in MAY_IMPORT[package])


def calls(path):
    """(dotted name, node) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_every_module_is_in_the_plan():
    assert {name for name in MODULES if package_of(name) is None} == {"", *GROUND}
    folders = {module_of(path) for path in FILES if path.name == "__init__.py"} - {""}
    assert not [name for name in folders if package_of(name) is None]


def test_arrows_only_go_down():
    up = {
        (name, target)
        for name, path in MODULES.items()
        if (package := package_of(name))
        for target in house(path)
        if not allows(package, target)
    }
    assert up == set()


def cycles(graph):
    """Sets of modules each of which imports, directly or not, all others of its set (Tarjan 1972)."""
    number, lowest, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for target in graph[node]:
            if target not in number:
                visit(target)
            if target in stack:
                lowest[node] = min(lowest[node], lowest[target])
        if lowest[node] == number[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1 or node in graph[node]:
                found.append(frozenset(members))

    for node in graph:
        if node not in number:
            visit(node)
    return set(found)


def test_no_modules_import_each_other_in_a_circle():
    """Nor by an import within a function, or for a type alone: who reads one must not have to read all."""
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset("bc")}
    graph = {name: house(path) for name, path in MODULES.items()}
    assert cycles(graph) == set()


def test_no_folder_is_too_full():
    counts = Counter(folder_path(path) for path in FILES if path.name != "__init__.py")
    full = {folder for folder, count in counts.items() if count > MAX_MODULES}
    assert full - FULL_FOLDERS.keys() == set(), "split the folder, or say why it is better flat"
    assert FULL_FOLDERS.keys() - full == set(), "it is no longer full"


def parameters(function):
    """Names of what a function is given, without `self`, `cls`, `*args` and `**kwargs`."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def functions(tree, inside=""):
    """(qualified name, node) of every function."""
    for node in ast.iter_child_nodes(tree):
        name = f"{inside}.{node.name}".lstrip(".") if hasattr(node, "name") else inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node
        yield from functions(node, name)


def is_command(function):
    """Whether typer calls it: its parameters are a command's options."""
    return any("typer." in ast.unparse(each.annotation) for each in function.args.args if each.annotation)


def test_no_function_has_too_many_parameters():
    long = {
        f"{module}.{name}"
        for module, path in MODULES.items()
        for name, function in functions(ast.parse(path.read_text()))
        if len(parameters(function)) > MAX_PARAMETERS and not is_command(function)
    }
    assert long - LONG_BY_CONTRACT.keys() == set(), "give it an object that holds them"
    assert LONG_BY_CONTRACT.keys() - long == set(), "it is short now"


def test_only_tune_imports_ray():
    importing = {
        folder_of(path) for path in FILES if any(name.split(".")[0] == "ray" for name in imported(path))
    }
    assert importing == {"tune"}


def reached(module, through):
    """The module, and every module of the house that its import needs, lazily or not."""
    if module not in through:
        through.add(module)
        for target in house(MODULES[module]):
            reached(target, through)
    return through


def test_what_a_study_is_needs_neither_torch_nor_ray():
    """Not even lazily: who reads a config, a space or a study must get by without a gigabyte of packages."""
    light = [name for name in MODULES if name.split(".")[0] in ("config", "space", "study")]
    for name in set().union(*(reached(name, set()) for name in light)):
        roots = {used.split(".")[0] for used in imported(MODULES[name])}
        assert not roots & {"torch", "lightning", "ray", "timm", "albumentations"}, name
    lines = [f"import otter_ray.{name}" for name in light]
    code = "\n".join(
        ["import sys", *lines, "print([name for name in ('torch', 'ray') if name in sys.modules])"]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Private(ast.NodeVisitor):
    """Collects what a file uses of the libraries in FOREIGN that their authors may change at any time."""

    def __init__(self, tree):
        self.found, self.names, self.own = set(), {}, []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.bind(alias.asname or alias.name.split(".")[0], alias.name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.bind(alias.asname or alias.name, f"{node.module}.{alias.name}")
        self.visit(tree)

    def bind(self, name, target):
        if target.split(".")[0] in FOREIGN:
            self.names[name] = target
            if any(is_private(part) for part in target.split(".")):
                self.found.add(target)

    def of(self, node):
        """Whose an expression is: the dotted name of what a library offers; None for all else."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.of(node.value)
            return owner and f"{owner}.{node.attr}"
        return None

    def visit_Attribute(self, node):
        is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if is_private(node.attr):
            if is_own:
                self.found |= {f"{base}.{node.attr}" for base in self.own if has_private(base, node.attr)}
            elif self.of(node.value) or node.attr in KNOWN_PRIVATE:
                self.found.add(f"{self.of(node.value) or ast.unparse(node.value)}.{node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "hasattr", "delattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value) and self.of(node.args[0]):
                self.found.add(f"{self.of(node.args[0])}.{name.value}")
        self.generic_visit(node)

    def visit_ClassDef(self, node):
        outer, self.own = self.own, [target for base in node.bases if (target := self.of(base))]
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and is_private(child.name):
                self.found |= {f"{base}.{child.name}" for base in self.own if has_private(base, child.name)}
        self.generic_visit(node)
        self.own = outer


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@cache
def has_private(target, name):
    """Whether a library's class has a private method, class attribute or attribute of its instances."""
    module, _, cls = target.rpartition(".")
    found = getattr(importlib.import_module(module), cls)
    sources = [inspect.getsource(base) for base in found.__mro__ if base.__module__.split(".")[0] in FOREIGN]
    return hasattr(found, name) or any(re.search(rf"self\.{name}\b", source) for source in sources)


def test_the_check_of_private_attributes_sees_them(tmp_path):
    """Each way in which the package once had one."""
    source = """
        import optuna, lightning as L, torch
        from optuna._callbacks import Anything
        from optuna.samplers import CmaEsSampler, TPESampler
        from ray import train
        class Ours(TPESampler):
            def _sample(self, study): return self._own + self._multivariate
        train._internal
        torch._C._jit(setattr(torch._C, "_jit", None))
        def run(study, trial): return study._storage, trial._cached, trial.value
        CmaEsSampler._restore_optimizer
    """
    found = Private(ast.parse(textwrap.dedent(source))).found
    assert {name.rpartition(".")[2] for name in found} == {
        "Anything", "_sample", "_multivariate", "_internal", "_C", "_jit", "_storage", "_restore_optimizer",
    }  # fmt: skip


def test_private_parts_of_libraries_are_touched_in_compat_modules_alone():
    """There each touch is a function of its own, with the reason, the version and a test."""
    private = {
        (module, name)
        for module, path in MODULES.items()
        if not module.endswith("_compat")
        for name in Private(ast.parse(path.read_text())).found
    }
    assert private == set()


def test_private_parts_of_ray_are_touched_in_one_module():
    for name, path in MODULES.items():
        if name == "tune.ray_compat":
            continue
        private = re.compile(r"(^|\.)_|\.core\.generated")
        assert not [used for used in imported(path) if used.startswith("ray.") and private.search(used)], path
        assert not re.search(r"\bray(\.\w+)*\._[a-z]|_base_exc|_stopped_trials", path.read_text()), path


def test_no_one_names_a_project():
    """Beside the schema's default, a project is found by what the config says."""
    for path in FILES:
        if folder_of(path) != "projects":
            words = path.read_text().replace('project: Name = "docclassifier"', "")
            assert not re.search("docclassifier|docaligner|mrz", words, re.IGNORECASE), path


def test_the_projects_folder_exports_what_configs_name():
    from otter_ray.projects import docclassifier

    for name in ("ClassifierModel", "CosFace", "ArcFace", "Backbone", "WarpFeatureLearning", "SynthDataset"):
        assert isinstance(getattr(docclassifier, name), type)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("otter_ray", ["torch", "ray", "optuna", "lightning", "numpy", "pydantic"]),
        ("otter_ray.config", ["torch", "ray", "optuna", "lightning", "numpy"]),
        ("otter_ray.train.__main__", ["torch", "ray", "optuna"]),
        ("otter_ray.tune.cluster.planner", ["torch", "ray", "optuna", "lightning"]),
        ("otter_ray.export.exporter", ["ray", "optuna"]),
        ("otter_ray.doctor.diagnosis", ["torch", "ray", "optuna", "lightning", "numpy"]),
        ("otter_ray.init.project", ["torch", "ray", "optuna", "lightning", "numpy", "pydantic"]),
        ("otter_ray.report.html_report, otter_ray.report.compare", ["torch", "ray"]),
        ("otter_ray.studies.listing", ["torch", "ray"]),
        ("otter_ray.tune.study", ["torch", "ray", "optuna", "lightning", "numpy"]),
    ],
)
def test_what_an_import_leaves_out(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_test_imports_from_a_test():
    """What several tests share is in tests/support/."""
    for path in TESTS:
        parts = {name: name.split(".") for name in imported(path)}
        tests = [n for n, p in parts.items() if p[0] == "tests" or any(x.startswith("test_") for x in p)]
        assert not [name for name in tests if not name.startswith("tests.support")], path


def test_unit_tests_start_no_ray_and_no_study():
    """They are `make test-fast`: whatever waits for a Ray is among the integration tests."""
    for path in (ROOT.parent / "tests" / "unit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                taken = {argument.arg for argument in node.args.args}
                is_test = node.name.startswith("test_") or node.decorator_list
                assert not (is_test and taken & WITH_RAY), (path, node.name)
        assert not {"ray.init", "Cluster"} & {name for name, _ in calls(path)}, path


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
    for line in (root / "docs/explanation/coming-from-otter.md").read_text().splitlines():
        cells = line.split("|")
        for cell in cells[2:4] if len(cells) == 5 else ():
            folder = ""
            for name in re.findall(r"`([\w/.]+(?:\.py|/))`", cell):
                folder = name.rpartition("/")[0] or folder
                path = f"{folder}/{name.rpartition('/')[2]}"
                places = [root / "otter_ray" / path, root / "tests" / path, root / path]
                places += [root / "otter_ray" / name, root / "tests" / name, root / name]
                assert any(place.exists() for place in places), (name, line)
