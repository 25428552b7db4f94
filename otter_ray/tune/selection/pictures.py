"""Write what a report shows of the winner and of the base config. An error never costs a model."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otter_ray.errors import FileError, in_one_line
from otter_ray.export.evaluation import illustrate_checkpoint
from otter_ray.export.result import Exported
from otter_ray.files import atomic_write
from otter_ray.study.gallery import is_about, read_gallery
from otter_ray.study.layout import GALLERY
from otter_ray.study.schema import CHECKPOINT
from otter_ray.study.trials import TrialRecord
from otter_ray.tune.context import StudyContext
from otter_ray.tune.selection.candidates import base_checkpoint

logger = logging.getLogger(__name__)
Illustrate = Callable[[], dict[str, Any]]


def draw_gallery(context: StudyContext, rows: list[TrialRecord], exported: Exported) -> None:
    """Write `gallery.json` if it is not there: the winner's pictures, and the base config's curves.

    If the base config is still to be compared with the winner, its curves are added then.

    Args:
        context: of the study.
        rows: its trials.
        exported: the winner's file.
    """

    def illustrate_base() -> dict[str, Any]:
        base = base_checkpoint(context, rows)
        return illustrate_checkpoint(base[1], context.problem.code) if base else {}

    folder, facts = context.folder.path, exported.facts
    if _kept(folder, exported) or (pictures := _drawn("winner", exported.illustrate)) is None:
        return
    curves = _curves(illustrate_base) if facts["base"] is not None else []
    about = {"onnx": exported.onnx.name, CHECKPOINT: facts[CHECKPOINT]}
    _write(folder, {**about, "winner": pictures, "base": curves})


def add_base_curves(folder: Path, exported: Exported, illustrate: Illustrate) -> None:
    """Add the base config's curves to `gallery.json` if that is about the winner's file.

    Args:
        folder: of the study.
        exported: the winner's file.
        illustrate: Returns what a report shows of the base config's model.
    """
    if gallery := _kept(folder, exported):
        _write(folder, {**gallery, "base": _curves(illustrate)})


def _curves(illustrate: Illustrate) -> list[Any]:
    curves: list[Any] = (_drawn("base config", illustrate) or {}).get("curves", [])
    return curves


def _drawn(what: str, illustrate: Illustrate) -> dict[str, Any] | None:
    try:
        return illustrate()
    except Exception as exc:  # a project's own code raises anything
        logger.warning(f"the report has no pictures of the {what}: {in_one_line(exc)}")
        return None


def _kept(folder: Path, exported: Exported) -> dict[str, Any] | None:
    """Return the gallery if it is about this file."""
    try:
        gallery = read_gallery(folder)
    except FileError as exc:
        logger.warning(f"drawn again: {exc}")
        return None
    return gallery if gallery is not None and is_about(gallery, exported.onnx, exported.facts) else None


def _write(folder: Path, gallery: dict[str, Any]) -> None:
    try:
        with atomic_write(folder / GALLERY) as file:
            file.write_text(json.dumps(gallery))
    except Exception as exc:  # what a project's code returns may be no JSON
        logger.warning(f"the report has no pictures: {in_one_line(exc)}")
