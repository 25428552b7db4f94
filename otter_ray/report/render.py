"""`report.html`: a study on one page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from otter_ray.figures import announcement, sentence, with_interval
from otter_ray.report.html import Bar, Page, write_page
from otter_ray.report.rows import base_of
from otter_ray.report.sections import sections_of
from otter_ray.report.story import Story
from otter_ray.report.tables import duration, outcome_lines

REPORT = "report.html"


def write_report(story: Story, path: Path) -> None:
    """Draws a study, running or done, into a file. Raises OSError."""
    page = Page(
        title=story.name,
        subtitle=_subtitle(story),
        lines=[*_lines(story)],
        bars=bars(story),
        sections=[*sections_of(story)],
        footer=_footer(story.folder),
    )
    write_page(page, path)


def _lines(story: Story) -> Iterator[str]:
    counts, *outcome = outcome_lines(
        story.rows, story.metric, story.mode, story.exported, has_finals=bool(story.finalists)
    )
    if story.winner is None:
        outcome = ["No trial has a value yet."]
    yield from (f"{sentence(line)}." for line in outcome)
    if story.model is None:
        yield "No model has been exported yet."
    else:
        onnx, facts = story.model
        if test := facts["gate"].get("test"):
            yield f"{sentence(announcement(test, story.metric))}."
        yield f"Model: {onnx}"
    yield f"Trials: {counts}."


def bars(story: Story) -> list[Bar]:
    """Base and winner with their intervals, from the exported model's JSON; else as they were logged."""
    base, found = base_of(story.rows), []
    if (facts := story.exported) and facts["metric"] == story.metric:
        measured, gate = facts["base"], facts["gate"]
        if measured and measured["trial"] != facts["trial"]:
            found.append(("base config", "base", measured["value"], measured["interval"]))
        elif base and base.number != facts["trial"]:
            found.append(("base config", "base", base.value, None))
        found.append((f"trial {facts['trial']}", "winner", gate["metrics"][story.metric], gate["interval"]))
        if test := gate.get("test"):
            found.append(
                (f"trial {facts['trial']}, test", "test", test["metrics"][story.metric], test["interval"])
            )
    else:
        if base:
            found.append(("base config", "base", base.value, None))
        if story.winner and story.winner is not base:
            found.append((f"trial {story.winner.number}", "winner", story.winner.value, None))
    ends = [end for *_, value, interval in found for end in interval or (value, value)]
    low, high = min([0.0, *ends]), max(ends, default=1.0)
    high = 1.0 if low >= 0 and high <= 1 else high
    return [_bar(*each, low, high) for each in found]


def _bar(
    name: str, kind: str, value: float, interval: Sequence[float] | None, low: float, high: float
) -> Bar:
    percents = [100 * (end - low) / ((high - low) or 1) for end in (value, *(interval or (value, value)))]
    return Bar(name, with_interval(value, interval, name=""), kind, *(round(end, 2) for end in percents))


def _subtitle(story: Story) -> str:
    rows, direction = story.rows, {"max": "higher", "min": "lower"}[story.mode]
    epochs = sum(row.epochs for row in rows)
    hosts = Counter(row.host for row in rows if row.host)
    spent = sum(row.seconds or 0 for row in rows)
    starts = [trial.datetime_start for trial in story.trials if trial.datetime_start]
    begun = f" · begun {min(starts):%Y-%m-%d %H:%M}" if starts else ""
    machines = f" on {len(hosts)} machines" if len(hosts) > 1 else ""
    return (
        f"{story.metric}, {direction} is better · {len(rows)} trials · {epochs} epochs{machines} · "
        f"{duration(spent)} of training{begun}"
    )


def _footer(folder: Path) -> Mapping[str, str]:
    file = folder / "environment.json"
    facts: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    system, gpus = facts.get("system", {}), Counter(gpu["name"] for gpu in facts.get("gpus", []))
    machine = [system.get("host"), system.get("processor"), *(f"{n} x {name}" for name, n in gpus.items())]
    told = {
        "Folder": str(folder.absolute()),
        "Command": " ".join(facts.get("command", [])),
        "Code": facts.get("git_revision"),
        "Machine": ", ".join(filter(None, machine)),
    }
    return {name: text for name, text in told.items() if text}
