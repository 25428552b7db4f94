"""Make the files of lower precision that go with an exported model, and measure what each loses."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from otter_ray.config import Config
from otter_ray.config.schema import Quantize
from otter_ray.direction import Direction
from otter_ray.disk import flush_to_disk
from otter_ray.errors import ExportError, in_one_line
from otter_ray.export.comparison.gain import gain_of
from otter_ray.export.comparison.network import Network, Score, onnx_network
from otter_ray.export.evaluation import config_of, evaluation_loader, read_run_checkpoint, unpacked
from otter_ray.export.gate import BATCHES, Predictions
from otter_ray.export.model_card import CARD, write_card
from otter_ray.export.model_files import file_digest, is_ours, precision_file, read_facts, write_facts
from otter_ray.export.model_stats import onnx_latency
from otter_ray.export.onnx_file import copy_metadata, onnx_section
from otter_ray.export.precision.calibration import calibration_batches
from otter_ray.export.precision.conversion import Int8Converter, to_float16
from otter_ray.redaction import safe_text
from otter_ray.train.builders import build_test, build_valid, load_model_from_config
from otter_ray.train.model.example_inputs import example_inputs
from otter_ray.train.model.module_mixin import Run

COMPARED_BATCHES = 4  # of the calibration, on which the layers of an int8 file are compared
PATIENCE = 2  # sets of layers that are left out without less being lost, before int8 is given up
Row = dict[str, Any]


def add_precisions(
    file: Path,
    checkpoint: Path,
    quantize: Quantize,
    direction: Direction,
    config: Config | None = None,
    project: str | None = None,
    card: str = CARD,
    predictions: bytes = b"",
) -> list[Row]:
    """Make the files that `quantize` asks for next to an exported fp32 file; note them in its JSON and card.

    A file that cannot be made, or that loses too much, leaves a reason and never costs the fp32 file.

    Args:
        file: The fp32 file, next to its JSON.
        checkpoint: That it was exported from.
        quantize: What is asked for.
        direction: Which values of the metric are better.
        config: That it was exported with; None for the checkpoint's own.
        project: The one that the checkpoint may import (see `config_of`).
        card: The name of the file's card.
        predictions: The fp32 file's for the validation set (`Exported.predictions`), if they are kept.

    Returns:
        One row for each file, the fp32 file's first, as in the JSON's `precisions`.

    Raises:
        OtterError: The fp32 file has no JSON, or cannot be measured.
    """
    facts = read_facts(file)
    if facts is None:
        raise ExportError(f"{file} has no JSON next to it. Export the checkpoint again.")
    asked = {**quantize.model_dump(), "precisions": quantize.wanted}
    if _are_there(file, facts, asked):
        rows: list[Row] = facts["precisions"]
        return rows
    config = config or config_of(read_run_checkpoint(checkpoint), checkpoint, project)
    model = load_model_from_config(config, checkpoint)
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as folder:
        bench = _Bench(onnx_network(file, config, model), file, facts, direction, quantize, Path(folder))
        rows = [bench.fp32(unpacked(predictions)), *(bench.made(precision) for precision in quantize.wanted)]
        _advise(rows)
        for row in rows[1:]:
            _place(bench, row)
    write_facts(file, {**facts, "precisions": rows, "quantize": asked})
    write_card(file, card)
    return rows


class _Bench:
    """Measures files on the same items as the fp32 file.

    Args:
        exact: The fp32 file's network.
        source: The fp32 file.
        facts: The content of its JSON.
        direction: Which values of the metric are better.
        quantize: What is asked for.
        folder: For files that are not handed out yet.
    """

    def __init__(
        self,
        exact: Network,
        source: Path,
        facts: dict[str, Any],
        direction: Direction,
        quantize: Quantize,
        folder: Path,
    ) -> None:
        self.exact, self.source, self.folder = exact, source, folder
        self.config, self.model = exact.config, exact.model
        self.metric, self.direction, self.quantize = facts["metric"], direction, quantize
        self.valid = build_valid(self.config)
        self.gate_test = facts["gate"].get("test")
        self.test = build_test(self.config, self.valid) if self.gate_test else None

    def fp32(self, predictions: Predictions | None) -> Row:
        """Return the row of the file that the others are measured against."""
        if predictions is None:
            predictions = self.exact.predict(evaluation_loader(self.config, self.valid))
        self.reference = self.exact.score(predictions, self.metric, self.valid)
        row = self._measured("fp32", self.source, self.reference)
        test = self.gate_test and self.gate_test["metrics"][self.metric]
        return {**row, "sha256": file_digest(self.source), "test": test}

    def made(self, precision: str) -> Row:
        """Make and measure a file; its row says why there is none.

        Only a file that is handed out is run on the test split.
        """
        target = precision_file(self.source, precision)
        if target.exists() and not is_ours(target):
            return _row(precision, reason=f"{target.name} is there, and otter_ray did not write it: move it")
        try:
            row = self._fp16() if precision == "fp16" else self._int8()
            if not row["reason"]:
                row["test"] = self._tested(self._network(self.folder / f"{precision}.onnx"))
            return row
        except Exception as exc:  # onnxruntime's tools raise anything
            return _row(precision, reason=safe_text(f"it cannot be made: {in_one_line(exc)}"))

    def row(self, precision: str, path: Path, left_out: Sequence[str] = ()) -> Row:
        """Measure a file on the validation set."""
        self._check(path)
        try:
            found = self._network(path).measure(self.valid, self.metric)
        except _NotFiniteError as exc:
            return _row(precision, reason=str(exc))
        if not math.isfinite(found.value):
            return _row(precision, reason=f"its {self.metric} is not a number")
        row = {**self._measured(precision, path, found), "left_out": [*left_out]}
        row["loss"] = lost = self._loss(found)
        if lost["value"] > self.quantize.loss_limit:
            row["reason"] = (
                f"it loses {lost['value']:.4f} of {self.metric}, more than max_loss "
                f"({self.quantize.loss_limit:g})"
            )
        return row

    def _measured(self, precision: str, path: Path, found: Score) -> Row:
        return _row(
            precision,
            file=precision_file(self.source, precision).name,
            bytes=path.stat().st_size,
            latency_ms=onnx_latency(path, onnx_section(self.config)),
            value=found.value,
            interval=found.interval,
        )

    def _network(self, path: Path) -> Network:
        """Return a file's network, whose outputs must be finite: the gate has found those of fp32 to be."""
        network = onnx_network(path, self.config, self.model)
        return replace(network, run=partial(_finite, network.run, onnx_section(self.config).output_names))

    def _tested(self, network: Network) -> float | None:
        """Return the metric on the test split, if there is one; None if an output there is not finite.

        What is handed out is decided on the validation set alone.
        """
        try:
            return None if self.test is None else network.measure(self.test, self.metric).value
        except _NotFiniteError:
            return None

    def _loss(self, found: Score) -> dict[str, Any]:
        """Return what a file loses, positive if it does, and the paired 95 % interval."""
        return gain_of(self.reference, found, self.direction)

    def _fp16(self) -> Row:
        path = self.folder / "fp16.onnx"
        to_float16(self.source, path)
        return self.row("fp16", path)

    def _int8(self) -> Row:
        """Quantize all layers; while too much is lost, leave more of the worst ones in float32."""
        path, layers = self.folder / "int8.onnx", self._converter.nodes
        if not layers:
            return _row("int8", reason="the model has no convolution or matrix product to quantize")
        self._converter.write(path)
        best = self.row("int8", path)
        worst: list[str] = []
        count, patience = 1, PATIENCE
        while best["reason"] and count < len(layers) and patience:
            worst = worst or self._worst_first(layers)
            self._converter.write(self.folder / "next.onnx", worst[:count])
            row = self.row("int8", self.folder / "next.onnx", worst[:count])
            if row["loss"] and (not best["loss"] or row["loss"]["value"] < best["loss"]["value"]):
                best, patience = row, PATIENCE
                (self.folder / "next.onnx").replace(path)
            else:
                patience -= 1
            count *= 2
        return best

    @cached_property
    def _converter(self) -> Int8Converter:
        batches = calibration_batches(self.exact, self.quantize.images)
        return Int8Converter(self.source, self.folder, batches, self.quantize.method)

    def _worst_first(self, layers: Sequence[str]) -> list[str]:
        """Sort the layers by how far the outputs move if that layer alone is quantized."""
        some = islice(calibration_batches(self.exact, self.quantize.images), COMPARED_BATCHES)
        batches = [[torch.from_numpy(array) for array in batch.values()] for batch in some]
        wanted = [self.exact.run(inputs) for inputs in batches]
        moved = {}
        for layer in layers:
            path = self.folder / "one.onnx"
            self._converter.write(path, [other for other in layers if other != layer])
            network = onnx_network(path, self.config, self.model)
            given = [network.run(inputs) for inputs in batches]
            pairs = [pair for some in zip(given, wanted, strict=True) for pair in zip(*some, strict=True)]
            moved[layer] = sum(float((one.double() - other.double()).square().sum()) for one, other in pairs)
        return sorted(layers, key=lambda layer: -moved[layer])

    def _check(self, path: Path) -> None:
        """Run the file with the gate's batch sizes.

        Raises:
            ExportError: It is not valid, or an output has another number of rows.
        """
        onnx.checker.check_model(onnx.load(str(path)), full_check=True)
        network, section = onnx_network(path, self.config, self.model), onnx_section(self.config)
        for batch in BATCHES:
            outputs = network.run([*example_inputs(section, batch).values()])
            if any(len(output) != batch for output in outputs):
                raise ExportError(f"an output has {len(outputs[0])} rows for a batch of {batch}")


class _NotFiniteError(ExportError):
    """An output of a file is not finite."""


def _finite(run: Run, names: Sequence[str], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of a network.

    Raises:
        _NotFiniteError: A value of one is infinite or NaN, whether or not the metric sees it.
    """
    outputs = run(inputs)
    for name, output in zip(names, outputs, strict=True):
        if not output.isfinite().all():
            raise _NotFiniteError(f"its output {name!r} has values that are not finite")
    return outputs


def _row(precision: str, **known: Any) -> Row:
    none: Row = {
        "precision": precision,
        "file": "",
        "sha256": "",
        "bytes": None,
        "latency_ms": None,
        "value": None,
        "interval": None,
        "test": None,
        "loss": None,
        "left_out": [],
        "reason": "",
        "advice": "",
    }
    return {**none, **known}


def _advise(rows: Sequence[Row]) -> None:
    """Name the fastest and the smallest of the files that are handed out."""
    handed = [row for row in rows if not row["reason"]]
    min(handed, key=lambda row: float(row["latency_ms"]))["advice"] = "fastest here"
    smallest = min(handed, key=lambda row: int(row["bytes"]))
    smallest["advice"] = ", ".join(filter(None, [smallest["advice"], "smallest"]))


def _place(bench: _Bench, row: Row) -> None:
    """Put a file next to the fp32 file, with the same metadata; or remove an earlier one."""
    target = precision_file(bench.source, row["precision"])
    if row["reason"]:
        if target.exists() and is_ours(target):
            target.unlink()
        return
    path = target.with_suffix(".partial")
    try:
        shutil.copyfile(bench.folder / f"{row['precision']}.onnx", path)
        copy_metadata(bench.source, path, {"precision": row["precision"]})
        flush_to_disk(path)
        row["bytes"], row["sha256"] = path.stat().st_size, file_digest(path)
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def _are_there(file: Path, facts: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Return whether the JSON has figures for what is asked for, and the files are those measured."""
    rows = facts.get("precisions", [])
    could_not_be_made = any(row["value"] is None for row in rows)
    if facts.get("quantize") != asked or not rows or could_not_be_made:
        return False
    paths = [(precision_file(file, row["precision"]), row) for row in rows if not row["reason"]]
    return all(path.is_file() and file_digest(path) == row["sha256"] for path, row in paths)
