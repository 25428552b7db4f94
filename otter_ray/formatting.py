"""Numbers and values as text: the same on the terminal, in a model's JSON and in a report."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otter_ray.direction import Direction

Interval = Sequence[float]
# An interval that is narrower needs more than two digits.
NARROW = 0.02
MIB, GIB = 2**20, 2**30
BARS = "▁▂▃▄▅▆▇█"
# What terminals take for a command: CSI, OSC and other strings, then any other escape sequence.
_ESCAPE_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*+[ -/]*+[@-~]|\][^\x07\x1b]*+(?:\x07|\x1b\\)|[PX^_][^\x1b]*+\x1b\\|[ -/]*+[0-~])"
)
# Characters that move the cursor, switch terminals' modes, or reverse the order of what is read.
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_WITHOUT_CONTROLS = dict.fromkeys({*_CONTROLS} - {*map(ord, "\n\t")})


def with_interval(
    value: float, interval: Interval | None, digits: int = 4, name: str = "95 % interval "
) -> str:
    """Format a value: `0.8333 (95 % interval 0.71 to 0.91)`, or the value alone without an interval."""
    if interval is None:
        return f"{value:.{digits}f}"
    places = 2 if interval[1] - interval[0] >= NARROW else 4
    return f"{value:.{digits}f} ({name}{interval[0]:.{places}f} to {interval[1]:.{places}f})"


def gain(
    base: float,
    winner: float,
    base_interval: Interval | None,
    winner_interval: Interval | None,
    direction: Direction,
) -> str:
    """Say how the winner differs from the base: significantly only if the 95 % intervals do not overlap.

    Two intervals of 95 % that just touch are a test at about 0.6 %, not 5 % (Schenker, Gentleman 2001, On
    judging the significance of differences by examining the overlap between confidence intervals, Am. Stat.
    55). The rule therefore misses some significant differences, and claims none that is not significant.
    """
    difference = direction.sign * (winner - base)
    if base_interval is None or winner_interval is None:
        return f"a difference of {difference:.3f}, whose intervals are not known"
    apart = max(base_interval[0], winner_interval[0]) > min(base_interval[1], winner_interval[1])
    if not apart:
        return "the intervals overlap: no significant gain"
    return f"a significant {'gain' if difference > 0 else 'loss'} of {abs(difference):.3f}"


def paired_gain(gain: Mapping[str, Any]) -> str:
    """Write what one model gains over another on the same items: `+0.26 (95 % interval +0.11 to +0.41)`.

    Args:
        gain: its `value`, positive if it is one, and its `interval`, or None if that is not known.
    """
    value, interval = gain["value"], gain["interval"]
    if interval is None:
        return f"{value:+.3f} (its interval is not known)"
    places = 2 if interval[1] - interval[0] >= NARROW else 4
    figure = f"{value:+.3f} (95 % interval {interval[0]:+.{places}f} to {interval[1]:+.{places}f})"
    if interval[0] <= 0 <= interval[1]:
        return f"{figure}, not significant"
    return f"{figure}, significant"


def gain_lines(facts: Mapping[str, Any]) -> list[str]:
    """Say what the exported model gains over the base config, from its JSON; empty if that does not say.

    Args:
        facts: the content of the JSON file next to the ONNX file.
    """
    base, lines = facts.get("base") or {}, []
    if base.get("gain"):
        lines.append(f"gain on validation, by which the winner was selected: {paired_gain(base['gain'])}")
    if base.get("test"):
        test = with_interval(base["test"]["value"], base["test"]["interval"], name="")
        lines.append(f"base config on the test split: {facts['metric']} {test}")
    if base.get("test_gain"):
        lines.append(f"gain on the test split: {paired_gain(base['test_gain'])}")
    if base.get("unpaired"):
        lines.append(f"no gain can be given: {base['unpaired']}")
    return lines


def selection_lines(facts: Mapping[str, Any]) -> list[str]:
    """Say how much too good the selection makes the winner's figure, from its JSON; empty if unknown.

    Args:
        facts: the content of the JSON file next to the ONNX file.
    """
    if not (selection := facts.get("selection")):
        return []
    return [
        f"the winner is the best of {selection['models']} kept models on validation: its figure there is "
        f"expected to be at least {max(selection['optimism'], 0.0):.3f} too good for that alone"
    ]


def comparison(facts: Mapping[str, Any], direction: Direction, best: int) -> str | None:
    """Compare the base config with the exported model, from its JSON; None if that holds no base.

    Args:
        facts: the content of the JSON file next to the ONNX file.
        direction: which values are better.
        best: the trial that leads now.
    """
    metric, base, gate = facts["metric"], facts.get("base"), facts["gate"]
    if base is None or base["trial"] == facts["trial"]:
        return None
    value, interval = gate["metrics"][metric], gate["interval"]
    outcome = ""
    if "gain" not in base:  # an earlier version did not measure both on the same items
        outcome = f": {gain(base['value'], value, base['interval'], interval, direction)}"
    who = "winner" if facts["trial"] == best else "exported"
    return (
        f"base config: {metric} {with_interval(base['value'], base['interval'])}; "
        f"{who}: trial {facts['trial']}, {with_interval(value, interval, name='')}{outcome}"
    )


LOWER_PRECISIONS = ("fp16", "int8")  # of files that are made next to an fp32 file
PRECISION_COLUMNS = ("precision", "size", "latency", "metric", "loss", "test", "file")


def precision_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one of an exported model's files, in the order of `PRECISION_COLUMNS`.

    Args:
        row: of the JSON's `precisions`.
    """
    if row["value"] is None:
        return (row["precision"], "-", "-", "-", "-", "-", row["reason"])
    loss = row["loss"]
    figures = (
        f"{row['bytes'] / 1e6:.3f} MB",
        f"{row['latency_ms']:.3f} ms",
        with_interval(row["value"], row["interval"], name=""),
        "-" if loss is None else with_interval(loss["value"], loss["interval"], name=""),
        fixed(row["test"]),
    )
    left = f" ({len(row['left_out'])} layers in float32)" if row["left_out"] else ""
    advice = f" ({row['advice']})" if row["advice"] else ""
    what = f"not handed out: {row['reason']}" if row["reason"] else f"{row['file']}{left}{advice}"
    return (row["precision"], *figures, what)


def announcement(test: Mapping[str, Any], metric: str) -> str:
    """Report the result on the test split."""
    classes = f" of {test['classes']} classes" if test["classes"] else ""
    whose = "that the search never saw" if test["kept_out"] else "that training may have seen"
    figure = with_interval(test["metrics"][metric], test["interval"])
    text = f"test: {metric} {figure} on {test['images']} {test.get('unit', 'images')}{classes} {whose}"
    if unmeasured := test.get("unmeasured"):
        text += f", {unmeasured}"
    earlier = test["earlier"]
    if not earlier:
        return text
    return f"{text}; evaluated before on {earlier[-1]}: this is look {len(earlier) + 1}"


def printable(text: str) -> str:
    """Return the text without escape sequences and control characters, but with tabs and line ends."""
    return _ESCAPE_SEQUENCE.sub("", text).translate(_WITHOUT_CONTROLS)


def sentence(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def clock(seconds: float) -> str:
    """Format a time as minutes and seconds: `  0:07`, ` 12:34`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"


def duration(seconds: float) -> str:
    """Format a time in words: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def si_number(number: float) -> str:
    """Format a number with four digits: `3.673M`, `0.1413`."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:.4g}{letter}"
    return f"{number:.4g}"


def fixed(value: float | None, digits: int = 4) -> str:
    """Format a number with that many decimals; `-` for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def sparkline(curve: Sequence[float], ends: tuple[float, float] = (0.0, 1.0)) -> str:
    """Draw a curve as a row of bars, the lowest at or below the first end, the highest at the second."""
    low, high = ends
    shares = ((value - low) / ((high - low) or 1.0) for value in curve if math.isfinite(value))
    return "".join(BARS[min(int(max(share, 0.0) * len(BARS)), len(BARS) - 1)] for share in shares)


def sparkline_ends(curves: Iterable[Sequence[float]], is_error: bool = False) -> tuple[float, float]:
    """Return the ends between which sparklines can be compared: 0 and 1, if all values are there.

    Args:
        curves: Their values.
        is_error: Whether lower is better: then the highest value is the end, however small it is.
    """
    values = [value for curve in curves for value in curve if math.isfinite(value)]
    return min([0.0, *values]), max([0.0 if is_error else 1.0, *values])


def value_text(value: Any) -> str:
    """Format a config's value: `0.01389`, or `lr 0.01 to 4` for a value that changed within a run."""
    if isinstance(value, list) and all(isinstance(phase, dict) for phase in value):
        return ", ".join(
            f"{key.rpartition('.')[2]} {value_text(earlier)} to {phase['epochs']}"
            for phase in value
            for key, earlier in phase["values"].items()
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def without_middle(text: str, width: int) -> str:
    """Return a text in at most so many characters: `a_long_n…_of_mine`."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"


def file_name(name: str) -> str:
    """Return a file's name as text: bytes of it that are not UTF-8 become `\\xe9`, and differ as before."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def short_repr(value: Any) -> str:
    """Return a value's `repr` for a message, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
