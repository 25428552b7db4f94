"""What an export leaves for the report: curves and pictures of the winner, and the base config's curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from otter_ray.files import read_json
from otter_ray.study.layout import GALLERY
from otter_ray.study.schema import CHECKPOINT


class _Mark(BaseModel):
    x: float
    y: float
    text: str


class _Curve(BaseModel):
    title: str
    x_title: str
    y_title: str
    log_x: bool = False
    x: list[float]
    y: list[float]
    mark: _Mark | None = None


class _Picture(BaseModel):
    image: str
    name: str
    text: str
    kind: str


class _Gallery(BaseModel):
    title: str
    text: str
    rows: list[list[_Picture]]


class _Illustrations(BaseModel):
    curves: list[_Curve] = []
    galleries: list[_Gallery] = []


class _File(BaseModel):
    onnx: str
    checkpoint_sha256: str = ""
    winner: _Illustrations
    base: list[_Curve]


def is_about(gallery: Mapping[str, Any], onnx: Path, facts: Mapping[str, Any]) -> bool:
    """Say whether the pictures are of this ONNX file.

    Args:
        gallery: what `read_gallery` returns.
        onnx: the file; another winner's of the same day has the same name.
        facts: the content of the JSON file next to it.
    """
    checkpoint = facts.get(CHECKPOINT)
    return bool(gallery["onnx"] == onnx.name and gallery.get(CHECKPOINT, checkpoint) == checkpoint)


def read_gallery(folder: Path) -> dict[str, Any] | None:
    """Read the file; None if there is none.

    It has `onnx`, the file that it is about, and the `checkpoint_sha256` of that file's checkpoint, which an
    earlier version did not write; `winner`, as its model's `illustrate` returns it; and `base`, the base
    config's curves.

    Raises:
        FileError: the file cannot be read.
    """
    return read_json(folder / GALLERY, _File, "Delete it. The study's next --resume draws it again.")
