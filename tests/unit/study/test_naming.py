"""What a trial's changes are called."""

import pytest

from otter_ray.study.naming import changes_of, key_labels


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "base"),
        ({"optimizer.options.lr": 0.00565, "model.loss.options.s": 12}, "lr=0.00565 s=12"),
        # Set by one parameter.
        ({"model.head.options.embed_dim": 128, "model.loss.embed_dim": 128}, "embed_dim=128"),
        # Two parameters whose keys end alike.
        ({"model.loss.name": "ArcFace", "model.head.name": "Squeeze"}, "loss.name=ArcFace head.name=Squeeze"),
        ({"a.x.options.k": 1, "b.x.options.k": 2, "k": 3}, "a.x.k=1 b.x.k=2 k=3"),
    ],
)
def test_changes_are_named_apart(values, text):
    assert changes_of(values) == text


def test_keys_that_differ_in_one_trial_are_named_apart_in_all():
    trials = [
        {"model.loss.name": "a", "model.head.name": "a"},
        {"model.loss.name": "a", "model.head.name": "b"},
    ]
    assert key_labels(trials) == {"model.loss.name": "loss.name", "model.head.name": "head.name"}
