"""Make up inputs of the shapes and types that a config's `onnx:` section gives."""

from __future__ import annotations

import torch
from torch import Tensor

from otter_ray.config import Config
from otter_ray.config.schema import Onnx
from otter_ray.errors import ExportError
from otter_ray.train.registry import by_project


def example_inputs(section: Onnx, batch: int) -> dict[str, Tensor]:
    """Make uniform noise for every input, in the order of `input_names`; the first axis is the batch.

    Whole numbers are 0, which any table of embeddings has.

    Raises:
        ExportError: The section does not say what an input is.
    """
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
        noise = torch.rand((batch, *shape[1:]), generator=generator, device="cpu")
        inputs[name] = noise.to(getattr(torch, dtype))
    return inputs


@by_project
def model_inputs(config: Config, batch: int) -> list[Tensor]:
    """Make up what the config's model takes; images of its size if nothing is exported.

    Raises:
        ExportError: As `example_inputs`.
    """
    if config.onnx is None:
        return [torch.zeros(batch, 3, *config.common.image_size)]
    return [*example_inputs(config.onnx, batch).values()]
