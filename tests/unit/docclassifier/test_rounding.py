"""The bounds of a rate over pairs, if rounding moves scores no further than it was seen to."""

import numpy as np
import pytest
import torch

from otter_ray.projects.docclassifier.metrics.pair_roc import METRICS, pair_roc, validation_metrics
from otter_ray.projects.docclassifier.metrics.rounding import largest_difference, rounding_range


@pytest.fixture
def barely_trained():
    """Fifty-six embeddings of fourteen classes that lie close together, and their labels."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(56) // 4
    centres = torch.randn(14, 32, generator=generator)[labels]
    noise = torch.randn(56, 32, generator=generator)
    return 1 + 1e-3 * (centres + noise), labels


def disturbed(embeddings, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return embeddings + size * (2 * torch.rand(embeddings.shape, generator=generator) - 1)


@pytest.mark.parametrize("metric", METRICS)
def test_no_rounding_of_that_size_leaves_the_range(barely_trained, metric):
    embeddings, labels = barely_trained
    roundings = [disturbed(embeddings, 3e-4, seed) for seed in range(40)]
    found = rounding_range(embeddings, roundings, labels, metric)
    values = [validation_metrics(each, labels)[0][metric] for each in (embeddings, *roundings)]
    assert found.low <= min(values) < max(values) <= found.high
    assert "has 84 positive pairs" in found.reason
    assert "spread of the scores " in found.reason


def test_the_bounds_are_reached(barely_trained):
    """Moving each positive pair up and each negative one down by the largest difference is what they mean."""
    embeddings, labels = barely_trained
    roc = pair_roc(embeddings, labels)
    moved = roc.with_positives_moved(2e-7)
    positives = np.repeat(roc.scores, roc.positives) + 1e-7
    negatives = np.repeat(roc.scores, roc.negatives) - 1e-7
    allowed = int(len(negatives) * 1e-4)
    threshold = np.sort(negatives)[::-1][allowed]
    assert moved.tpr_at(1e-4)[0] == np.mean(positives > threshold)
    assert moved.auc() == pytest.approx(
        np.mean(
            [(positive > negatives).mean() + (positive == negatives).mean() / 2 for positive in positives]
        )
    )
    assert (moved.num_positives, moved.num_negatives) == (roc.num_positives, roc.num_negatives)


def test_outputs_that_do_not_differ_leave_no_range(barely_trained):
    embeddings, labels = barely_trained
    found = rounding_range(embeddings, [embeddings.clone()], labels, "valid_auc")
    assert found.low == found.high == validation_metrics(embeddings, labels)[0]["valid_auc"]


def test_outputs_that_are_not_numbers_have_no_range(barely_trained):
    embeddings, labels = barely_trained
    assert rounding_range(embeddings * torch.nan, [embeddings], labels, "valid_auc") is None


def test_the_largest_difference_is_that_of_any_pair(barely_trained):
    embeddings, _ = barely_trained
    other = embeddings.clone()
    other[7] = -other[7]
    assert largest_difference(embeddings, other) == pytest.approx(1, abs=1e-3)
    assert largest_difference(embeddings, embeddings) == 0
