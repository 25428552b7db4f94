"""What the card of an exported model says about its use."""

from __future__ import annotations

from otter_ray.config import Config
from otter_ray.train.model.channels import BGR, exported_channels

INTENDED_USE = (
    "Tells whether two images show the same document, cropped and upright, also one that training never saw. "
    "Input: images in [0, 1]. Output: an embedding of each. Two embeddings are compared by "
    "`(cosine similarity + 1) / 2`, in [0, 1]. It neither finds a document in a photograph nor reads it."
)


def example(config: Config, file: str) -> str:
    """Return a program that prints the similarity of two image files, read as the data sets read theirs."""
    assert config.onnx is not None
    name = config.onnx.input_names[0]
    return f"""\
{_reading(config, file)}
first, second = session.run(None, {{"{name}": np.stack([read(path) for path in sys.argv[1:3]])}})[0]
print("similarity", (first @ second / np.linalg.norm(first) / np.linalg.norm(second) + 1) / 2)"""


def search_example(config: Config, file: str) -> str:
    """Return a program that prints enrolled image files, the most similar to the first file first."""
    assert config.onnx is not None
    name = config.onnx.input_names[0]
    return f"""\
{_reading(config, file)}
found = session.run(None, {{"{name}": np.stack([read(path) for path in sys.argv[1:]])}})[0]
scores = (found[1:] @ found[0] / np.linalg.norm(found[1:], axis=1) / np.linalg.norm(found[0]) + 1) / 2
for at in np.argsort(-scores): print(f"{{scores[at]:.4f}}", sys.argv[2 + at])"""


def _reading(config: Config, file: str) -> str:
    """Return the beginning of both programs: the reader of an image file, and the session."""
    height, width = config.common.image_size
    order = "" if exported_channels(config) == BGR else "[..., ::-1]"
    how = "cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR"
    if config.dataset.train_options.options.get("resizing") == "bilinear":
        how = "cv2.INTER_LINEAR"
    return f"""\
import sys, cv2, numpy as np, onnxruntime
def read(path):
    image = cv2.imread(path)
    shrinks = image.shape[0] >= {height} and image.shape[1] >= {width}
    image = cv2.resize(image, ({width}, {height}), interpolation={how})
    return image{order}.transpose(2, 0, 1).astype(np.float32) / 255
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])"""
