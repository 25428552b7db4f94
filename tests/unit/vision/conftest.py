import pytest


@pytest.fixture(autouse=True)
def own_cache(cache):
    """No test here sees the images of another."""
