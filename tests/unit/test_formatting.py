"""What is said of a figure, its interval, and the difference of two."""

import math
import time

import pytest

from otter_ray.direction import Direction
from otter_ray.formatting import (
    announcement,
    comparison,
    duration,
    gain,
    gain_lines,
    printable,
    selection_lines,
    sparkline,
    sparkline_ends,
    with_interval,
    without_middle,
)

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
        ((0.1, 0.3), (0.31, 0.5), Direction.MAX, "a significant gain of 0.200"),
        ((0.1, 0.3), (0.3, 0.5), Direction.MAX, "the intervals overlap: no significant gain"),
        # Neither holds the other's end, but one lies in the other.
        ((0.1, 0.9), (0.3, 0.5), Direction.MAX, "the intervals overlap: no significant gain"),
        ((0.1, 0.3), (0.31, 0.5), Direction.MIN, "a significant loss of 0.200"),
        (None, (0.31, 0.5), Direction.MAX, "a difference of 0.200, whose intervals are not known"),
    ],
)
def test_a_difference_is_one_where_the_intervals_are_apart(base, winner, mode, text):
    assert gain(0.2, 0.4, base, winner, mode) == text


def test_base_beside_winner():
    line = (
        "base config: valid_fpr@4 0.2760 (95 % interval 0.18 to 0.39); {}: trial 7, 0.8920 (0.80 to 0.95): "
    )
    line += "a significant gain of 0.616"
    assert comparison(FACTS, Direction.MAX, best=7) == line.format("winner")
    # The study has gone on since.
    assert comparison(FACTS, Direction.MAX, best=9) == line.format("exported")
    assert comparison({**FACTS, "base": None}, Direction.MAX, best=7) is None


GAIN = {"value": 0.264, "interval": [0.11, 0.41]}


def test_a_gain_on_the_same_items_needs_no_intervals_that_are_apart():
    base = {**FACTS["base"], "gain": GAIN, "test": None, "test_gain": None, "unpaired": ""}
    facts = {**FACTS, "base": base}
    assert comparison(facts, Direction.MAX, best=7).endswith("winner: trial 7, 0.8920 (0.80 to 0.95)")
    told = "+0.264 (95 % interval +0.11 to +0.41), significant"
    assert gain_lines(facts) == [f"gain on validation, by which the winner was selected: {told}"]
    test = {"value": 0.2, "interval": [0.1, 0.3]}
    facts["base"] = {**base, "test": test, "test_gain": {"value": -0.01, "interval": [-0.03, 0.012]}}
    assert gain_lines(facts)[1:] == [
        "base config on the test split: valid_fpr@4 0.2000 (0.10 to 0.30)",
        "gain on the test split: -0.010 (95 % interval -0.03 to +0.01), not significant",
    ]
    assert selection_lines({"selection": {"models": 5, "optimism": 0.0312}}) == [
        "the winner is the best of 5 kept models on validation: its figure there is expected to be at least "
        "0.031 too good for that alone"
    ]
    assert selection_lines({"selection": None}) == selection_lines(FACTS) == []
    facts["base"] = {**base, "gain": None, "unpaired": "the labels of base and winner differ"}
    assert gain_lines(facts) == ["no gain can be given: the labels of base and winner differ"]
    # As an earlier version wrote it.
    assert gain_lines(FACTS) == gain_lines({**FACTS, "base": None}) == []


def test_a_project_without_classes_is_tested_on_images():
    test = {"metrics": {"iou": 0.9}, "interval": None, "images": 30, "classes": None, "kept_out": True}
    assert (
        announcement({**test, "earlier": []}, "iou")
        == "test: iou 0.9000 on 30 images that the search never saw"
    )


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_name_without_room_loses_its_middle():
    assert without_middle("demo/20261125-015429", 12) == "demo/2…15429"
    assert without_middle("demo/20261125-015429", 20) == "demo/20261125-015429"
    assert [len(without_middle("abcdefgh", width)) for width in (3, 4, 5)] == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a \x1b[31mred\x1b[0m error", "a red error"),
        ("\x1b]0;a title\x07then \x1b]8;;http://a\x1b\\a link\x1b]8;;\x1b\\", "then a link"),
        ("\x1b[2J\x1b[1;1Hgone\x1bc", "gone"),
        ("\x9b31mC1\x9c", "31mC1"),
        ("50%\r100%\b\x00\x7f", "50%100%"),
        ("read \u202edrawkcab\u2066", "read drawkcab"),
        ("two\tcolumns\nÜbung 專案 👩\u200d🔬", "two\tcolumns\nÜbung 專案 👩\u200d🔬"),
        ("\x1b]" * 3 + "unfinished", "unfinished"),
    ],
)
def test_a_terminal_takes_nothing_of_a_text_for_a_command(text, left):
    assert printable(text) == left


@pytest.mark.parametrize("part", ["\x1b", "\x1b]", "\x1b[", "\x1b[1", "\x1bP", "a"])
def test_a_megabyte_is_printable_at_once(part):
    began = time.perf_counter()
    printable(part * (10**6 // len(part)))
    assert time.perf_counter() - began < 2


def test_curves_of_any_scale_have_a_shape():
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline_ends([[0.2], [0.9, math.nan]]) == (0.0, 1.0)
    error = [9.0, 4.0, 1.0]  # in pixels: lower is better
    assert sparkline(error) == "███"
    assert sparkline(error, sparkline_ends([error])) == "█▄▁"
    small = [0.008, 0.001]
    assert sparkline(small, sparkline_ends([small], is_error=True)) == "█▂"
    assert sparkline([-2.0, 1.0], sparkline_ends([[-2.0, 1.0]])) == "▁█"
    assert sparkline([0.0], sparkline_ends([[0.0]], is_error=True)) == "▁"
