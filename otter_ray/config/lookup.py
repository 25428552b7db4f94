"""Where configs and search spaces are found by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import otter_ray
from otter_ray.errors import ConfigError, Problem, did_you_mean

REPOSITORY = Path(otter_ray.__file__).parents[1]


def find_config(name_or_path: str) -> Path:
    """The config's file: a path as given, `./configs/NAME.yaml`, or the repository's own.

    Raises ConfigError that lists the configs there are.
    """
    return _find(name_or_path, "configs", "config")


def find_space(name_or_path: str) -> Path:
    """The search space's file, by the rules of `find_config`, in the folder `search_spaces`."""
    return _find(name_or_path, "search_spaces", "search space")


def _find(name_or_path: str, folder: str, what: str) -> Path:
    folders = [Path(folder), REPOSITORY / folder]
    stem = name_or_path.removesuffix(".yaml")
    for path in (Path(name_or_path), *(place / f"{stem}.yaml" for place in folders)):
        if _is_file(path):
            return path
    raise ConfigError([Problem("", _absent(name_or_path, stem, folders, what))])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that holds a NUL
        return False


def _absent(name: str, stem: str, folders: Sequence[Path], what: str) -> str:
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    there = f"There are: {', '.join(known)}." if known else "There are none."
    searched = " and ".join(str(folder) for folder in folders)
    return f"no {what} {name!r} in {searched}.{did_you_mean(Path(stem).name, known)} {there}"
