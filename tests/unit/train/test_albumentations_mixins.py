import os
import pickle

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import pytest

from otter_ray.train.albumentations_mixins import BorderValueMixin, FillValueMixin

SHAPES = [(32, 32, 3), (32, 32, 1), (32, 32)]
GRAY = 100


class Affine(BorderValueMixin, A.Affine):
    pass


class Perspective(BorderValueMixin, A.Perspective):
    pass


class ShiftScaleRotate(BorderValueMixin, A.ShiftScaleRotate):
    pass


class SafeRotate(BorderValueMixin, A.SafeRotate):
    pass


class CoarseDropout(FillValueMixin, A.CoarseDropout):
    pass


WARPS = [
    Affine(translate_px=(10, 12), p=1),
    Perspective(scale=(0.2, 0.3), fit_output=True, p=1),
    SafeRotate(limit=(40, 50), p=1),
]
with pytest.warns(UserWarning, match="special case of Affine"):
    WARPS.append(ShiftScaleRotate(shift_limit=(0.3, 0.4), p=1))
HOLES = CoarseDropout(hole_height_range=(8, 8), hole_width_range=(8, 8), p=1)


def gray(shape=(32, 32, 3), kind=np.uint8):
    return np.full(shape, GRAY, np.uint8) if kind is np.uint8 else np.full(shape, GRAY / 255, np.float32)


def shots(transform, image, count=40, seed=0):
    compose = A.Compose([transform], seed=seed)
    return [compose(image=image)["image"] for _ in range(count)]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", [*WARPS, HOLES], ids=lambda transform: type(transform).__name__)
def test_each_call_fills_with_a_colour_of_its_own(transform, shape, kind):
    image, full = gray(shape, kind), 255 if kind is np.uint8 else 1
    filled = set()
    for shot in shots(transform, image):
        assert (shot.shape, shot.dtype) == (image.shape, image.dtype)
        assert 0 <= shot.min() <= shot.max() <= full
        changed = abs(shot - image.astype(float)) > 1e-3
        filled |= set(shot[changed])
    assert min(filled) < 0.2 * full
    assert max(filled) > 0.7 * full


@pytest.mark.parametrize("transform", WARPS, ids=lambda transform: type(transform).__name__)
def test_borders_are_a_colour_the_edge_or_a_mirror(transform):
    image = gray()
    compose, modes, unseen = A.Compose([transform], seed=1), set(), 0
    for _ in range(60):
        shot = compose(image=image)["image"]
        modes.add(transform.border_mode)
        unseen += np.array_equal(shot, image)  # a gray edge drawn out, or mirrored
    assert modes == {cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT}
    assert 25 <= unseen <= 55


def test_a_hole_has_one_colour():
    for shot in shots(HOLES, gray()):
        hole = shot[(shot != GRAY).any(axis=2)]
        assert len(hole) >= 64
        assert (hole == hole[0]).all()


@pytest.mark.parametrize("transform", [*WARPS, HOLES], ids=lambda transform: type(transform).__name__)
def test_a_seed_says_it_all(transform):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    first = shots(transform, image, seed=5)
    np.testing.assert_array_equal(first, shots(transform, image, seed=5))
    assert not np.array_equal(first, shots(transform, image, seed=6))


@pytest.mark.parametrize("transform", [*WARPS, HOLES], ids=lambda transform: type(transform).__name__)
def test_a_pickled_transform_goes_on_as_its_original(transform):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    original = A.Compose([transform], seed=5)
    original(image=image)
    copy = pickle.loads(pickle.dumps(original))
    for _ in range(5):
        np.testing.assert_array_equal(copy(image=image)["image"], original(image=image)["image"])
