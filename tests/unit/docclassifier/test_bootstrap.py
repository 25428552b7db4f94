import numpy as np
import pytest
import torch

from otter_ray.projects.docclassifier.metrics import bootstrap as intervals
from otter_ray.projects.docclassifier.metrics import pairs
from otter_ray.projects.docclassifier.metrics.bootstrap import (
    Resample,
    _areas,
    _interval,
    _rates,
    interval,
    rates,
    resamples,
)
from otter_ray.projects.docclassifier.metrics.pair_roc import GRID, TABLE_FPRS, pair_roc
from otter_ray.projects.docclassifier.metrics.pairs import hardest, sample

FPRS = (*TABLE_FPRS, 0.0, 0.03, 0.3)


def clusters(documents=6, photographs=4, seed=0, spread=0.6):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(documents, 1, 8)) + spread * rng.normal(size=(documents, photographs, 8))
    labels = torch.arange(documents).repeat_interleave(photographs)
    return torch.tensor(points.reshape(-1, 8), dtype=torch.float32), labels


def ties():
    """Embeddings on a coarse grid, some of them equal; labels that skip numbers."""
    rng = np.random.default_rng(3)
    return torch.tensor(rng.integers(-1, 2, (30, 3)), dtype=torch.float32), torch.tensor(
        rng.integers(0, 5, 30) * 7
    )


def prepared(embeddings, labels):
    """(features, classes, ROC, all positive pairs, all negative ones)."""
    roc = pair_roc(embeddings, labels)
    features, classes = intervals._prepared(embeddings, labels)
    return features, classes, roc, sample(features, classes, roc, True), sample(features, classes, roc, False)


@pytest.mark.parametrize("case", [clusters, ties, lambda: (torch.ones(12, 3), torch.arange(12) % 3)])
def test_the_whole_set_drawn_once_gives_the_metric(case):
    _, classes, roc, positives, negatives = prepared(*case())
    once = Resample(np.ones((classes.max() + 1, 1)), np.ones((len(classes), 1)), classes)
    for fpr in FPRS:
        assert _rates(once, positives, negatives, fpr, True) == [roc.tpr_at(fpr)[0]]
    assert _areas(once, positives, negatives)[0] == pytest.approx(roc.auc(), abs=1e-12)


def drawn(features, classes, documents, images):
    """(positive scores, negative scores) of the pairs of a resample that is really drawn, copy by copy."""
    bins = ((features @ features.T + 1) * (GRID / 2)).round().clamp(0, GRID).int().numpy()
    copies = [
        (document, copy, image)
        for document in range(len(documents))
        for copy in range(int(documents[document]))
        for image in np.flatnonzero(classes == document)
        for _ in range(int(images[image]))
    ]
    scores = {True: [], False: []}
    for place, (document, copy, image) in enumerate(copies):
        for other_document, other_copy, other in copies[:place]:
            if document != other_document:
                scores[False].append(bins[image, other])
            elif copy == other_copy and image != other:
                scores[True].append(bins[image, other])
    return np.array(scores[True]), np.array(scores[False])


def test_resamples_are_what_drawing_documents_and_images_gives():
    """No image beside its own copy, no document beside its own copy."""
    embeddings, labels = clusters()
    features, classes, _, positives, negatives = prepared(embeddings, labels)
    [resample] = resamples(classes, 12, 12, seed=1)
    assert resample.documents.max() > 1
    assert resample.images.max() > 1
    for fpr in (0.0, 0.01, 0.1):
        found = _rates(resample, positives, negatives, fpr, True)
        for number, rate in enumerate(found):
            same, different = drawn(
                features, classes, resample.documents[:, number], resample.images[:, number]
            )
            limits = [t for t in np.unique([*same, *different]) if np.mean(different >= t) <= fpr]
            assert rate == pytest.approx(max([np.mean(same >= t) for t in limits], default=0.0), abs=1e-12)
    # Documents as often as there are, images as often as their document has.
    np.testing.assert_array_equal(resample.documents.sum(axis=0), 6)
    np.testing.assert_array_equal(resample.images.reshape(6, 4, -1).sum(axis=1), 4)


@pytest.mark.parametrize("case", [clusters, ties])
def test_the_hardest_pairs_are_enough(case, monkeypatch):
    embeddings, labels = case()
    roc = pair_roc(embeddings, labels)
    whole = rates(embeddings, labels, roc, 0.02, count=50)
    asked = []

    def counted(features, classes, roc, count):
        asked.append(count)
        found = hardest(features, classes, roc, count)
        assert len(found.bins) == min(count, roc.num_negatives)
        return found

    monkeypatch.setattr(intervals, "hardest", counted)
    monkeypatch.setattr(intervals, "MIN_HARDEST", 2)
    monkeypatch.setattr(intervals, "SPARE_FACTOR", 1)
    np.testing.assert_array_equal(rates(embeddings, labels, roc, 0.02, count=50), whole)
    assert len(asked) > 1


def test_blocks_and_samples_change_little(monkeypatch):
    embeddings, labels = clusters(20, 12, spread=0.9)
    roc = pair_roc(embeddings, labels)
    whole = interval(embeddings, labels, "valid_fpr@4")
    monkeypatch.setattr("otter_ray.projects.docclassifier.metrics.pair_roc.BLOCK_PAIRS", 30 * 240)
    monkeypatch.setattr(intervals, "WEIGHTS_AT_ONCE", 50_000)
    assert interval(embeddings, labels, "valid_fpr@4") == pytest.approx(whole, abs=0.03)
    monkeypatch.setattr(pairs, "SAMPLED_PAIRS", 700)
    *_, positives, negatives = prepared(embeddings, labels)
    for some, there in ((positives, roc.num_positives), (negatives, roc.num_negatives)):
        assert 600 < len(some.bins) < 800 < there
        assert len(set(zip(some.first, some.second, strict=True))) == len(some.bins)
        assert np.all(np.diff(some.bins) <= 0)
    assert interval(embeddings, labels, "valid_fpr@4") == pytest.approx(whole, abs=0.06)


@pytest.mark.parametrize("metric", ["valid_fpr@4", "valid_auc"])
def test_more_documents_make_it_narrower_and_it_holds_the_figure(metric):
    few, many = (interval(*clusters(documents, 10, seed=5, spread=0.7), metric) for documents in (10, 60))
    roc = pair_roc(*clusters(10, 10, seed=5, spread=0.7))
    figure = roc.auc() if metric == "valid_auc" else roc.tpr_at(1e-4)[0]
    assert 0 <= few[0] < figure < few[1] <= 1
    assert many[1] - many[0] < 0.75 * (few[1] - few[0])
    assert interval(*clusters(10, 10, seed=5, spread=0.7), metric) == few


def test_without_an_error_documents_alone_bound_it():
    labels = torch.arange(40) // 4
    low, high = interval(torch.eye(10)[labels], labels, "valid_fpr@4")
    # Ten successes in ten trials: Clopper and Pearson's 95 % interval is 0.6915 to 1.
    assert (round(low, 4), high) == (0.6915, 1.0)
    assert _interval(0.0, np.zeros(50), 10) == pytest.approx((0.0, 0.3085), abs=1e-4)


def test_where_there_is_no_rate_there_is_no_interval():
    embeddings, labels = clusters()
    assert interval(embeddings, labels, "loss") is None
    assert interval(embeddings, torch.zeros_like(labels), "valid_fpr@4") is None
    assert interval(embeddings, torch.arange(len(labels)), "valid_auc") is None
    embeddings[3, 1] = float("nan")
    assert interval(embeddings, labels, "valid_fpr@4") is None
