import cv2
import numpy as np
import pytest

from otter_ray.vision.jaccard import crosses, homography, jaccard

SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
PHOTO = np.array([[120.0, 90], [840, 130], [790, 610], [60, 540]])


def by_opencv(found, true, width=300, height=200):
    """The same index on a rectangle of any size, by OpenCV's homography and intersection."""
    target = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    matrix = cv2.getPerspectiveTransform(np.float32(true), target)
    seen = cv2.perspectiveTransform(np.float32(found)[None], matrix)[0]
    both = cv2.intersectConvexConvex(target, seen)[0]
    return both / (cv2.contourArea(target) + cv2.contourArea(seen) - both)


def test_random_corners_agree_with_opencv():
    rng = np.random.default_rng(0)
    for _ in range(200):
        true = PHOTO + rng.normal(0, 40, (4, 2))
        found = true + rng.normal(0, rng.choice([1, 10, 40]), (4, 2))
        if cv2.isContourConvex(np.float32(found)):
            assert jaccard(found, true) == pytest.approx(by_opencv(found, true), abs=2e-4)


def test_known_values():
    assert jaccard(SQUARE, SQUARE) == 1
    assert jaccard(SQUARE / 2, SQUARE) == pytest.approx(0.25)
    assert jaccard(SQUARE + np.array([0.5, 0]), SQUARE) == pytest.approx(1 / 3)
    assert jaccard(SQUARE + 2, SQUARE) == 0
    dented = np.array([[0, 0], [1, 0], [0.4, 0.4], [0, 1]])
    assert jaccard(dented, SQUARE) == pytest.approx(0.4)


def test_neither_size_nor_order_matters():
    found = PHOTO + np.array([[4, -3], [-6, 2], [1, 5], [3, 3]])
    value = jaccard(found, PHOTO)
    assert 0.9 < value < 1
    assert jaccard(np.roll(found, 1, axis=0), PHOTO) == pytest.approx(value)
    assert jaccard(found[::-1], PHOTO) == pytest.approx(value)
    assert jaccard(found / [1920, 1080], PHOTO / [1920, 1080]) == pytest.approx(value)


@pytest.mark.parametrize(
    "found",
    [
        PHOTO[[0, 2, 1, 3]],
        np.where(np.arange(4)[:, None] == 2, np.nan, PHOTO),
        np.zeros((4, 2)),
        PHOTO[[0, 0, 0, 0]],
    ],
    ids=["crossing", "missing", "a point far away", "one point"],
)
def test_what_is_no_outline_scores_nothing(found):
    assert jaccard(found, PHOTO) == 0


def test_a_corner_behind_the_horizon():
    far = np.array([[0.0, 0], [4, 0], [2.5, 1], [1.5, 1]])  # its sides meet at (2, 1.33)
    found = far.copy()
    found[2] = (2.1, 3)
    assert homography(far) is not None
    assert jaccard(far, far) == pytest.approx(1)
    assert jaccard(found, far) == 0


def test_true_corners_on_a_line():
    assert jaccard(PHOTO, np.array([[0.0, 0], [1, 1], [2, 2], [3, 3]])) == 0


def test_crossing_sides():
    assert crosses(SQUARE[[0, 2, 1, 3]].tolist())
    assert not crosses(SQUARE.tolist())
