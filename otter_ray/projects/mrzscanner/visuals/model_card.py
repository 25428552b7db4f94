"""Write what the cards of exported models say about their use."""

from __future__ import annotations

from otter_ray.config import Config
from otter_ray.projects.mrzscanner.text.keys import SPOTTER_KEYS, KeyTable
from otter_ray.train.model.channels import BGR, exported_channels

_OUTPUT = (
    "Output: for each of 93 places how likely each of the 40 keys is. The text is each place's likeliest "
    "key, up to the first `<EOS>` and without `<PAD>`. Check digits are neither verified nor corrected: "
    "`valid_checked` is the share of zones for which they hold. For comparison: `<` everywhere has a "
    "`valid_anls` of about 0.38."
)
_ZONE = "machine-readable zone of a passport, a visa or an identity card (ICAO 9303)"
_INPUT = "Input: images in [0, 1]."
READER_USE = f"Reads the {_ZONE}, cut out and upright: TD1, TD2, TD3, MRV-A and MRV-B. {_INPUT} {_OUTPUT}"
SPOTTER_USE = f"Finds and reads the {_ZONE} in a photograph that was padded to a square. {_INPUT} {_OUTPUT}"
REGION_USE = (
    f"Finds the {_ZONE} in a photograph that was padded to a square. {_INPUT} Output: a mask in [0, 1]; the "
    "zone is the rectangle of least area around its largest piece. It does not read."
)


def read_image(config: Config) -> str:
    """Return the lines of a program that read a crop as the model takes it: `image`."""
    return f"""\
import sys, cv2, numpy as np, onnxruntime
photo = cv2.imread(sys.argv[1])
{_image(config, "photo")}"""


def pad_image(config: Config) -> str:
    """Return the lines of a program that pad a photograph to a square, as clients do: `square`, `image`."""
    return f"""\
import sys, cv2, numpy as np, onnxruntime
photo = cv2.imread(sys.argv[1])
top, left = ((max(photo.shape) - side) // 2 for side in photo.shape[:2])
square = cv2.copyMakeBorder(photo, top, top, left, left, cv2.BORDER_CONSTANT)
{_image(config, "square")}"""


def _image(config: Config, name: str) -> str:
    height, width = config.common.image_size
    order = "" if exported_channels(config) == BGR else "[..., ::-1]"
    planes = f"{order}.transpose(2, 0, 1)[None].astype(np.float32) / 255"
    return f"image = cv2.resize({name}, ({width}, {height})){planes}"


def reader_example(config: Config, keys: KeyTable, file: str) -> str:
    """Return a program that prints the lines of the zone on a crop, or on a photograph for the spotter."""
    assert config.onnx is not None
    shown = list(keys.keys)
    shown[keys.between_lines] = " "
    plain = "".join("-" if len(key) > 1 else key for key in shown)
    return f"""\
{pad_image(config) if keys is SPOTTER_KEYS else read_image(config)}
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
(text,) = session.run(None, {{"{config.onnx.input_names[0]}": image}})[0].argmax(-1).tolist()
text = text[: text.index({keys.eos})] if {keys.eos} in text else text
print("".join("{plain}"[key] for key in text if key != {keys.pad}))"""


def region_example(config: Config, file: str) -> str:
    """Return a program that prints the corners of the zone on a photograph, in its pixels."""
    assert config.onnx is not None
    return f"""\
{pad_image(config)}
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
mask = session.run(None, {{"{config.onnx.input_names[0]}": image}})[0][0]
mask = cv2.resize((mask * 255).astype(np.uint8), square.shape[1::-1])
contours = cv2.findContours(cv2.threshold(mask, 0, 255, cv2.THRESH_OTSU)[1], 0, 2)[0]
print(cv2.boxPoints(cv2.minAreaRect(max(contours, key=cv2.contourArea))) - [left, top])"""
