import time

import numpy as np
import pytest

from otter_ray.vision.camera import resize
from otter_ray.vision.drawing import FAMILIES, draw_document
from otter_ray.vision.near_duplicates import choose_distinct, normalized, thumbnails


@pytest.fixture(scope="module")
def documents():
    return [draw_document(index) for index in range(4 * FAMILIES)]


@pytest.fixture(scope="module")
def thumbs(documents):
    return np.concatenate([thumbnails(document[None]) for document in documents])


def test_seed_and_index_both_matter():
    assert (draw_document(0) != draw_document(0, seed=1)).any()
    assert (draw_document(0) != draw_document(FAMILIES)).any()


def test_shape_type_and_aspects(documents):
    shapes = {document.shape for document in documents}
    assert shapes == {(242, 384, 3), (543, 384, 3)}
    assert {document.dtype for document in documents} == {np.dtype(np.uint8)}
    assert draw_document(0, width=200).shape[1] == 200


def test_every_width_of_document_can_be_drawn():
    for width in (96, 640):
        assert all(draw_document(index, width=width).shape[1] == width for index in range(FAMILIES))


def test_no_document_is_blank_or_repeated(documents):
    assert min(document.std() for document in documents) > 8
    assert len({document.tobytes() for document in documents}) == len(documents)


def test_members_of_a_family_resemble_each_other_more_than_strangers_do(thumbs):
    correlation = normalized(thumbs) @ normalized(thumbs).T
    family = np.arange(len(thumbs)) % FAMILIES
    kin = (family[:, None] == family) & ~np.eye(len(thumbs), dtype=bool)
    strangers = family[:, None] != family
    assert np.median(correlation[kin]) > np.median(correlation[strangers]) + 0.2
    assert np.median(correlation[kin]) < 0.75


def test_enough_documents_are_distinct_to_hold_some_out(thumbs):
    assert len(choose_distinct(thumbs, len(thumbs) * 3 // 5, seed=0)) == len(thumbs) * 3 // 5


def test_shrunk_documents_keep_detail(documents):
    small = [resize(document, (64, 64)) for document in documents]
    assert min(np.abs(np.diff(image.astype(int), axis=1)).mean() for image in small) > 1.5


def test_drawing_is_fast():
    draw_document(0)
    start = time.process_time()
    for index in range(FAMILIES):
        draw_document(index)
    assert (time.process_time() - start) / FAMILIES < 0.03
