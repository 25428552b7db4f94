"""Find configs and search spaces by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import otter_ray
from otter_ray.config.user_paths import with_home
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.files import is_name

PACKAGE = Path(otter_ray.__file__).parent


def is_own_project(name: str) -> bool:
    """Return whether a project comes with otter_ray: importing it runs nobody else's code."""
    return is_name(name) and (PACKAGE / "projects" / name / "__init__.py").is_file()


def is_trusted(code: str, trusted: str | None) -> bool:
    """Return whether a config's packages (`Config.code`) come with otter_ray, or are among trusted ones."""
    return is_own_project(code) or (trusted is not None and {*code.split(",")} <= {*trusted.split(",")})


def find_config(name_or_path: str) -> Path:
    """Return the config's file: a path as given, `./configs/NAME.yaml`, or one that comes with otter_ray.

    Raises:
        ConfigError: there is no such config; the message lists those that exist.
    """
    return _find(name_or_path, "configs", "config")


def find_space(name_or_path: str) -> Path:
    """Return the search space's file, by the rules of `find_config`, in the folder `search_spaces`.

    Raises:
        ConfigError: there is no such search space; the message lists those that exist.
    """
    return _find(name_or_path, "search_spaces", "search space")


def known_names(folder: str) -> list[str]:
    """Return the names in `configs` or `search_spaces`: those of the current folder, and otter_ray's own."""
    return sorted({path.stem for place in (Path(folder), _shipped(folder)) for path in place.glob("*.yaml")})


def _find(name_or_path: str, folder: str, what: str) -> Path:
    name_or_path = with_home(name_or_path)
    folders = [Path(folder), _shipped(folder)]
    stem = name_or_path.removesuffix(".yaml")
    for path in (Path(name_or_path), *(place / f"{stem}.yaml" for place in folders)):
        if _is_file(path):
            return path
    raise ConfigError([Problem("", _absent(name_or_path, stem, folders, what, known_names(folder)))])


def _shipped(folder: str) -> Path:
    """Return where otter_ray's own files are: a wheel has them in the package, a checkout next to it."""
    installed = PACKAGE / folder
    return installed if installed.is_dir() else PACKAGE.parent / folder


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that holds a NUL
        return False


def _absent(name: str, stem: str, folders: Sequence[Path], what: str, known: Sequence[str]) -> str:
    there = f"There are: {', '.join(known)}." if known else "There are none."
    searched = " and ".join(str(folder) for folder in folders)
    if not folders[0].is_dir():
        there += f" Start the command in your project's folder, the one that holds {folders[0]}/."
    return f"no {what} {name!r} in {searched}.{did_you_mean(Path(stem).name, known)} {there}"
