import os
from pathlib import Path

import cv2
import pytest

from otter_ray.vision.camera import resize
from otter_ray.vision.drawing import draw_document

REAL_IMAGES = Path(
    os.environ.get("OTTER_RAY_TEST_IMAGES") or Path(__file__).parents[2] / "../shared/data/unique_pool"
)


@pytest.fixture
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
