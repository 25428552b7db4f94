import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from otter_ray.projects.docclassifier.metrics import pair_roc as metric
from otter_ray.projects.docclassifier.metrics.pair_roc import TABLE_FPRS, pair_roc, validation_metrics

FPRS = (*TABLE_FPRS, 0.0, 0.03, 0.3)


def pairs(embeddings, labels):
    """(is positive, score) of every pair, straight from the metric's definition."""
    unit = torch.nn.functional.normalize(embeddings.float())
    first, second = np.triu_indices(len(labels), 1)
    similarity = (unit @ unit.T).numpy()[first, second]
    scores = (similarity + np.float32(1)) / np.float32(2)
    scores = np.clip(np.round(scores.astype(np.float64) * 2**24) / 2**24, 0, 1)
    return (labels[first] == labels[second]).numpy(), scores


@st.composite
def cases(draw):
    """Embeddings and labels with ties, duplicates, collapsed sets and few classes."""
    count, dim, classes = draw(st.integers(3, 40)), draw(st.integers(1, 5)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["random", "grid", "duplicates", "collapsed", "clusters"]))
    labels = rng.integers(0, classes, count)
    embeddings = {
        "random": lambda: rng.normal(size=(count, dim)),
        "grid": lambda: rng.integers(-1, 2, (count, dim)),
        "duplicates": lambda: rng.normal(size=(3, dim))[rng.integers(0, 3, count)],
        "collapsed": lambda: np.ones((count, dim)) + 1e-5 * rng.normal(size=(count, dim)),
        "clusters": lambda: rng.normal(size=(classes, dim))[labels] + 0.3 * rng.normal(size=(count, dim)),
    }[kind]()
    return torch.tensor(embeddings, dtype=torch.float32), torch.tensor(labels)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equals_scikit_learn(case):
    positive, scores = pairs(*case)
    assume(positive.any() and not positive.all())
    roc = pair_roc(*case)
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    for limit in FPRS:
        rate, threshold = roc.tpr_at(limit)
        assert rate == tpr[fpr <= limit].max()
        assert np.mean(scores[~positive] >= threshold) <= limit
        assert np.mean(scores[positive] >= threshold) == rate
    assert roc.auc() == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert (roc.num_positives, roc.num_negatives) == (positive.sum(), (~positive).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
def test_blocks_equal_one_block(seed, rows):
    rng = np.random.default_rng(seed)
    # Sixteen signs: a unit vector's entries are quarters, so the product is exact in any order.
    embeddings = torch.tensor(rng.choice([-1.0, 1.0], (60, 16)))
    labels = torch.tensor(rng.integers(0, 7, 60))
    whole = pair_roc(embeddings, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric, "BLOCK_PAIRS", rows * 60)
        parts = pair_roc(embeddings, labels)
    for name in ("scores", "positives", "negatives"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_equals_the_seeds_loop_over_pairs():
    torch.manual_seed(1)
    labels = torch.arange(60) % 6
    embeddings = torch.nn.functional.normalize(torch.randn(6, 8)[labels] + 0.6 * torch.randn(60, 8))
    couples = list(combinations(range(60), 2))
    scores = [float((embeddings[i] @ embeddings[j] + 1) / 2) for i, j in couples]
    same = [bool(labels[i] == labels[j]) for i, j in couples]
    fpr, tpr, _ = roc_curve(same, scores)
    rate = pair_roc(embeddings, labels).tpr_at(1e-4)[0]
    assert 0.05 < rate < 0.95
    assert rate == pytest.approx(tpr[fpr <= 1e-4].max(), abs=1e-9)


def test_the_length_of_an_embedding_does_not_matter():
    torch.manual_seed(2)
    embeddings, labels = torch.randn(40, 4), torch.arange(40) % 5
    stretched = embeddings * 2.0 ** torch.arange(40)[:, None].remainder(5)
    assert pair_roc(stretched, labels).table() == pair_roc(embeddings, labels).table()


def test_a_perfect_and_a_collapsed_model():
    labels = torch.arange(20) // 5
    perfect = pair_roc(torch.eye(4)[labels], labels)
    assert (perfect.tpr_at(0.0), perfect.auc()) == ((1.0, 1.0), 1.0)
    collapsed = pair_roc(torch.ones(20, 4), labels)
    assert (collapsed.tpr_at(1e-4), collapsed.auc()) == ((0.0, float("inf")), 0.5)


@pytest.mark.parametrize(
    "labels", [torch.zeros(4, dtype=torch.long), torch.arange(4), torch.zeros(1, dtype=torch.long)]
)
def test_without_both_kinds_of_pairs_there_is_no_rate(labels):
    roc = pair_roc(torch.randn(len(labels), 3), labels)
    assert np.isnan([*roc.tpr_at(1e-4), roc.auc()]).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_gives_nan(bad):
    embeddings = torch.randn(200, 4)
    embeddings[7, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        pair_roc(embeddings, torch.arange(200) % 2)
    metrics, roc = validation_metrics(embeddings, torch.arange(200) % 2)
    assert set(metrics) == {"valid_fpr@4", "valid_pauc@2", "valid_auc"}
    assert np.isnan(list(metrics.values())).all()
    assert roc is None


def test_few_negative_pairs_are_told():
    embeddings, labels = torch.randn(60, 8), torch.arange(60) % 2
    with pytest.warns(UserWarning, match=r"with only 900 negative pairs"):
        metrics, roc = validation_metrics(embeddings, labels)
    expected = {"valid_fpr@4": roc.tpr_at(1e-4)[0], "valid_pauc@2": roc.partial_auc(), "valid_auc": roc.auc()}
    assert metrics == expected


@pytest.mark.parametrize("limit", [0.01, 0.2, 1.0])
def test_the_partial_area_is_scikit_learns(limit):
    """Which corrects it for chance (McClish 1989): undone here."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) // 8
    embeddings = torch.randn(50, 16, generator=generator)[labels] + torch.randn(400, 16, generator=generator)
    roc = pair_roc(embeddings, labels)
    same = np.repeat([1, 0], [roc.num_positives, roc.num_negatives])
    scores = np.concatenate([np.repeat(roc.scores, roc.positives), np.repeat(roc.scores, roc.negatives)])
    corrected, chance = roc_auc_score(same, scores, max_fpr=limit), limit**2 / 2
    area = (2 * corrected - 1) * (limit - chance) + chance
    assert 0.1 < area / limit < 1
    assert roc.partial_auc(limit) == pytest.approx(area / limit, abs=1e-4)


def test_enough_negative_pairs_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validation_metrics(torch.randn(200, 8), torch.arange(200) % 2)
