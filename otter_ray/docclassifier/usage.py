"""What the card of an exported model says of its use."""

from __future__ import annotations

from otter_ray.config import Config

INTENDED_USE = (
    "Tells whether two images show the same document, cropped and upright, also one that training never saw. "
    "It is given RGB images in [0, 1] and gives an embedding of each; two are compared by "
    "`(cosine similarity + 1) / 2`, in [0, 1]. It neither finds a document in a photograph nor reads it."
)


def example(config: Config, file: str) -> str:
    """Prints the similarity of two image files, read as the data sets read theirs."""
    section = config.onnx
    assert section is not None
    name, (height, width) = section.input_names[0], config.common.image_size
    return f"""\
import sys, cv2, numpy as np, onnxruntime
def read(path):
    image = cv2.imread(path)
    shrinks = image.shape[0] >= {height} and image.shape[1] >= {width}
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = cv2.resize(image, ({width}, {height}), interpolation=how)
    return image[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255  # RGB, not BGR
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
first, second = session.run(None, {{"{name}": np.stack([read(path) for path in sys.argv[1:3]])}})[0]
print("similarity", (first @ second / np.linalg.norm(first) / np.linalg.norm(second) + 1) / 2)"""
