"""Figures in words: the same on the terminal, in a model's JSON and in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Interval = Sequence[float]
# An interval that is narrower needs more than two digits.
NARROW = 0.02


def with_interval(
    value: float, interval: Interval | None, digits: int = 4, name: str = "95 % interval "
) -> str:
    """`0.8333 (95 % interval 0.71 to 0.91)`; the value alone where no interval is known."""
    if interval is None:
        return f"{value:.{digits}f}"
    places = 2 if interval[1] - interval[0] >= NARROW else 4
    return f"{value:.{digits}f} ({name}{interval[0]:.{places}f} to {interval[1]:.{places}f})"


def gain(
    base: float, winner: float, base_interval: Interval | None, winner_interval: Interval | None, mode: str
) -> str:
    """What may be said of the difference: it counts as one only where the 95 % intervals do not overlap.

    Two intervals of 95 % that just touch are a test at about 0.6 %, not 5 % (Schenker, Gentleman 2001, On
    judging the significance of differences by examining the overlap between confidence intervals, Am. Stat.
    55): a difference that is called one is one, some that are not called so are, too.
    """
    difference = winner - base if mode == "max" else base - winner
    if base_interval is None or winner_interval is None:
        return f"a difference of {difference:.3f}, whose intervals are not known"
    apart = max(base_interval[0], winner_interval[0]) > min(base_interval[1], winner_interval[1])
    if not apart:
        return "the intervals overlap: no significant gain"
    return f"a significant {'gain' if difference > 0 else 'loss'} of {abs(difference):.3f}"


def comparison(facts: Mapping[str, Any], mode: str, best: int) -> str | None:
    """Base beside what was exported, from the JSON beside an ONNX file; None where that holds no base.

    Args:
        best: the trial that leads by now.
    """
    metric, base, gate = facts["metric"], facts.get("base"), facts["gate"]
    if base is None or base["trial"] == facts["trial"]:
        return None
    value, interval = gate["metrics"][metric], gate["interval"]
    who = "winner" if facts["trial"] == best else "exported"
    return (
        f"base config: {metric} {with_interval(base['value'], base['interval'])}; "
        f"{who}: trial {facts['trial']}, {with_interval(value, interval, name='')}: "
        f"{gain(base['value'], value, base['interval'], interval, mode)}"
    )


def announcement(test: Mapping[str, Any], metric: str) -> str:
    """What the test split gave: the figure to announce."""
    classes = f" of {test['classes']} classes" if test["classes"] else ""
    whose = "that the search never saw" if test["kept_out"] else "that training may have seen"
    figure = with_interval(test["metrics"][metric], test["interval"])
    text = f"test: {metric} {figure} on {test['images']} images{classes} {whose}"
    earlier = test["earlier"]
    if not earlier:
        return text
    return f"{text}; evaluated before on {earlier[-1]}: this is look {len(earlier) + 1}"


def sentence(text: str) -> str:
    """It, with a capital at its beginning."""
    return text[:1].upper() + text[1:]
