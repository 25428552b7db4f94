"""The files of exported models: each ONNX file has a JSON file next to it that says what it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otter_ray.errors import FileError
from otter_ray.files import atomic_write, read_json
from otter_ray.formatting import LOWER_PRECISIONS

# How exported files are called: CONFIG_DATE_fp32, CONFIG_DATE_trial7_fp32, and -2 and so on behind it.
EXPORTED = re.compile(r"(.+_\d{8}(?:_trial\d+)?_fp32)(?:-\d+)?")
LOWER = re.compile(rf"(.+_\d{{8}}(?:_trial\d+)?)_({'|'.join(LOWER_PRECISIONS)})((?:-\d+)?)")
EXPORTS = "exports"  # folder in a study's folder: its models that are not the winner
REMEDY = "Delete it. If a study needs the model, its next --resume exports it again."

# What a model card needs; an earlier version wrote none of it but these, or no `example`.
CARD_FACTS = {
    "config", "config_sha256", "checkpoint_sha256", "parameters", "macs", "versions", "intended_use", "data",
}  # fmt: skip

Metrics = dict[str, float]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Figure(_Part):
    value: float
    interval: Interval | None


class _Baseline(_Figure):
    trial: int
    test: _Figure | None = None
    gain: _Figure | None = None
    test_gain: _Figure | None = None
    unpaired: str = ""


class _Selection(_Part):
    models: int
    optimism: float


class _Holdout(BaseModel):
    metrics: Metrics
    interval: Interval | None
    images: int
    classes: int | None
    kept_out: bool
    earlier: list[str]
    details: dict[str, Any] = {}
    unit: str = "images"
    unmeasured: str = ""


class _PrecisionRow(_Part):
    precision: Literal["fp32", "fp16", "int8"]
    file: str
    sha256: str
    bytes: int | None
    latency_ms: float | None
    value: float | None
    interval: Interval | None
    test: float | None
    loss: _Figure | None
    left_out: list[str]
    reason: str
    advice: str


class _Gate(_Part):
    opset: int
    batches: list[int]
    output_difference: float
    metrics: Metrics
    interval: Interval | None
    pytorch_metrics: Metrics
    recorded: float
    images: int
    details: dict[str, Any]
    metric: str
    test: _Holdout | None = None
    unit: str = "images"


class _Facts(_Part):
    """What a JSON file has that is read again. An earlier version may have written less beside it."""

    metric: str
    epoch: int
    date: str
    gate: _Gate
    trial: int = 0
    base: _Baseline | None = None
    selection: _Selection | None = None
    precisions: list[_PrecisionRow] = []
    # Of the model card.
    config: str = ""
    config_sha256: str = ""
    checkpoint_sha256: str = ""
    onnx_sha256: str = ""
    parameters: int = 0
    macs: int = 0
    versions: dict[str, str] = {}
    intended_use: str = ""
    example: str = ""
    search_example: str | None = None
    data: dict[str, Any] = {}
    channels: Literal["rgb", "bgr"] | None = None

    @model_validator(mode="after")
    def _has_its_metric(self) -> Self:
        gate = self.gate
        measured = [gate.metrics, *([gate.test.metrics] if gate.test else [])]
        if any(self.metric not in metrics for metrics in measured):
            raise ValueError(f"{self.metric} was not measured")
        if gate.metrics.keys() != gate.pytorch_metrics.keys():
            raise ValueError("gate: metrics and pytorch_metrics differ in what they measure")
        if "example" in self.model_fields_set and (lacking := CARD_FACTS - self.model_fields_set):
            raise ValueError(f"{', '.join(sorted(lacking))} is missing")
        return self


def facts_file(onnx: Path) -> Path:
    """Return the JSON file next to an ONNX file."""
    return onnx.with_suffix(".json")


def read_facts(onnx: Path) -> dict[str, Any] | None:
    """Read the JSON file next to an ONNX file; None if there is none.

    Raises:
        FileError: it cannot be read.
    """
    return read_json(facts_file(onnx), _Facts, REMEDY)


def write_facts(onnx: Path, facts: Mapping[str, Any]) -> None:
    """Write the JSON file next to an ONNX file."""
    with atomic_write(facts_file(onnx)) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n")


def file_digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def precision_file(onnx: Path, precision: str) -> Path:
    """Return the name of the file of another precision that goes with an exported fp32 file."""
    head, _, tail = onnx.stem.rpartition("_fp32")
    return onnx.with_name(f"{head}_{precision}{tail}.onnx")


def free_name(folder: Path, stem: str, source: Path | None = None) -> Path:
    """Return `stem.onnx`, or `stem-2.onnx` and so on: exports overwrite no file, of any precision.

    Args:
        folder: Where the file goes.
        stem: The name that it gets if nothing has it.
        source: The file that is moved there; None for a new one. What it has of lower precision may have been
            moved before, by a command that was killed.
    """
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    paths = (folder / f"{name}.onnx" for name in names)
    return next(path for path in paths if not _is_taken(path, source))


def _is_taken(path: Path, source: Path | None) -> bool:
    lower = [
        precision_file(path, precision)
        for precision in LOWER_PRECISIONS
        if source is None or precision_file(source, precision).exists()
    ]
    return any(file.exists() for file in (path, *lower))


def move_model(onnx: Path, target: Path) -> None:
    """Move a model's files.

    The ONNX file goes last: if a kill comes in between, the same move completes it.
    """
    target.parent.mkdir(exist_ok=True)
    for precision in LOWER_PRECISIONS:
        if (source := precision_file(onnx, precision)).exists():
            source.replace(precision_file(target, precision))
    _rename_rows(onnx, target)
    for suffix in (".md", ".json", ".onnx"):
        source = onnx.with_suffix(suffix)
        if source.exists():
            source.replace(target.with_suffix(suffix))


def _rename_rows(onnx: Path, target: Path) -> None:
    """Write the new names of a model's files into its JSON, before it is moved."""
    if onnx.stem == target.stem or (facts := read_facts(onnx)) is None or "precisions" not in facts:
        return
    rows = [
        {**row, "file": row["file"] and precision_file(target, row["precision"]).name}
        for row in facts["precisions"]
    ]
    write_facts(onnx, {**facts, "precisions": rows})


def set_aside(folder: Path, keep: Path | None = None) -> list[Path]:
    """Move the models that were exported into a folder to its `exports/`.

    Args:
        folder: a study's.
        keep: a model that stays.

    Returns:
        Where the ONNX files are now.
    """
    moved = []
    for onnx in sorted(folder.glob("*.onnx")):
        if onnx != keep and EXPORTED.fullmatch(onnx.stem):
            moved.append(free_name(folder / EXPORTS, onnx.stem, onnx))
            move_model(onnx, moved[-1])
    return moved


def remove_orphans(folder: Path) -> None:
    """Remove the JSON files of models that a kill kept from getting their ONNX file, and the other way round.

    Files of lower precision are removed if no JSON names them: a kill came before their figures were kept.

    Args:
        folder: a study's. Those in its `exports/` wait for a move that was cut short.
    """
    for file in folder.glob("*.onnx"):
        found = LOWER.fullmatch(file.stem)
        if found and not _is_known(file, *found.groups()) and is_ours(file):
            file.unlink()
    for file in folder.glob("*.json"):
        if EXPORTED.fullmatch(file.stem) and not file.with_suffix(".onnx").exists():
            file.unlink()


def _is_known(file: Path, head: str, precision: str, tail: str) -> bool:
    """Return whether the JSON of the fp32 file says that a file of lower precision goes with it."""
    try:
        facts = read_facts(file.with_name(f"{head}_fp32{tail}.onnx")) or {}
    except FileError:
        return True  # it is told when the model is looked for
    rows = (row for row in facts.get("precisions", []) if row["precision"] == precision)
    return any(row["file"] and not row["reason"] for row in rows)


def is_ours(file: Path) -> bool:
    """Return whether otter_ray wrote an ONNX file: its metadata names the checkpoint that it is of."""
    import onnx  # only for the rare file that is to be removed

    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception:  # protobuf's own, of a file that is no model
        return False
    return any(entry.key == "checkpoint_sha256" for entry in model.metadata_props)


def plain_stem(onnx: Path) -> str:
    """Return the name that an exported file had before another one took it: without `-2`."""
    name = EXPORTED.fullmatch(onnx.stem)
    return name[1] if name else onnx.stem


def exports_in(folder: Path) -> tuple[list[tuple[Path, dict[str, Any]]], list[FileError]]:
    """List the ONNX files in a folder that otter_ray exported.

    Returns:
        Each with the content of its JSON file; and an error for each JSON file that cannot be read.
    """
    found, damaged = [], []
    for onnx in sorted(folder.glob("*.onnx")):
        try:
            facts = read_facts(onnx)
        except FileError as exc:
            damaged.append(exc)
            continue
        if facts is not None:
            found.append((onnx, facts))
    return found, damaged
