"""What a study's folder says about the machine and the code that it was last started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from otter_ray.files import read_json
from otter_ray.study.layout import ENVIRONMENT


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _System(_Part):
    host: str | None = None
    processor: str | None = None


class _Gpu(_Part):
    name: str


class _Project(_Part):
    name: str = ""
    git_revision: str | None = None


class _File(_Part):
    command: list[str] = []
    git_revision: str | None = None
    project: _Project = _Project()
    system: _System = _System()
    gpus: list[_Gpu] = []


def read_environment(folder: Path) -> dict[str, Any]:
    """Read `environment.json`; empty if there is none.

    Raises:
        FileError: the file cannot be read.
    """
    file, remedy = folder / ENVIRONMENT, "Delete it. The study's next --resume writes it again."
    return read_json(file, _File, remedy) or {}
