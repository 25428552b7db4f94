"""The model card next to an ONNX file: what whoever gets the file needs to know to use it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import yaml

from otter_ray.config.schema import Onnx
from otter_ray.errors import FileError
from otter_ray.export.model_files import REMEDY, read_facts
from otter_ray.files import atomic_write
from otter_ray.formatting import (
    PRECISION_COLUMNS,
    announcement,
    gain_lines,
    precision_cells,
    selection_lines,
    with_interval,
)

CARD = "MODEL.md"
FPRS = (1e-1, 1e-2, 1e-3, 1e-4)
CHANNELS = {
    "rgb": "The colour channels are in the order red, green, blue: reverse those that OpenCV reads.",
    "bgr": "The colour channels are in the order blue, green, red, as OpenCV reads images.",
}


def write_card(file: Path, name: str = CARD) -> Path | None:
    """Write the ONNX file's card from its JSON; return None if there is none, or an earlier version wrote it.

    Raises:
        FileError: the JSON or the ONNX file cannot be read.
    """
    facts = read_facts(file)
    if facts is None or "example" not in facts:
        return None
    card = file.with_name(name)
    with atomic_write(card) as partial:
        partial.write_text("\n\n".join(_sections(file, facts)) + "\n", encoding="utf-8")
    return card


def blank_example(section: Onnx, file: str) -> str:
    """Return a program that runs the file on zeros."""
    shapes = {name: (1, *section.input_shape[name].shape[1:]) for name in section.input_names}
    inputs = [
        f'"{name}": np.zeros({shape}, "{section.input_shape[name].dtype}")' for name, shape in shapes.items()
    ]
    return "\n".join(
        [
            "import numpy as np",
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])',
            f"outputs = session.run(None, {{{', '.join(inputs)}}})",
            "for about, output in zip(session.get_outputs(), outputs):",
            "    print(about.name, output.shape)",
        ]
    )


def _sections(file: Path, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {file.name}"
    yield (
        facts["intended_use"]
        or f"The model of the config `{facts['config']}`. Its project does not describe its use."
    )
    yield "## Figures"
    yield "\n".join(f"- {line}" for line in _figures(facts))
    if thresholds := [*_thresholds(facts)]:
        yield "## Thresholds"
        yield from thresholds
    if len(facts.get("precisions") or []) > 1:
        yield "## Files"
        yield "\n".join(_files(facts))
        yield (
            "All files were run over the same validation items. The loss is what the metric is worse by "
            "than the fp32 file's, with its paired 95 % interval. The latency is that of one input on one "
            "thread. To use another file, change its name in the example."
        )
    yield "## Input and output"
    yield "\n".join(_tensors(_loaded(file)))
    # None if the wrapper has no choice, absent if an earlier version wrote the JSON.
    if channels := facts.get("channels"):
        yield CHANNELS[channels]
    yield "## Example"
    arguments = " IMAGE ..." if "sys.argv" in facts["example"] else ""
    yield f"In this folder, as `example.py`; `python example.py{arguments}`:"
    yield f"```python\n{facts['example']}\n```"
    if search := facts.get("search_example"):
        yield "## Enrolling and searching"
        yield (
            "As `search.py`; `python search.py IMAGE ENROLLED ENROLLED` lists the enrolled images, the most "
            "similar first. To enroll many, keep their embeddings in a file instead of computing them again:"
        )
        yield f"```python\n{search}\n```"
    yield (
        "The first axis of every input is the batch: several inputs can be run at once. On a GPU, install "
        'onnxruntime-gpu and give `providers=["CUDAExecutionProvider", "CPUExecutionProvider"]`.'
    )
    yield "## Data"
    yield f"```yaml\n{yaml.safe_dump(facts['data'], sort_keys=False)}```"
    yield "## Where it comes from"
    yield "\n".join(f"- {line}" for line in _origin(facts))


def _figures(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the metric of this file on the validation set and, if there is one, on the test split."""
    metric, gate = facts["metric"], facts["gate"]
    if gate["test"]:
        yield announcement(gate["test"], metric)
    figure = with_interval(gate["metrics"][metric], gate["interval"])
    items = f"{gate['images']} {gate.get('unit', 'images')}"
    yield f"validation: {metric} {figure} on {items}, by which its epoch was chosen"
    if (base := facts.get("base")) and base["trial"] != facts.get("trial"):
        yield f"the base config on validation: {metric} {with_interval(base['value'], base['interval'])}"
        yield from gain_lines(facts)
    yield from selection_lines(facts)
    if gate.get("unmeasured"):
        yield f"{metric} was {gate['unmeasured']}"
    yield f"{facts['parameters']:,} parameters, {facts['macs']:,} MACs for each item"


def _thresholds(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the thresholds, if the project measures a ROC curve: on the test split if possible."""
    gate = facts["gate"]
    test = (gate["test"] or {}).get("details") or {}
    split, details = ("test", test) if "roc" in test else ("validation", gate["details"])
    rows = {row["fpr"]: row for row in details.get("roc", ())}
    if not all(fpr in rows for fpr in FPRS):
        return
    negatives = details["negative_pairs"]
    yield (
        f"Measured on this file, over all pairs of {split} images: {details['positive_pairs']:,} that belong "
        f"together, {negatives:,} that do not. A score at or above the threshold means that two images "
        "belong together."
    )
    table = [
        "| false positive rate | threshold | true positive rate | negative pairs that may pass |",
        "|---|---|---|---|",
    ]
    for fpr in FPRS:
        threshold, tpr = rows[fpr]["threshold"], rows[fpr]["tpr"]
        # Rounded down: a score that equals it passes.
        known = f"{math.floor(threshold * 1e8) / 1e8:.8f}" if math.isfinite(threshold) else "none"
        table.append(f"| {fpr:.0e} | {known} | {tpr:.4f} | {math.floor(fpr * negatives)} of {negatives:,} |")
    yield "\n".join(table)
    yield (
        "Choose by the use. A search whose results are looked through may pass 1 of 10 or of 100 wrong pairs "
        "(1e-1, 1e-2). A verification that decides alone should pass 1 of 10,000 (1e-4)."
    )
    if FPRS[-1] * negatives < 1:
        yield "If not even one may pass, the hardest pair seen sets the threshold: measure on more images."


def _files(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the files by precision."""
    yield f"| {' | '.join(PRECISION_COLUMNS)} |"
    yield "|" + "---|" * len(PRECISION_COLUMNS)
    for row in facts["precisions"]:
        cells = [cell.replace("|", "\\|") for cell in precision_cells(row)]
        yield f"| {' | '.join(cells)} |"


def _loaded(file: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(file), load_external_data=False)
    except Exception as exc:  # what protobuf raises is not part of onnx's interface
        raise FileError(f"{file}: cannot be read as an ONNX file: {exc}. {REMEDY}") from exc


def _tensors(model: onnx.ModelProto) -> Iterator[str]:
    yield "| | name | type | shape |"
    yield "|---|---|---|---|"
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            shape = ", ".join(str(axis.dim_param or axis.dim_value) for axis in tensor.shape.dim)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            yield f"| {kind} | `{value.name}` | {dtype} | [{shape}] |"


def _origin(facts: Mapping[str, Any]) -> Iterator[str]:
    trial = f", trial {facts['trial']} of its study" if "trial" in facts else ""
    yield f"config `{facts['config']}`{trial}, epoch {facts['epoch']}, exported {facts['date']}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield f"opset {facts['gate']['opset']}; {versions}"
    yield f"checkpoint {facts['checkpoint_sha256']}, config {facts['config_sha256']} (SHA-256)"
    yield "all of this and the gate's figures are in the JSON next to it and in the ONNX file's metadata"
