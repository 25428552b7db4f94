"""Writing the ONNX file: wrap, trace, note where it comes from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.config.schema import Onnx
from otter_ray.errors import ExportError
from otter_ray.train.components import find_class, unknown_arguments

OPSET = 17
# Tracing with one image would let a batch of one be baked in.
TRACE_BATCH = 2


def onnx_section(config: Config) -> Onnx:
    """The config's `onnx:`. Raises ExportError where there is none."""
    if config.onnx is None:
        raise ExportError(
            f"{config.name} has no `onnx:` section. Add one that names the wrapper and its inputs."
        )
    return config.onnx


def wrap(config: Config, model: nn.Module) -> nn.Module:
    """The part of the model that is exported, in evaluation mode."""
    section = onnx_section(config)
    try:
        cls = find_class(section.name, "wrapper", config.project)
    except LookupError as exc:
        raise ExportError(f"onnx.name: {exc.args[0]}") from exc
    if wrong := unknown_arguments(cls, section.wrapper_options):
        raise ExportError("; ".join(f"onnx.wrapper_options.{name}: {text}" for name, text in wrong.items()))
    wrapped: nn.Module = cls(model, **section.wrapper_options)
    return wrapped.eval()


def example_inputs(section: Onnx, batch: int) -> dict[str, torch.Tensor]:
    """Uniform noise for every input, in the order of `input_names`; the first axis is the batch."""
    generator = torch.Generator().manual_seed(batch)
    inputs = {}
    for name in section.input_names:
        if name not in section.input_shape:
            raise ExportError(f"onnx.input_names has {name!r} but onnx.input_shape does not. Add its shape.")
        shape, dtype = section.input_shape[name].shape, section.input_shape[name].dtype
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ExportError(f"onnx.input_shape.{name}.dtype is {dtype!r}. Give a type such as float32.")
        if -1 in shape[1:]:
            raise ExportError(
                f"onnx.input_shape.{name}.shape is {shape}: only the first, the batch, may be -1."
            )
        inputs[name] = torch.rand((batch, *shape[1:]), generator=generator).to(getattr(torch, dtype))
    return inputs


def write_onnx(config: Config, wrapped: nn.Module, path: Path) -> None:
    """Traces the wrapped model into `path`.

    Raises:
        ExportError: the model cannot be traced, or the file has another opset than asked for.
    """
    section = onnx_section(config)
    inputs = example_inputs(section, TRACE_BATCH)
    options = {"opset_version": OPSET, **section.options}
    try:
        with warnings.catch_warnings(), _graphs_unprinted():
            # The tracer is deprecated but honours the opset; the newer exporter raises it in silence.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                wrapped,
                tuple(inputs.values()),
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


@contextmanager
def _graphs_unprinted() -> Iterator[None]:
    """Has torch print the graph of a trace where `verbose` asks for it, and not whenever one fails.

    Torch 2.15 means to ask whether its log is on, and forgets the parentheses of the call.
    """
    name = "_jit_is_onnx_log_enabled"
    asked = getattr(torch._C, name, None)
    if asked is None:
        yield
        return
    setattr(torch._C, name, None)
    try:
        yield
    finally:
        setattr(torch._C, name, asked)


def _dynamic_axes(section: Onnx) -> dict[str, dict[int, str]]:
    """Every declared input and output dynamic in its batch axis, whatever the config left out."""
    declared = [*section.input_names, *section.output_names]
    axes = {name: {0: "batch_size"} for name in declared}
    for name, given in section.dynamic_axes.items():
        if name not in axes:
            warnings.warn(
                f"onnx.dynamic_axes names {name!r}, which is neither an input nor an output "
                f"({', '.join(declared)}): left out. All of these get a dynamic batch.",
                stacklevel=2,
            )
            continue
        axes[name] |= {int(axis): label for axis, label in given.items()}
    return axes


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the file needs."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def add_metadata(path: Path, facts: Mapping[str, str]) -> None:
    """Writes `facts` into the file's own metadata."""
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, str(path))
