import numpy as np
import pytest

from otter_ray.errors import DataError
from otter_ray.vision.camera import resize
from otter_ray.vision.drawing import draw_document
from otter_ray.vision.near_duplicates import choose_distinct, near_duplicates, normalized, thumbnails


@pytest.fixture(scope="module")
def images():
    return np.stack([resize(draw_document(index), (64, 64)) for index in range(60)])


def test_thumbnails_are_unit_vectors_without_a_mean(images):
    thumbs = normalized(thumbnails(images))
    assert (thumbs.shape, thumbs.dtype) == ((60, 256), np.float32)
    np.testing.assert_allclose(np.linalg.norm(thumbs, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(thumbs.mean(axis=1), 0, atol=1e-6)


def test_thumbnails_see_neither_exposure_nor_size(images):
    darker = (images * 0.6).astype(np.uint8)
    larger = np.stack([resize(image, (128, 128)) for image in images])
    for other in (darker, larger):
        assert (normalized(thumbnails(images)) * normalized(thumbnails(other))).sum(axis=1).min() > 0.98


def test_blank_pages_resemble_each_other_and_nothing_else(images):
    rng = np.random.default_rng(0)
    noise = rng.integers(-1, 2, (2, 64, 64, 3))
    pages = np.clip(np.array([250, 30])[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    blank = normalized(thumbnails(pages))
    assert blank[0] @ blank[1] == pytest.approx(1)
    assert np.abs(normalized(thumbnails(images)) @ blank[0]).max() < 1e-3


def test_near_duplicates_are_found_in_both_directions(images):
    noisy = np.clip(images[7] + np.random.default_rng(0).normal(0, 8, images[7].shape), 0, 255).astype(
        np.uint8
    )
    thumbs, planted = thumbnails(images), thumbnails(noisy[None])
    assert near_duplicates(planted, thumbs).tolist() == [True]
    assert near_duplicates(thumbs, planted)[7]
    assert not near_duplicates(thumbs, planted, threshold=0.9999).any()
    assert near_duplicates(thumbs, thumbs[:0]).tolist() == [False] * 60


def test_many_rows_are_compared_in_blocks(images):
    thumbs = thumbnails(images)
    many = np.tile(thumbs, (150, 1))
    found = near_duplicates(many, thumbs[:3])
    assert found.reshape(150, 60).tolist() == [near_duplicates(thumbs, thumbs[:3]).tolist()] * 150
    assert 3 * 150 <= found.sum() < len(many)


def test_chosen_documents_are_distinct_and_follow_the_seed(images):
    thumbs = thumbnails(np.concatenate([images, images]))
    chosen = choose_distinct(thumbs, 20, seed=4)
    correlation = normalized(thumbs[chosen]) @ normalized(thumbs[chosen]).T - np.eye(20)
    assert correlation.max() <= 0.8
    assert chosen.tolist() == choose_distinct(thumbs, 20, seed=4).tolist()
    assert chosen.tolist() != choose_distinct(thumbs, 20, seed=5).tolist()
    assert chosen.tolist()[:8] == choose_distinct(thumbs, 8, seed=4).tolist()


def test_too_few_distinct_documents(images):
    copies = thumbnails(np.repeat(images[:1], 9, axis=0))
    with pytest.raises(
        DataError, match=r"held_out is 3, but only 1 of the 9 images.*Set held_out to 1 or less"
    ):
        choose_distinct(copies, 3, seed=0)
