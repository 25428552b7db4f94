import hashlib

import numpy as np
import pytest

from otter_ray.projects.docclassifier.data.feistel_shuffle import shuffled

IMAGENET = 1_281_167 * 24


def whole(count, seed):
    return [shuffled(place, count, seed) for place in range(count)]


@pytest.mark.parametrize("count", [*range(1, 70), 255, 256, 257, 1000, 4097])
def test_each_number_comes_once(count):
    assert sorted(whole(count, (0, 0, 3))) == list(range(count))


def test_seeds_give_orders_that_have_nothing_in_common():
    orders = np.array([whole(500, (seed, 0, 0, turn)) for seed in range(3) for turn in range(3)])
    likeness = np.corrcoef(orders) - np.eye(9)
    assert np.abs(likeness).max() < 0.2
    assert np.abs(np.corrcoef(orders[:, :-1].ravel(), orders[:, 1:].ravel())[0, 1]) < 0.05


def test_every_number_is_equally_likely_everywhere():
    """Chi-square over place x number: 841 degrees of freedom, 41 of standard deviation."""
    rounds, count = 2000, 30
    orders = np.array([whole(count, (0, 0, 0, turn)) for turn in range(rounds)])
    seen = np.array([np.bincount(orders[:, place], minlength=count) for place in range(count)])
    expected = rounds / count
    assert 841 - 5 * 41 < ((seen - expected) ** 2 / expected).sum() < 841 + 5 * 41


def test_the_classes_of_imagenet_are_drawn_one_by_one():
    labels = np.array([shuffled(place, IMAGENET, (0, 0, 0, 0)) for place in range(20_000)])
    assert len(set(labels.tolist())) == 20_000
    assert 0 <= labels.min() < 0.001 * IMAGENET < 0.999 * IMAGENET < labels.max() < IMAGENET
    tenths = np.bincount(labels // (IMAGENET // 10 + 1))
    assert abs(tenths - 2000).max() < 5 * 2000**0.5


def test_the_same_on_every_machine():
    text = ",".join(map(str, whole(100, (1, 0, 2, 3))))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "fccdaf52896db8bf"
