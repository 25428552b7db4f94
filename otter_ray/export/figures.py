"""Figures of a config's model that need no training: built, exported and run with random weights."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from otter_ray.config import FIGURES, Config
from otter_ray.errors import ExportError
from otter_ray.export.onnx_file import example_inputs, onnx_section, wrap, write_onnx
from otter_ray.train.builders import build_model, with_classes
from otter_ray.train.mixin import BaseMixin
from otter_ray.train.record import model_figures

LATENCY = "onnx_latency_ms"
# A loss may want more classes than a handful (a top-k, a sample of them); these cost no time yet.
CLASSES = 1000
BATCHES = (1, 3)  # beside the one that was traced
WARM_UP, RUNS = 5, 50


def architecture(config: Config) -> str:
    """What a model's figures depend on, as text: equal for configs whose exported models are alike."""
    model = config.model.model_dump(exclude={"loss", "teacher"})
    model["backbone"]["options"].pop("pretrained", None)
    onnx = config.onnx and config.onnx.model_dump()
    known = [config.project, model, config.common.image_size, onnx]
    return json.dumps(known, sort_keys=True, default=str)


def fresh_model(config: Config) -> BaseMixin:
    """The config's model with random weights and, where it asks the data, some classes.

    Raises:
        OtterError: its parts do not fit together.
    """
    config = with_classes(config, CLASSES)
    if config.model.backbone.options.get("pretrained"):
        # Not with_values: a changed backbone would reset the sizes that are to be checked against it.
        config = config.with_sets(["model.backbone.options.pretrained=false"])
    return build_model(config)


def measure(config: Config, model: BaseMixin, names: Collection[str] = FIGURES) -> dict[str, float]:
    """The figures `names` of a model, in the order of FIGURES, after its ONNX file has been run.

    Raises:
        ExportError: it cannot be exported, or the file does not run with batches of several sizes.
    """
    section = onnx_section(config)
    wrapped = wrap(config, model)
    found: dict[str, float] = {}
    found.update(model_figures(wrapped, list(example_inputs(section, 1).values())))
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as folder:
        file = Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            # What the export of the winner has to say it says then.
            warnings.simplefilter("ignore")
            write_onnx(config, wrapped, file)
        session = _session(file)
        for batch in BATCHES:
            inputs = example_inputs(section, batch)
            with torch.inference_mode():
                expected = wrapped(*inputs.values())
            _compare(session, inputs, [expected] if isinstance(expected, Tensor) else list(expected))
        found["onnx_bytes"] = file.stat().st_size
        if LATENCY in names:
            found[LATENCY] = _latency(session, example_inputs(section, 1))
    return {name: found[name] for name in FIGURES if name in names}


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors have no base of their own
        raise ExportError(f"onnxruntime refuses its ONNX file: {exc}") from exc


def _compare(
    session: onnxruntime.InferenceSession, inputs: dict[str, Tensor], expected: list[Tensor]
) -> None:
    """Raises ExportError where the file's outputs have other shapes than the model's.

    Values are the gate's to compare: those of random weights may be beyond any tolerance.
    """
    batch = len(next(iter(inputs.values())))
    try:
        outputs = session.run(None, _arrays(inputs))
    except Exception as exc:
        raise ExportError(f"its ONNX file does not run with a batch of {batch}: {exc}") from exc
    given, wanted = ([list(output.shape) for output in some] for some in (outputs, expected))
    if given != wanted:
        raise ExportError(f"its ONNX file gives {given} where PyTorch gives {wanted}")


def _latency(session: onnxruntime.InferenceSession, inputs: dict[str, Tensor]) -> float:
    """Milliseconds: the median of repeated runs, which a busy moment does not move."""
    arrays, seconds = _arrays(inputs), []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        session.run(None, arrays)
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds[WARM_UP:]), 4)


def _arrays(inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}
