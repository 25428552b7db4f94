"""What a model's statistics depend on. Importing this module imports no torch."""

from __future__ import annotations

import json

from otter_ray.config import Config


def architecture_key(config: Config) -> str:
    """Return what a model's statistics depend on, as text: equal for configs with the same exported model."""
    model = config.model.model_dump(exclude={"loss", "teacher"})
    if "backbone" in model:
        model["backbone"]["options"].pop("pretrained", None)
    onnx = config.onnx and config.onnx.model_dump()
    if onnx:
        onnx.pop("additional_meta_info", None)
    known = [config.project, model, config.common.image_size, onnx]
    return json.dumps(known, sort_keys=True, default=str)
