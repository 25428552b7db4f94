import pytest
import torch

from otter_ray.export import evaluation
from otter_ray.export.evaluation import packed, unpacked
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


@pytest.mark.parametrize("labels", [FIRST, {"class": FIRST, "text": ["a", "b"]}, (FIRST, [1, 2])])
def test_predictions_are_packed_with_labels_of_any_shape(labels):
    outputs, kept = unpacked(packed((torch.ones(2, 3), labels)))
    assert torch.equal(outputs, torch.ones(2, 3))
    assert type(kept) is type(labels)
    assert str(kept) == str(labels)


def test_predictions_that_cannot_be_kept_are_not_packed(monkeypatch):
    class Box:
        def __reduce__(self):
            raise RuntimeError("a file of another process")

    class Boxes(torch.Tensor):
        pass

    for odd in (Box(), [Box()], {"box": Box()}, FIRST.as_subclass(Boxes)):
        assert packed((torch.ones(2, 3), odd)) == b""
    assert unpacked(b"") is None
    monkeypatch.setattr(evaluation, "MAX_PACKED", 40)
    assert packed((torch.ones(2, 3), FIRST))  # 24 bytes and 16
    monkeypatch.setattr(torch, "save", None)  # it would take as much memory again
    assert packed((torch.ones(2, 4), FIRST)) == b""
