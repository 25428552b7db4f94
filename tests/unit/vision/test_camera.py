import numpy as np
import pytest

from otter_ray.vision.camera import capture, resize
from otter_ray.vision.drawing import draw_document


def shots(document, count=24, size=(64, 64), **options):
    return np.stack([capture(document, np.random.default_rng([5, n]), size, **options) for n in range(count)])


@pytest.fixture(scope="module")
def document():
    return draw_document(3)


def test_no_strength_is_a_plain_resize(document):
    plain = capture(document, np.random.default_rng(0), (48, 64), strength=0)
    np.testing.assert_array_equal(plain, resize(document, (48, 64)))


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (48, 80)])
def test_shape_and_type(document, size):
    image = capture(document, np.random.default_rng(0), size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)


def test_an_original_smaller_than_the_photograph(document):
    small = resize(document, (20, 30))
    assert capture(small, np.random.default_rng(0), (64, 64)).shape == (64, 64, 3)


def test_the_same_generator_gives_the_same_pixels(document):
    np.testing.assert_array_equal(shots(document, 4), shots(document, 4))
    assert (shots(document, 2)[0] != shots(document, 2)[1]).any()


def test_strength_scales_the_disturbance(document):
    clean = resize(document, (64, 64)).astype(int)
    distance = [np.abs(shots(document, strength=s) - clean).mean() for s in (0.05, 0.3, 1.0)]
    assert distance[0] < 0.6 * distance[1] < 0.6 * distance[2]
    assert distance[0] < 6


def test_photographs_are_neither_mirrored_nor_upside_down():
    colours = np.array([[[220, 40, 40], [40, 200, 40]], [[40, 40, 220], [200, 200, 40]]], np.uint8)
    quarters = colours.repeat(60, axis=0).repeat(90, axis=1)
    for shot in shots(quarters, 60).astype(float):
        seen = np.array([[shot[y : y + 8, x : x + 8].mean(axis=(0, 1)) for x in (16, 40)] for y in (16, 40)])
        seen, true = (c / np.linalg.norm(c, axis=-1, keepdims=True) for c in (seen, colours.astype(float)))
        likeness = seen.reshape(4, 3) @ true.reshape(4, 3).T
        assert likeness.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_photographs_are_legible():
    """Print survives at 128 pixels: most shots keep a fair part of the clean image's contrast."""
    form = draw_document(4)
    clean = resize(form, (128, 128)).std()
    assert np.median([shot.std() for shot in shots(form, 12, (128, 128))]) > 0.5 * clean
