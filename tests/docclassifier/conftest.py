import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from otter_ray.docclassifier.captures import resize
from otter_ray.docclassifier.drawing import draw_document

REAL_IMAGES = Path(
    os.environ.get("OTTER_RAY_TEST_IMAGES") or Path(__file__).parents[2] / "../shared/data/unique_pool"
)


DIGESTS = """
import hashlib, json
from otter_ray.docclassifier.datasets import CaptureDataset
from otter_ray.docclassifier.drawing import draw_document
from otter_ray.docclassifier.synth import SynthDataset

items = SynthDataset((32, 32), drawn=30, length_of_dataset=90)
items.set_epoch(2)
parts = {
    "documents": [draw_document(index, seed=3) for index in range(60)],
    "items": [items[index][0].numpy() for index in range(60)],
    "captures": list(CaptureDataset((32, 32), drawn=30, held_out=6, captures=4).images),
}
join = lambda arrays: hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
print(json.dumps({name: join(arrays) for name, arrays in parts.items()}))
"""


@pytest.fixture(scope="session")
def fresh_process(tmp_path_factory):
    """SHA-256 of drawn documents, items and captures as a new interpreter makes them."""
    surroundings = os.environ | {
        "OTTER_RAY_CACHE": str(tmp_path_factory.mktemp("fresh")),
        "PYTHONHASHSEED": "5",
    }
    command = [sys.executable, "-c", DIGESTS]
    return json.loads(subprocess.run(command, env=surroundings, stdout=subprocess.PIPE, check=True).stdout)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An image cache of this test's own."""
    monkeypatch.setenv("OTTER_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real_images():
    if not REAL_IMAGES.is_dir():
        pytest.skip(f"no real images at {REAL_IMAGES}: set OTTER_RAY_TEST_IMAGES to a folder of them")
    return REAL_IMAGES


@pytest.fixture
def write_image():
    """A function that writes an RGB array to a path."""
    return _write_image


@pytest.fixture
def folder(tmp_path):
    """Four folders of three drawn documents each, as PNG files."""
    for index in range(12):
        image = resize(draw_document(index), (60, 90))
        _write_image(tmp_path / "pool" / f"class_{index % 4}" / f"{index:02d}.png", image)
    return tmp_path / "pool"


def _write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
