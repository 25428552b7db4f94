"""Write what the card of an exported model says about its use."""

from __future__ import annotations

from otter_ray.config import Config
from otter_ray.train.model.channels import BGR, exported_channels

INTENDED_USE = (
    "Finds the four corners of the one document in a photograph: top left, top right, bottom right, bottom "
    "left of the image, whichever way the document is turned. Input: a photograph in [0, 1], resized "
    "bilinearly without regard to its aspect ratio. Output: `heatmap`, one map for each corner; `points`, "
    "the corners as fractions of width and height, (x, y) four times; `has_obj`, in [0, 1], whether there "
    "is a document. A model with a point head has no heatmaps. It does not read a document."
)


def example(config: Config, file: str) -> str:
    """Return a program that prints the corners in an image file, in pixels."""
    section = config.onnx
    assert section is not None
    name, (height, width) = section.input_names[0], config.common.image_size
    order = "" if exported_channels(config) == BGR else "[..., ::-1]"
    if "points" not in section.output_names:
        found = 'print("peaks", outputs["heatmap"].max((2, 3)))'
    else:
        found = (
            'print("document", outputs["has_obj"][0, 0])\n'
            'print("corners", outputs["points"].reshape(4, 2) * [photo.shape[1], photo.shape[0]] - 0.5)'
        )
    return f"""\
import sys, cv2, numpy as np, onnxruntime
photo = cv2.imread(sys.argv[1])
image = cv2.resize(photo, ({width}, {height})){order}.transpose(2, 0, 1)[None].astype(np.float32) / 255
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
outputs = dict(zip([each.name for each in session.get_outputs()], session.run(None, {{"{name}": image}})))
{found}"""
