import pytest

from otter_ray.config import load_config

SIZE = 32
TINY = {
    "common.batch_size": 16,
    "common.image_size": [SIZE, SIZE],
    "global_settings.image_size": [SIZE, SIZE],
    "onnx.input_shape.img.shape": [1, 3, SIZE, SIZE],
    "model.backbone.options.name": "lcnet_035",
    "model.neck.options.out_channels": 8,
}


@pytest.fixture(autouse=True)
def own_cache(cache):
    """No test here sees the images of another."""


@pytest.fixture
def config():
    return load_config("docaligner_demo").with_values(TINY)
