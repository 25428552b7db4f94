"""Make a project from the template: one that runs, under another name."""

from __future__ import annotations

import keyword
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from otter_ray.errors import ProjectError

TEMPLATE = Path(__file__).parent / "template"
PLACEHOLDER = "my_project"
# Git would obey a `.gitignore` within the template.
RENAMED = {"gitignore": ".gitignore"}


def create_project(name: str, folder: Path) -> None:
    """Make the project `name` in `folder`, completely or not at all.

    Raises:
        ProjectError: The name is not usable, or taken; the folder exists, or cannot be made.
    """
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?", name) or keyword.iskeyword(name):
        rule = "is not a name for a Python package. Use letters, digits and _, for example my_project."
        raise ProjectError(f"NAME {name!r} {rule}")
    if folder.exists():
        raise ProjectError(f"NAME {name!r}: {folder.absolute()} exists already. Choose another name.")
    if taken := _taken(name):
        raise ProjectError(
            f"NAME {name!r} is also the name of {taken}, and Python finds only one. Choose another."
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.absolute().parent) as scratch:
            partial = Path(scratch) / name
            for source in sorted(TEMPLATE.rglob("*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    _write(source, partial, name)
            partial.rename(folder)
    except OSError as exc:
        raise ProjectError(f"NAME {name!r}: {folder.absolute()} cannot be created: {exc}") from exc


def _taken(name: str) -> str:
    """Return what else has the name; empty if nothing does."""
    if name in {entry.name for entry in TEMPLATE.iterdir()} - {PLACEHOLDER}:
        return "a folder within each project"
    # A config's `project:` is looked up within otter_ray.projects first.
    for module in (f"otter_ray.projects.{name}", name):
        if (spec := find_spec(module)) is not None:
            return f"the module {module} ({spec.origin or 'a package'})"
    return ""


def _write(source: Path, folder: Path, name: str) -> None:
    inner = Path(*(part.replace(PLACEHOLDER, name) for part in source.relative_to(TEMPLATE).parts))
    target = folder / inner.with_name(RENAMED.get(inner.name, inner.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text(encoding="utf-8").replace(PLACEHOLDER, name), encoding="utf-8")
