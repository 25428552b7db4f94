import numpy as np
import pytest

from otter_ray.projects.docclassifier.data.variants import VARIANTS, variant, variant_name
from otter_ray.vision.camera import resize
from otter_ray.vision.drawing import draw_document

QUARTERS = np.arange(4, dtype=np.uint8).reshape(2, 2)  # 0 1 / 2 3
# Of 8 = 4 turns as it is, then 4 turns flipped, what the whole shows.
WHOLE = ["01 23", "13 02", "32 10", "20 31", "23 01", "02 13", "10 32", "31 20"]


def quarters(shape=(32, 32)):
    large = resize(np.repeat(QUARTERS[..., None] * 60, 3, axis=2).repeat(16, 0).repeat(16, 1), (32, 32))
    return resize(large, shape)


def shown(image):
    """The four quarters' numbers, row by row."""
    h, w = image.shape[:2]
    rows = [[image[y, x, 0] // 50 for x in (w // 4, 3 * w // 4)] for y in (h // 4, 3 * h // 4)]
    return " ".join("".join(str(value) for value in row) for row in rows)


@pytest.mark.parametrize("shape", [(32, 32), (40, 24), (33, 47)])
def test_the_order_of_the_variants(shape):
    image = quarters(shape)
    assert {variant(image, number).shape for number in range(VARIANTS)} == {image.shape}
    for number, whole in enumerate(WHOLE):
        upper, lower = whole.split()
        assert shown(variant(image, number)) == whole
        assert shown(variant(image, 8 + number)) == f"{upper} {upper}"
        assert shown(variant(image, 16 + number)) == f"{lower} {lower}"


def test_the_first_is_the_image_itself():
    image = quarters()
    assert variant(image, 0) is image


def test_all_differ():
    image = resize(draw_document(0), (64, 64))
    variants = [variant(image, number) for number in range(VARIANTS)]
    assert len({each.tobytes() for each in variants}) == VARIANTS
    assert {(each.shape, each.dtype) for each in variants} == {((64, 64, 3), np.dtype(np.uint8))}


def test_names():
    names = [variant_name(number) for number in range(VARIANTS)]
    assert len(set(names)) == VARIANTS
    assert (names[0], names[5], names[13], names[19]) == (
        "rot0",
        "rot90_flip",
        "rot90_flip_upper",
        "rot270_lower",
    )
