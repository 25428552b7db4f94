import pytest

from otter_ray.config import load_config
from tests.support.tiny import SMALL

TINY = {
    **SMALL,
    "model.neck.options.out_channels": 8,
}


@pytest.fixture(autouse=True)
def own_cache(cache):
    """No test here sees the images of another."""


@pytest.fixture
def config():
    return load_config("docaligner_demo").with_values(TINY)
