import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.projects.docclassifier.visuals import previews
from otter_ray.projects.docclassifier.visuals.previews import (
    batch_picture,
    pca_picture,
    roc_picture,
    tpr_fpr_table,
)

BLUE = (0x00, 0x72, 0xB2)


def embedded(documents, each, noise=1.0, dims=16):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(documents).repeat_interleave(each)
    centres = torch.randn(documents, dims, generator=generator)
    return centres[labels] + noise * torch.randn(len(labels), dims, generator=generator), labels


def curve_rows(picture):
    """For each column with the curve in it, the row of its lowest pixel."""
    rows, columns = np.nonzero((picture == BLUE).all(axis=2))
    return np.array([rows[columns == column].max() for column in np.unique(columns)])


def right_edge(picture):
    """The column of the plot's right border: the last one that is dark nearly all the way down."""
    return np.flatnonzero(((picture < 60).all(axis=2)).mean(axis=0) > 0.8).max()


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_the_curve_is_the_metric(noise):
    roc = pair_roc(*embedded(12, 10, noise))
    own = np.cumsum(roc.negatives) / roc.num_negatives
    fprs = [*np.geomspace(1e-6, 1, 61), *own[:: len(own) // 50]]
    assert roc.tprs_at(fprs).tolist() == [roc.tpr_at(fpr)[0] for fpr in fprs]


def test_a_better_model_has_a_higher_curve():
    perfect = roc_picture(pair_roc(*embedded(12, 10, noise=0.0)))
    chance = roc_picture(pair_roc(embedded(12, 10)[0], torch.arange(120) % 12))
    assert perfect.shape == chance.shape == (700, 900, 3)
    assert perfect.dtype == np.uint8
    assert np.median(curve_rows(perfect)) < 60
    assert np.median(curve_rows(chance)) > 600


def test_the_table():
    # 4 documents on 4 axes, 2 images each; the last document's second image looks like the first's.
    features = torch.eye(4)[[0, 0, 1, 1, 2, 2, 3, 0]]
    assert tpr_fpr_table(pair_roc(features, torch.arange(8) // 2)).splitlines() == [
        "    FPR      TPR   threshold",
        "  1e-05   0.0000         inf",
        "  1e-04   0.0000         inf",
        "  1e-03   0.0000         inf",
        "  1e-02   0.0000         inf",
        "  1e-01   0.7500    1.000000",
        "  1e+00   1.0000    0.500000",
        "",
        "4 positive and 24 negative pairs",
    ]


def test_the_components_are_the_principal_ones():
    embeddings, _ = embedded(5, 20)
    unit = torch.nn.functional.normalize(embeddings)
    known = PCA(n_components=2)
    expected = known.fit_transform(unit.numpy())
    points, shares = previews._principal(embeddings)
    signs = np.sign((points * expected).sum(axis=0))
    np.testing.assert_allclose(points * signs, expected, atol=1e-5)
    np.testing.assert_allclose(shares, known.explained_variance_ratio_, atol=1e-5)


def test_embeddings_that_all_are_one_point():
    assert previews._principal(torch.ones(6, 4))[1] == [0.0, 0.0]
    assert pca_picture(torch.ones(6, 4), torch.arange(6) // 2).shape == (700, 900, 3)


def test_at_most_5000_points_evenly():
    embeddings, labels = embedded(100, 100, dims=4)
    every_other = torch.linspace(0, 9999, 5000).round().long()
    few = pca_picture(embeddings[every_other], labels[every_other])
    assert (pca_picture(embeddings, labels) == few).all()


def test_a_legend_only_while_it_can_be_read():
    assert right_edge(pca_picture(*embedded(24, 4))) < 850
    assert right_edge(pca_picture(*embedded(25, 4))) > 850


@pytest.mark.parametrize("name", ["_hidden", "$5^$", "駕照", "a" * 300])
def test_every_file_name_can_stand_in_the_legend(name):
    embeddings, labels = embedded(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = pca_picture(embeddings, labels, [name, "b", "c"])
    assert 600 < right_edge(picture) < 850


@pytest.mark.parametrize(
    ("name", "text"),
    [("_x", "3 _x"), ("$x", r"3 \$x"), ("駕照", "3"), ("ab" * 15, "3 ..." + "b" + "ab" * 9), (None, "3")],
)
def test_a_line_of_the_legend(name, text):
    # matplotlib leaves out lines that begin with an underscore: the label stands before the name.
    assert previews._legend(3, name and ["", "", "", name]) == text


def test_labels_choose_the_names():
    embeddings, _ = embedded(2, 4)
    labels = torch.tensor([2, 2, 2, 2, 7, 7, 7, 7])
    names = [f"document {number}" for number in range(8)]
    picture = pca_picture(embeddings, labels, names)
    assert (picture == pca_picture(embeddings, labels, [*names[:7], "document 7"])).all()
    assert (picture != pca_picture(embeddings, labels, [*names[:7], "another"])).any()
    assert (picture == pca_picture(embeddings, labels, ["unused", *names[1:]])).all()


def test_pictures_draw_no_random_numbers():
    embeddings, labels = embedded(4, 5)
    before = torch.get_rng_state(), np.random.get_state()[2], np.random.get_state()[1].tolist()
    pca_picture(embeddings, labels)
    roc_picture(pair_roc(embeddings, labels))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[2], np.random.get_state()[1].tolist())


def test_a_batch_is_shown_as_it_is():
    images = torch.rand(3, 3, 100, 120)
    sheet = batch_picture(images, torch.tensor([5, 17, 99999]))
    second = sheet[4:104, 128:248]
    assert (second == (images[1] * 255).round().byte().permute(1, 2, 0).numpy()).all()
    labels = [sheet[104:120, left : left + 120] for left in (4, 128, 252)]
    assert [int((label > 200).sum()) > 0 for label in labels] == [True] * 3
    assert (labels[0] != labels[1]).any()


def test_at_most_64_images_a_sheet():
    assert batch_picture(torch.rand(70, 3, 96, 96), torch.arange(70)).shape == (8 * 116 + 4, 8 * 100 + 4, 3)


def test_tiny_images_are_enlarged():
    sheet = batch_picture(torch.ones(1, 3, 32, 32), torch.tensor([3]))
    assert (sheet[4:100, 4:100] == 255).all()


@pytest.mark.parametrize("value", [-3.0, 7.0, float("nan"), float("inf")])
def test_strange_pixels_are_still_a_picture(value):
    assert batch_picture(torch.full((2, 3, 8, 8), value).bfloat16(), torch.arange(2)).dtype == np.uint8
