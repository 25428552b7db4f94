"""Write an ONNX file: wrap the model, trace it, and record where it comes from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.config.schema import Onnx
from otter_ray.errors import ExportError
from otter_ray.train.model.channels import exported_channels
from otter_ray.train.model.example_inputs import model_inputs
from otter_ray.train.registry import by_project, find_class, unknown_arguments
from otter_ray.train.torch_compat import uncompile, unprinted_onnx_graphs

OPSET = 17
# Tracing with one image would let a batch of one be baked in.
TRACE_BATCH = 2


@by_project
def onnx_section(config: Config) -> Onnx:
    """Return the config's `onnx:` section. Raises ExportError if there is none."""
    if config.onnx is None:
        raise ExportError(
            f"{config.name} has no `onnx:` section. Add one that names the wrapper and its inputs."
        )
    return config.onnx


@by_project
def wrap(config: Config, model: nn.Module) -> nn.Module:
    """Return the part of the model that is exported, in evaluation mode."""
    section = onnx_section(config)
    try:
        cls = find_class(section.name, "wrapper", config.project)
    except LookupError as exc:
        raise ExportError(f"onnx.name: {exc.args[0]}") from exc
    if wrong := unknown_arguments(cls, section.wrapper_options):
        raise ExportError("; ".join(f"onnx.wrapper_options.{name}: {text}" for name, text in wrong.items()))
    exported_channels(config)
    wrapped: nn.Module = cls(model, **section.wrapper_options)
    uncompile(wrapped)
    return wrapped.eval()


def write_onnx(config: Config, wrapped: nn.Module, path: Path) -> None:
    """Trace the wrapped model into `path`.

    Raises:
        ExportError: The model cannot be traced, or the file has another opset than asked for.
    """
    section = onnx_section(config)
    inputs = model_inputs(config, TRACE_BATCH)
    options = {"opset_version": OPSET, **section.options}
    try:
        with warnings.catch_warnings(), unprinted_onnx_graphs():
            # The tracer is deprecated but honours the opset; the newer exporter raises it in silence.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                wrapped,
                tuple(inputs),
                str(path),
                input_names=section.input_names,
                output_names=section.output_names,
                dynamic_axes=_dynamic_axes(section),
                dynamo=False,
                **options,
            )
    except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as exc:
        raise ExportError(f"the model cannot be traced to ONNX: {exc}") from exc
    written = opset_of(onnx.load(str(path)))
    if written != options["opset_version"]:
        raise ExportError(f"the file has opset {written}, not the {options['opset_version']} asked for")


def _dynamic_axes(section: Onnx) -> dict[str, dict[int, str]]:
    """Make the batch axis of every declared input and output dynamic, whatever the config left out."""
    declared = [*section.input_names, *section.output_names]
    axes = {name: {0: "batch_size"} for name in declared}
    for name, given in section.dynamic_axes.items():
        if name not in axes:
            warnings.warn(
                f"onnx.dynamic_axes names {name!r}, which is neither an input nor an output "
                f"({', '.join(declared)}), and is ignored. All inputs and outputs have a dynamic batch size.",
                stacklevel=2,
            )
            continue
        axes[name] |= {int(axis): label for axis, label in given.items()}
    return axes


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that the file needs."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def copy_metadata(source: Path, path: Path, facts: Mapping[str, Any]) -> None:
    """Write the metadata of another file into a file, with `facts` as `add_metadata` writes them."""
    model = onnx.load(str(path))
    known = {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props}
    added = {key: json.dumps(value) for key, value in facts.items()}
    onnx.helper.set_model_props(model, {**known, **added})
    onnx.save(model, str(path))


def add_metadata(path: Path, facts: Mapping[str, Any]) -> None:
    """Write `facts` into the file's own metadata, each value as JSON.

    Texts are JSON, too: programs that load a model file may parse every value, and refuse a file that has
    another one.
    """
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, str(path))
