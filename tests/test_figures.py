"""What is said of a figure, its interval, and the difference of two."""

import pytest

from otter_ray.figures import announcement, comparison, gain, with_interval

FACTS = {
    "metric": "valid_fpr@4",
    "trial": 7,
    "base": {"trial": 0, "value": 0.276, "interval": [0.18, 0.39]},
    "gate": {"metrics": {"valid_fpr@4": 0.892}, "interval": [0.8, 0.95]},
}


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0.7142, 0.9111), "0.8333 (95 % interval 0.71 to 0.91)"),
        ((0.8301, 0.8399), "0.8333 (95 % interval 0.8301 to 0.8399)"),
        (None, "0.8333"),
    ],
)
def test_digits_follow_the_interval(interval, text):
    assert with_interval(0.83333, interval) == text


@pytest.mark.parametrize(
    ("base", "winner", "mode", "text"),
    [
        ((0.1, 0.3), (0.31, 0.5), "max", "a significant gain of 0.200"),
        ((0.1, 0.3), (0.3, 0.5), "max", "the intervals overlap: no significant gain"),
        # Neither holds the other's end, but one lies in the other.
        ((0.1, 0.9), (0.3, 0.5), "max", "the intervals overlap: no significant gain"),
        ((0.1, 0.3), (0.31, 0.5), "min", "a significant loss of 0.200"),
        (None, (0.31, 0.5), "max", "a difference of 0.200, whose intervals are not known"),
    ],
)
def test_a_difference_is_one_where_the_intervals_are_apart(base, winner, mode, text):
    assert gain(0.2, 0.4, base, winner, mode) == text


def test_base_beside_winner():
    line = (
        "base config: valid_fpr@4 0.2760 (95 % interval 0.18 to 0.39); {}: trial 7, 0.8920 (0.80 to 0.95): "
    )
    line += "a significant gain of 0.616"
    assert comparison(FACTS, "max", best=7) == line.format("winner")
    # The study has gone on since.
    assert comparison(FACTS, "max", best=9) == line.format("exported")
    assert comparison({**FACTS, "base": None}, "max", best=7) is None


def test_a_project_without_classes_is_tested_on_images():
    test = {"metrics": {"iou": 0.9}, "interval": None, "images": 30, "classes": None, "kept_out": True}
    assert (
        announcement({**test, "earlier": []}, "iou")
        == "test: iou 0.9000 on 30 images that the search never saw"
    )
