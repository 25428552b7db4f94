"""The model card beside an ONNX file: what whoever gets the file needs to know to use it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import yaml

from otter_ray.config.schema import Onnx
from otter_ray.figures import announcement, with_interval
from otter_ray.files import written_whole

CARD = "MODEL.md"
FPRS = (1e-2, 1e-3, 1e-4)


def write_card(file: Path, name: str = CARD) -> Path | None:
    """Writes the card of the ONNX file from the JSON beside it; None where an earlier version wrote that."""
    facts = json.loads(file.with_suffix(".json").read_text())
    if "example" not in facts:
        return None
    card = file.with_name(name)
    with written_whole(card) as partial:
        partial.write_text("\n\n".join(_sections(file, facts)) + "\n")
    return card


def blank_example(section: Onnx, file: str) -> str:
    """A program that runs the file on zeros."""
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
        or f"The model of the config `{facts['config']}`. Its project says no more of its use."
    )
    yield "## Figures"
    yield "\n".join(f"- {line}" for line in _figures(facts))
    if thresholds := [*_thresholds(facts)]:
        yield "## Thresholds"
        yield from thresholds
    yield "## Input and output"
    yield "\n".join(_tensors(onnx.load(str(file), load_external_data=False)))
    yield "## Example"
    arguments = " IMAGE ..." if "sys.argv" in facts["example"] else ""
    yield f"In this folder, as `example.py`; `python example.py{arguments}`:"
    yield f"```python\n{facts['example']}\n```"
    yield "## Data"
    yield f"```yaml\n{yaml.safe_dump(facts['data'], sort_keys=False)}```"
    yield "## Where it comes from"
    yield "\n".join(f"- {line}" for line in _origin(facts))


def _figures(facts: Mapping[str, Any]) -> Iterator[str]:
    """The metric on this very file: of the validation set and, where there is one, the test split."""
    metric, gate = facts["metric"], facts["gate"]
    if gate["test"]:
        yield announcement(gate["test"], metric)
    figure = with_interval(gate["metrics"][metric], gate["interval"])
    yield f"validation: {metric} {figure} on {gate['images']} images, by which its epoch was chosen"
    yield f"{facts['parameters']:,} parameters, {facts['macs']:,} MACs for each item"


def _thresholds(facts: Mapping[str, Any]) -> Iterator[str]:
    """Where the project draws a ROC curve: of the test split, if there is one that has it."""
    gate = facts["gate"]
    test = (gate["test"] or {}).get("details") or {}
    split, details = ("test", test) if "roc" in test else ("validation", gate["details"])
    rows = {row["fpr"]: row for row in details.get("roc", ())}
    if not all(fpr in rows for fpr in FPRS):
        return
    negatives = details["negative_pairs"]
    yield (
        f"Measured on this file, over all pairs of {split} images: {details['positive_pairs']:,} that belong "
        f"together, {negatives:,} that do not. A score of a threshold or more says that two belong together."
    )
    table = [
        "| false positive rate | threshold | true positive rate | wrong pairs that may pass |",
        "|---|---|---|---|",
    ]
    for fpr in FPRS:
        threshold, tpr = rows[fpr]["threshold"], rows[fpr]["tpr"]
        # Rounded down: a score that equals it passes.
        known = f"{math.floor(threshold * 1e8) / 1e8:.8f}" if math.isfinite(threshold) else "none"
        table.append(f"| {fpr:.0e} | {known} | {tpr:.4f} | {math.floor(fpr * negatives)} of {negatives:,} |")
    yield "\n".join(table)
    if FPRS[-1] * negatives < 1:
        yield "Where not one may pass, the hardest pair seen sets the threshold: measure on more images."


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
    yield "all of it, and the gate's figures, in the JSON beside this file and in the ONNX file's metadata"
