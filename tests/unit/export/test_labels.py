import pytest
import torch

from otter_ray.export.gate import join_labels

FIRST, SECOND = torch.tensor([1, 2]), torch.tensor([3])


@pytest.mark.parametrize(
    ("wrapped", "key"),
    [
        (lambda labels: (labels, 2 * labels), 0),
        (lambda labels: [labels, labels], 0),
        (lambda labels: {"class": labels, "box": labels.float()}, "class"),
        (lambda labels: {"class": (labels, labels)}, None),
    ],
)
def test_labels_of_any_shape_are_joined_as_they_are(wrapped, key):
    joined = join_labels([wrapped(FIRST), wrapped(SECOND)])
    part = joined["class"][1] if key is None else joined[key]
    assert part.tolist() == [1, 2, 3]


def test_plain_labels_and_texts():
    assert join_labels([FIRST, SECOND]).tolist() == [1, 2, 3]
    assert join_labels([["a", "b"], ["c"]]) == ["a", "b", "c"]
