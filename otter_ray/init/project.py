"""A project from the template: one that runs, under another name."""

from __future__ import annotations

import keyword
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from otter_ray.errors import ProjectError

TEMPLATE = Path(__file__).parent / "template"
PLACEHOLDER = "my_project"
# Git would heed a `.gitignore` within the template.
RENAMED = {"gitignore": ".gitignore"}


def create_project(name: str, folder: Path) -> None:
    """Makes the project `name` in `folder`, whole or not at all.

    Raises:
        ProjectError: the name is none, or taken; the folder is there already, or cannot be made.
    """
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?", name) or keyword.iskeyword(name):
        rule = "is no name of a Python package. Take letters, digits and _, such as my_project."
        raise ProjectError(f"NAME {name!r} {rule}")
    if folder.exists():
        raise ProjectError(f"NAME {name!r}: {folder.absolute()} is there already. Take another name.")
    if taken := _taken(name):
        raise ProjectError(
            f"NAME {name!r} is also that of {taken}: Python would find one of the two. Take another."
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.absolute().parent) as scratch:
            partial = Path(scratch) / name
            for source in sorted(TEMPLATE.rglob("*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    _write(source, partial, name)
            partial.rename(folder)
    except OSError as exc:
        raise ProjectError(f"NAME {name!r}: {folder.absolute()} cannot be made: {exc}") from exc


def _taken(name: str) -> str:
    """What else bears the name; empty where nothing does."""
    if name in {entry.name for entry in TEMPLATE.iterdir()} - {PLACEHOLDER}:
        return "a folder within each project"
    # A config's `project:` is looked up within otter_ray first.
    for module in (f"otter_ray.{name}", name):
        if (spec := find_spec(module)) is not None:
            return f"the module {module} ({spec.origin or 'a package'})"
    return ""


def _write(source: Path, folder: Path, name: str) -> None:
    inner = Path(*(part.replace(PLACEHOLDER, name) for part in source.relative_to(TEMPLATE).parts))
    target = folder / inner.with_name(RENAMED.get(inner.name, inner.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text().replace(PLACEHOLDER, name))
