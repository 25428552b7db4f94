"""Make a project from the templates: one that runs, under another name."""

from __future__ import annotations

import keyword
import re
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from otter_ray.errors import ProjectError

TEMPLATE = Path(__file__).parent / "template"
COMMON = "common"  # the folder of what all kinds of projects have
PLACEHOLDER = "my_project"
# Kind -> what its model finds out, for the README that has the word PURPOSE.
KINDS = {
    "classifier": "which of four shapes is drawn on an image",
    "embedding": "which images show the same mark, also for marks that training never saw",
    "corners": "where the four corners of a sheet are on an image",
    "text": "which digits are drawn on an image",
}
DEFAULT_KIND = "classifier"
# Git would obey a `.gitignore` within the template.
RENAMED = {"gitignore": ".gitignore"}


def create_project(name: str, folder: Path, kind: str = DEFAULT_KIND) -> None:
    """Make the project `name` in `folder`, completely or not at all.

    Args:
        name: Of the project and its package.
        folder: Which is to be made.
        kind: One of `KINDS`.

    Raises:
        ProjectError: There is no such kind; the name is not usable, or taken; the folder exists, or cannot be
            made.
    """
    if kind not in KINDS:
        raise ProjectError(f"--like {kind!r} is not a kind of project. Choose one of {', '.join(KINDS)}.")
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
            words = {"PURPOSE": KINDS[kind], PLACEHOLDER: name}  # in this order: a name may hold PURPOSE
            for template in (TEMPLATE / COMMON, TEMPLATE / kind):
                for source in sorted(template.rglob("*")):
                    if source.is_file() and "__pycache__" not in source.parts:
                        _write(source, partial / _renamed(source.relative_to(template), name), words)
            partial.rename(folder)
    except OSError as exc:
        raise ProjectError(f"NAME {name!r}: {folder.absolute()} cannot be created: {exc}") from exc


def _taken(name: str) -> str:
    """Return what else has the name; empty if nothing does."""
    folders = {entry.name for kind in (COMMON, DEFAULT_KIND) for entry in (TEMPLATE / kind).iterdir()}
    if name in folders - {PLACEHOLDER}:
        return "a folder within each project"
    # A config's `project:` is looked up within otter_ray.projects first.
    for module in (f"otter_ray.projects.{name}", name):
        if (spec := find_spec(module)) is not None:
            return f"the module {module} ({spec.origin or 'a package'})"
    return ""


def _renamed(inner: Path, name: str) -> Path:
    """Return a file's path below the project, from its path below the template."""
    parts = [part.replace(PLACEHOLDER, name) for part in inner.parts]
    return Path(*parts[:-1], RENAMED.get(parts[-1], parts[-1]))


def _write(source: Path, target: Path, words: Mapping[str, str]) -> None:
    text = source.read_text(encoding="utf-8")
    for word, other in words.items():
        text = text.replace(word, other)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
