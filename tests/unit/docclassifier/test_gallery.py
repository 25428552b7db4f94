import base64

import cv2
import numpy as np
import pytest
import torch

from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.projects.docclassifier.visuals.gallery import FPR, PAIRS, QUERIES, illustrate


class Pictures:
    """Images of one grey each, of classes with names."""

    def __init__(self, labels, side=8):
        self.labels, self.side = labels, side
        self.class_names = [f"class {name}" for name in range(100)]

    def __getitem__(self, index):
        return torch.full((3, self.side, 2 * self.side), index / 255), int(self.labels[index])


def at(*degrees):
    """Embeddings on a circle: the nearer the angles the more alike."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def shown(embeddings, labels, **options):
    labels = torch.tensor(labels)
    return illustrate(embeddings, labels, Pictures(labels, **options), pair_roc(embeddings, labels))


def grey(picture):
    """(Value of a picture's pixels, its height and width)."""
    data = base64.b64decode(picture["image"].removeprefix("data:image/jpeg;base64,"))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return round(float(pixels.mean())), pixels.shape[:2]


def test_neighbours_begin_with_the_document_that_is_hardest_to_tell_apart():
    # Image 2 lies nearer to class 1 than to its own.
    neighbours, _ = shown(at(0, 1, 40, 50, 51, 180, 181), [0, 0, 0, 1, 1, 2, 2])["galleries"]
    first, *rest = neighbours["rows"][0]
    assert grey(first) == (2, (8, 16))
    assert (first["name"], first["text"], first["kind"]) == ("class 0", "", "")
    assert [grey(cell)[0] for cell in rest] == [3, 4, 1, 0, 5, 6]
    assert [cell["kind"] for cell in rest] == ["wrong", "wrong", "right", "right", "wrong", "wrong"]
    assert rest[0]["text"] == f"{(np.cos(np.radians(10)) + 1) / 2:.4f}"
    # The easiest last.
    assert neighbours["rows"][-1][0]["name"] == "class 2"


def test_an_image_is_no_neighbour_of_itself():
    # Those of class 0 lie far apart, those of the others nearer to other documents than class 0 does.
    neighbours, _ = shown(at(0, 60, 100, 101, 120, 121), [0, 0, 1, 1, 2, 2])["galleries"]
    assert neighbours["rows"][0][0]["name"] == "class 0"


def test_each_two_documents_show_their_hardest_pair_once():
    _, pairs = shown(at(0, 10, 30, 31, 100, 101), [0, 0, 1, 1, 2, 2])["galleries"]
    assert [[grey(cell)[0] for cell in row] for row in pairs["rows"]] == [[1, 2], [3, 4], [1, 4]]
    assert [cell["name"] for cell in pairs["rows"][0]] == ["class 0", "class 1"]


def test_false_pairs_above_the_threshold_are_marked(monkeypatch):
    monkeypatch.setattr("otter_ray.projects.docclassifier.visuals.gallery.FPR", 0.1)
    embeddings = at(0, 10, 12, 100, 200, 205)
    labels = [0, 0, 1, 1, 2, 2]
    threshold = pair_roc(embeddings, torch.tensor(labels)).tpr_at(0.1)[1]
    _, pairs = shown(embeddings, labels)["galleries"]
    assert [row[0]["kind"] for row in pairs["rows"]] == ["wrong", "", ""]
    assert float(pairs["rows"][0][0]["text"]) >= threshold > float(pairs["rows"][1][0]["text"])


def test_the_curve_is_the_rocs_and_marks_the_operating_point():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) // 10
    embeddings = torch.randn(20, 8, generator=generator)[labels] + torch.randn(200, 8, generator=generator)
    roc = pair_roc(embeddings, labels)
    [curve] = illustrate(embeddings, labels, Pictures(labels), roc)["curves"]
    for fpr, tpr in [*zip(curve["x"], curve["y"], strict=True)][::40]:
        assert tpr == pytest.approx(roc.tpr_at(fpr * (1 + 1e-3))[0], abs=2e-3)
    assert (curve["mark"]["x"], curve["mark"]["y"]) == (FPR, roc.tpr_at(FPR)[0])
    neighbours, pairs = illustrate(embeddings, labels, Pictures(labels), roc)["galleries"]
    assert (len(neighbours["rows"]), len(pairs["rows"])) == (QUERIES, PAIRS)


def test_large_pictures_become_small():
    neighbours, _ = shown(at(0, 1, 90, 91), [0, 0, 1, 1], side=300)["galleries"]
    assert grey(neighbours["rows"][0][0])[1] == (64, 128)


@pytest.mark.parametrize("labels", [[0, 0], [0, 1]])
def test_without_pairs_of_both_kinds_there_is_nothing(labels):
    assert shown(at(0, 1), labels) == {}
